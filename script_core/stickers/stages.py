"""The first four training stages, each as an object that says which weights move and what one step minimises.

align     vision and text towers from pixels: patches against names and whole questions
symbols   language model alone, on made-up visual tokens; independent of `align`
connect   projector and language model on the frozen, cached vision states (projector alone first)
tune      everything, vision at a low rate, up to the full 576 visual tokens

The fifth, which adds high resolution, clips and harder scenes, is in `modes`, the sixth, about order in time, in
`order`; `curriculum` puts them in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from script_core.stickers.batches import (
    Facts,
    Picture,
    Recipe,
    ask_all,
    choose,
    picture,
    symbolic_facts,
    visual_batch,
)  # fmt: skip
from script_core.stickers.catalogue import NAMES, READABLE, bare_plural, indefinite
from script_core.stickers.kit import EXISTENCE_MIX, FULL, LAST_MIX, LOGIC_MIX, POSITION_MIX, Kit, moved
from script_core.stickers.losses import (
    ANSWER_WEIGHTS,
    VISION_WEIGHTS,
    projector_losses,
    symbols,
    vision_losses,
    weighted,
)  # fmt: skip
from script_core.stickers.model import GRID
from script_core.stickers.optimiser import Group, block_matrices, others
from script_core.stickers.questions import Question


class Align:
    """Vision and text towers. Masked 336 px pictures and whole 168 px ones; whole 336 px ones towards the end."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        recipe = Recipe(count=3, mix=EXISTENCE_MIX)
        self.small = kit.pool(recipe, 168, 1)
        self.large = kit.pool(recipe, 336, 2, fresh=0.4)
        self.recipe = recipe

    def groups(self) -> list[Group]:
        m = self.kit.model
        towers = [m.vision, m.text]
        return [
            Group([p for t in towers for p in block_matrices(t)], "muon", 0.02),
            Group([p for t in towers for p in others(t)] + list(self.kit.heads.parameters()), "adamw", 1e-3),
        ]

    def losses(self, progress: float) -> tuple[Tensor, dict[str, Tensor], int]:
        kit, rng = self.kit, self.kit.rng
        draw = rng.random()
        whole = progress > 0.7 and draw > 0.6
        if draw < 0.3:
            pictures, grid, keep = self.small.draw(kit.batch), GRID // 2, None
        else:
            pictures, grid = self.large.draw(max(kit.batch // 3, 2) if whole else kit.batch), GRID
            favour = float(rng.choice([1.0, 3.0]))
            keep = None if whole else [choose(p.owner, FULL // 4, rng, favour) for p in pictures]
        raw, kept, facts = visual_batch(pictures, keep)
        hidden = kit.model.vision(kit.pixels(raw), None if kept is None else kept.to(kit.device), grid)
        asked = ask_all(scenes_of(pictures), self.recipe, rng)
        parts = align_losses(kit, hidden, moved(facts, kit.device), pictures, asked)
        return weighted(parts, VISION_WEIGHTS), parts, len(pictures)


def scenes_of(pictures: Sequence[Any]) -> list[Any]:
    return [p.scene for p in pictures]


def align_losses(
    kit: Kit,
    hidden: Tensor,
    facts: Facts,
    pictures: Sequence[Picture],
    asked: Sequence[Sequence[Question]],
    questions: int = 3,
) -> dict[str, Tensor]:
    """Text embeddings of names, questions and captions, and the losses that tie them to the patches."""
    style = kit.rng.integers(3)
    spoken = [n if style == 0 else indefinite(n) if style == 1 else bare_plural(n) for n in NAMES]
    names = kit.embed([*spoken, *READABLE])
    chosen = [list(q)[:questions] for q in asked]
    chosen = [q + q[:1] * (questions - len(q)) for q in chosen]
    captions = [" ".join(s.name for s in p.scene.stickers[:14]) for p in pictures]
    texts = kit.embed([q.text for row in chosen for q in row] + captions)
    about = torch.zeros(len(pictures), questions, facts.owner.shape[1], dtype=torch.bool, device=hidden.device)
    for b, row in enumerate(chosen):
        for i, q in enumerate(row):
            for sticker in q.about:
                about[b, i] |= facts.owner[b] == sticker
    split = len(pictures) * questions
    return vision_losses(
        kit.model,
        kit.heads,
        hidden,
        facts,
        names,
        texts[:split].view(len(pictures), questions, -1),
        about,
        texts[split:],
    )


def symbol_losses(kit: Kit, recipe: Recipe, count: int, tokens: int) -> dict[str, Tensor]:
    """Language-model losses on `count` scenes of ideal visual tokens, with a little noise."""
    scenes = [recipe.scene(kit.rng) for _ in range(count)]
    visual = symbols(kit.model, moved(symbolic_facts(scenes, tokens, kit.rng), kit.device), kit.words)
    visual = visual + 0.02 * kit.rng.random() * torch.randn_like(visual)
    return kit.answers(visual, kit.places(count, tokens), scenes, ask_all(scenes, recipe, kit.rng))


class Symbols:
    """The language model on ideal visual tokens; few stickers first, any number of tokens from the start."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit

    def groups(self) -> list[Group]:
        language, heads = self.kit.model.language, self.kit.heads
        pointing = heads.language_parameters()
        return [Group(block_matrices(language), "muon", 0.02), Group(others(language) + pointing, "adamw", 1e-3)]

    def losses(self, progress: float) -> tuple[Tensor, dict[str, Tensor], int]:
        kit, rng = self.kit, self.kit.rng
        early = progress < 0.15
        mix = POSITION_MIX if progress < 0.5 else EXISTENCE_MIX
        recipe = Recipe(objects=(2, 4) if early else (1, 9), duplicates=0.15 if early else 0.35, mix=mix, count=7)
        tokens = int(np.exp(rng.uniform(np.log(8), np.log(150)))) if rng.random() < 0.96 else 400
        parts = symbol_losses(kit, recipe, kit.batch, tokens)
        return weighted(parts, ANSWER_WEIGHTS), parts, kit.batch


def draw_budget(rng: np.random.Generator, full: float) -> int:
    """Number of visual tokens of a batch: all with probability `full`, else 6 to 50 % of them."""
    return FULL if rng.random() < full else int(np.exp(rng.uniform(np.log(0.03), np.log(0.5))) * FULL)


class Connect:
    """Projector, then projector and language model, on vision states that are computed once per picture."""

    def __init__(self, kit: Kit, alone: float = 0.08) -> None:
        self.kit, self.alone = kit, alone
        self.recipe = Recipe(mix=EXISTENCE_MIX)
        self.pool = kit.pool(self.recipe, 336, 3, size=1, fresh=1.0)
        self.held: list[tuple[Picture, Tensor]] = []
        self.centre()

    @torch.no_grad()
    def centre(self) -> None:
        """Mean and spread of the patch states over a few pictures, the same ones in every process."""
        model = self.kit.model
        rng = np.random.default_rng(self.kit.seed)
        raw, _, _ = visual_batch([picture(self.recipe.scene(rng), 336) for _ in range(12)], None)
        states = model.vision(self.kit.pixels(raw), None)[:, 1:].float().flatten(0, 1)
        model.centre.copy_(states.mean(0))
        model.spread.copy_(states.std(0) + 1e-3)

    def groups(self) -> list[Group]:
        m, h = self.kit.model, self.kit.heads
        pointing = h.language_parameters()
        projector = [m.proj1, m.proj2, m.proj1_bias, m.proj2_bias]
        return [
            Group(block_matrices(m.language), "muon", 0.008),
            Group(projector, "adamw", 1e-3),
            Group(others(m.language) + pointing, "adamw", 5e-4),
        ]

    def draw(self, count: int, fresh: float = 0.25, size: int = 768) -> list[tuple[Picture, Tensor]]:
        """Pictures with their cached states (1 + 576, v); a quarter of them new."""
        new = max(int(count * fresh), 1, min(count, count - len(self.held)))
        pictures = self.pool.draw(new)
        raw, _, _ = visual_batch(pictures, None)
        with torch.no_grad():
            hidden = self.kit.model.vision(self.kit.pixels(raw), None)
        made = list(zip(pictures, hidden, strict=True))
        old = [self.held[i] for i in self.kit.rng.integers(len(self.held), size=count - new)] if count > new else []
        self.held = (self.held + made)[-size:]
        return made + old

    def losses(self, progress: float) -> tuple[Tensor, dict[str, Tensor], int]:
        kit, rng = self.kit, self.kit.rng
        tokens = 144 if progress < self.alone else draw_budget(rng, 0.25)
        drawn = self.draw(max(int(kit.batch * min(1.5, 250 / (tokens + 110))), 2))  # steps of about equal cost
        pictures = [p for p, _ in drawn]
        favour = float(rng.choice([1.0, 3.0, 10.0]))
        keep = [choose(p.owner, tokens, rng, favour) for p in pictures]
        _, kept, facts = visual_batch(pictures, keep)
        assert kept is not None
        states = torch.stack([h[1:][k.to(h.device)] for (_, h), k in zip(drawn, kept, strict=True)])
        projected = kit.model.project(states)
        parts = projector_losses(kit.model, projected, moved(facts, kit.device), kit.words)
        loss = weighted(parts, {"symbol": 0.5, "word": 0.5})
        if progress >= self.alone:
            scenes = scenes_of(pictures)
            asked = ask_all(scenes, self.recipe, rng)
            more = kit.answers(projected, kit.places(len(scenes), tokens, kept), scenes, asked)
            loss = loss + weighted(more, ANSWER_WEIGHTS)
            parts |= more
        return loss, parts, len(pictures)


class Tune:
    """Everything on 336 px pictures. Vision sees 25 % to all patches, the language model those or fewer."""

    def __init__(self, kit: Kit, full: float = 0.35) -> None:
        self.kit, self.full = kit, full
        self.recipe = Recipe(mix=LAST_MIX)
        self.logic = Recipe(mix=LOGIC_MIX, duplicates=0.5)  # what needs more steps than pictures can pay for
        self.pool = kit.pool(self.recipe, 336, 4)

    def groups(self) -> list[Group]:
        m = self.kit.model
        rest = [m.proj1, m.proj2, m.proj1_bias, m.proj2_bias, *self.kit.heads.parameters(), *others(m.language)]
        return [
            Group(block_matrices(m.vision) + block_matrices(m.text), "muon", 0.005),
            Group(others(m.vision) + others(m.text), "adamw", 3e-4),
            Group(block_matrices(m.language), "muon", 0.005),
            Group(rest, "adamw", 3e-4),
        ]

    def losses(self, progress: float) -> tuple[Tensor, dict[str, Tensor], int]:
        kit, rng = self.kit, self.kit.rng
        # A masked picture costs a quarter of a whole one and teaches vision as much; the end is about whole ones.
        whole = rng.random() < (self.full if progress < 0.85 else 2 * self.full)
        pictures = self.pool.draw(max(kit.batch // 3, 1) if whole else kit.batch)
        favour = float(rng.choice([1.0, 3.0]))
        keep = None if whole else [choose(p.owner, FULL // 4, rng, favour) for p in pictures]
        raw, kept, facts = visual_batch(pictures, keep)
        facts = moved(facts, kit.device)
        hidden = kit.model.vision(kit.pixels(raw), None if kept is None else kept.to(kit.device))
        scenes = scenes_of(pictures)
        asked = ask_all(scenes, self.recipe, rng)
        parts = align_losses(kit, hidden, facts, pictures, asked)
        projected = kit.model.project(hidden[:, 1:])
        parts |= projector_losses(kit.model, projected, facts, kit.words)
        loss = weighted(parts, VISION_WEIGHTS | {"symbol": 0.3, "word": 0.3})
        if rng.random() < 0.4:  # token drop, so that every budget is in the training distribution
            share = float(np.exp(rng.uniform(np.log(0.06), np.log(0.5))))
            count = max(int(share * projected.shape[1]), 8)
            subset = [np.sort(rng.choice(projected.shape[1], count, replace=False)) for _ in pictures]
            index = torch.from_numpy(np.stack(subset))
            projected = projected.gather(1, index.to(kit.device)[..., None].expand(-1, -1, projected.shape[-1]))
            kept = index if kept is None else kept.gather(1, index)
        places = kit.places(len(scenes), projected.shape[1], kept)
        more = kit.answers(projected, places, scenes, asked)
        loss = loss + weighted(more, ANSWER_WEIGHTS)
        logic = symbol_losses(kit, self.logic, kit.batch * 3 // 4, int(rng.integers(16, 150)))
        parts |= {f"logic-{name}": value for name, value in logic.items()}
        return loss + weighted(logic, ANSWER_WEIGHTS, 0.5), parts | more, len(pictures)
