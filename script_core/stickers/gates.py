"""Accuracy of the plain modules on held-out scenes, between training stages."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
from torch import Tensor

from script_core.stickers.batches import Recipe, ask_all, picture, symbolic_facts, visual_batch
from script_core.stickers.catalogue import NAMES, indefinite
from script_core.stickers.kit import EXISTENCE_MIX, Kit, moved
from script_core.stickers.losses import symbols
from script_core.stickers.packing import pack, positions_and_mask
from script_core.stickers.scenes import make_scene

HELD_OUT_SEED = 500_000


def auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve, by ranks (ties by average rank); nan if one side is empty."""
    n, p = int((~positive).sum()), int(positive.sum())
    if not n or not p:
        return float("nan")
    values, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - (counts - 1) / 2
    return float((rank[inverse][positive].sum() - p * (p + 1) / 2) / (n * p))


@torch.no_grad()
def exact(kit: Kit, visual: Tensor, places: Tensor, scenes: list, asked: list, tally: dict[str, list[bool]]) -> None:
    """Add each question's exact match (every answer token the most likely one) to `tally` by kind."""
    packed = pack(scenes, asked, kit.vocabulary)
    positions, mask = positions_and_mask(packed, places, kit.dtype)
    gpu = moved(packed, kit.device)
    states, _ = kit.model.language(visual.to(kit.dtype), gpu.ids, positions.to(kit.device), mask.to(kit.device))
    at = gpu.at
    right = (kit.model.language.logits(states[-1][at[:, 0], at[:, 1]]).argmax(-1) == gpu.label).cpu().numpy()
    owner = packed.owner.numpy()
    for q, (kind, answer) in enumerate(zip(packed.kinds, packed.yes, strict=True)):
        good = bool(right[owner == q].all())
        tally[kind].append(good)
        if kind == "existence":
            tally[f"existence-{answer}"].append(good)


def summary(tally: dict[str, list[bool]]) -> dict[str, tuple[float, int]]:
    """Kind -> (accuracy, number of questions)."""
    return {kind: (round(float(np.mean(found)), 4), len(found)) for kind, found in sorted(tally.items())}


def language_gate(kit: Kit, scenes: int = 96, tokens: tuple[int, ...] = (24, 100, 400)) -> dict[str, dict]:
    """Exact match on ideal visual tokens, at several token counts."""
    out = {}
    for count in tokens:
        rng = np.random.default_rng(HELD_OUT_SEED)
        tally: dict[str, list[bool]] = defaultdict(list)
        for _ in range(0, scenes, 16):
            drawn = [make_scene(rng) for _ in range(16)]
            facts = moved(symbolic_facts(drawn, count, rng), kit.device)
            with torch.no_grad():
                visual = symbols(kit.model, facts, kit.words)
            asked = ask_all(drawn, Recipe(mix=EXISTENCE_MIX), rng)
            exact(kit, visual, torch.arange(1, count + 1).expand(16, -1), drawn, asked, tally)
        out[str(count)] = summary(tally)
    return out


@torch.no_grad()
def picture_gate(kit: Kit, scenes: int = 96, answers: bool = True) -> dict[str, object]:
    """On 336 px pictures with all 576 tokens: exact match per kind, patch-text AUC, patch naming accuracy."""
    rng = np.random.default_rng(HELD_OUT_SEED)
    tally: dict[str, list[bool]] = defaultdict(list)
    areas: list[float] = []
    names = kit.embed([indefinite(n) for n in NAMES])
    hits = total = 0
    for _ in range(0, scenes, 8):
        drawn = [make_scene(rng) for _ in range(8)]
        raw, _, facts = visual_batch([picture(s, 336) for s in drawn], None)
        facts = moved(facts, kit.device)
        hidden = kit.model.vision(kit.pixels(raw), None)
        joint = torch.nn.functional.normalize(kit.model.vision.joint(hidden[:, 1:]).float(), dim=-1)
        best = (joint @ torch.nn.functional.normalize(names.float(), dim=-1).T).argmax(-1)
        named = facts.name >= 0
        hits, total = hits + int((best == facts.name)[named].sum()), total + int(named.sum())
        asked = ask_all(drawn, Recipe(mix=EXISTENCE_MIX), rng)
        for b, questions in enumerate(asked):
            chosen = [q for q in questions if q.about][:4]
            if chosen:
                texts = torch.nn.functional.normalize(kit.embed([q.text for q in chosen]).float(), dim=-1)
                score = joint[b] @ texts.T
                owner = facts.owner[b].cpu().numpy()
                for i, q in enumerate(chosen):
                    clear = owner != -2
                    value = auc(score[:, i].cpu().numpy()[clear], np.isin(owner, q.about)[clear])
                    if value == value:
                        areas.append(value)
        if answers:
            exact(kit, kit.model.project(hidden[:, 1:]), torch.arange(1, 577).expand(8, -1), drawn, asked, tally)
    return {
        "accuracy": summary(tally),
        "auc": round(float(np.mean(areas)), 4),
        "auc_p10": round(float(np.quantile(areas, 0.1)), 4),
        "patch_top1": round(hits / max(total, 1), 4),
    }
