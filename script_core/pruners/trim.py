"""TRIM (COLING 2025, arXiv:2409.10994): the patches that match the question, and one mean of all others.

1. s = softmax over patches of sign * V_i . T       (CLIP: sign -1, so the lowest dot products are kept)
2. keep the top k patches, in raster order
3. append one token: the mean of all dropped patches, taken before the projector

Authors' code: the sign is always -1. Here: the backbone's own, unless set.
Authors' code: breaks on several crops. Here: each crop gets its share and its own mean; the means come last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from script_core.pruners.base import CannotPrune, check_budget, highest_first, require, split_budget
from script_core.tokens import Query, Selection, VisualTokens


@dataclass(frozen=True)
class Trim:
    """The budget counts the mean token. sign: +1 or -1, or None for the backbone's own (the authors' code: -1)."""

    sign: float | None = None

    name: ClassVar[str] = "trim"
    title: ClassVar[str] = "TRIM"
    acts: ClassVar[str] = "after"
    reads_question: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"joint", "encoder"})

    def select(self, tokens: VisualTokens, query: Query, budget: int) -> Selection:
        budget = check_budget(budget, len(tokens))
        visual, text = require(tokens.joint, "joint", self.title), require(query.joint, "joint", self.title)
        state = require(tokens.encoder, "encoder", self.title)
        if bool((state.patch < 0).any()):
            raise CannotPrune(f"{self.title} needs every visual token to be one patch of the vision encoder.")
        sign = tokens.relevance_sign if self.sign is None else self.sign
        members = [index for index in tokens.grid.members() if len(index)]
        match = torch.zeros(len(tokens), dtype=torch.float64)
        for index in members:
            match[index] = _softmax(visual[index.to(visual.device)], text[0], sign)
        scores = {"relevance": match.to(torch.float32)}
        if budget == len(tokens):
            return Selection.of(torch.arange(len(tokens)), len(tokens), scores=scores)
        shares = split_budget(budget, [len(index) for index in members])
        kept, means = [], []
        for index, share in zip(members, shares, strict=True):
            if not share:
                continue
            count = min(share - 1, len(index) - 1)
            chosen = highest_first(match[index])[:count]
            kept.append(index[chosen])
            means.append(aggregate(state.hidden[tokens.grid.block[index], 1 + state.patch[index]][None], chosen[None]))
        order = torch.cat(kept)
        raster = torch.sort(order).values.to(tokens.features.device)
        merged = state.project(torch.cat(means).to(state.hidden))
        inserted = torch.cat([tokens.features[raster], merged.to(tokens.features)])
        return Selection.of(order, len(tokens), order, scores=scores, inserted=inserted, notes=_notes(match, members))


def _notes(match: Tensor, members: list[Tensor]) -> tuple[str, ...]:
    if len({len(index) for index in members}) > 1:
        return ()
    count = keep_count(torch.stack([match[index] for index in members])) + 1
    return (f"The authors' default, the interquartile rule, would take {count} tokens per crop here.",)


def scores(image_embeds: Tensor, text_embed: Tensor, sign: float = -1.0) -> Tensor:
    """How well each patch matches: image_embeds (B, n, c), text_embed (c,), neither normalised -> (B, n) float32.

    Each crop's scores add up to 1; higher = kept first.
    """
    return torch.stack([_softmax(crop, text_embed, sign) for crop in image_embeds]).to(torch.float32)


def _softmax(visual: Tensor, text: Tensor, sign: float) -> Tensor:
    product = visual.detach().double() @ text.detach().double().to(visual.device)
    return torch.softmax(sign * product, dim=0).cpu()


def keep_count(scores: Tensor, ratio: float | None = None) -> int:
    """Patches to keep per crop: `int(n * ratio)`; ratio None = the share of outliers over all crops. scores (B, n).

    Raises ValueError for a ratio outside 0 to 1.
    """
    if ratio is not None and not 0 <= ratio <= 1:
        raise ValueError(f"the ratio of patches to keep must lie between 0 and 1, got {ratio}")
    return int(scores.shape[1] * (outliers(scores) if ratio is None else ratio))


def outliers(scores: Tensor) -> float:
    """Share of scores above Q3 + 1.5 (Q3 - Q1)."""
    values = scores.detach().cpu().double().flatten().numpy()
    low, high = np.percentile(values, [25, 75])
    return float((values > high + 1.5 * (high - low)).mean())


def aggregate(features: Tensor, kept: Tensor) -> Tensor:
    """Mean of the patches that were not kept: features (B, n, d), kept (B, k) -> (B, d) float32. All kept gives 0.

    Raises ValueError unless there is one row of `kept` for each crop.
    """
    if features.ndim != 3 or kept.ndim != 2 or len(kept) != len(features):
        raise ValueError(
            f"aggregate needs features (B, n, d) and kept (B, k), got {tuple(features.shape)} and {tuple(kept.shape)}"
        )
    dropped = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
    dropped.scatter_(1, kept.to(features.device), False)
    total = torch.where(dropped[:, :, None], features.detach().to(torch.float32), 0.0).sum(dim=1)
    return total / dropped.sum(dim=1, keepdim=True).clamp_min(1)
