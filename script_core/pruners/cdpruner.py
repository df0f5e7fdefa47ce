"""CDPruner (NeurIPS 2025, arXiv:2506.10967): the conditional DPP over every crop, without a graph.

1. r = sign * mean over text segments of cos(V_i, T_m), min-max over all crops together     O(n c)
2. greedy MAP of diag(r) cos(X, X) diag(r), k picks per crop                                O(n k^2)

Authors' code: the sign is always -1, as CLIP needs. Here: the backbone's own, unless set.
Authors' code: when k exceeds the kernel's numerical rank, the walk sticks at index 0 and returns fewer tokens. Here:
it goes on by relevance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from script_core import dpp, similarity
from script_core.pruners.base import check_budget, check_joint, in_blocks, require
from script_core.pruners.walks import walks
from script_core.tokens import Query, Selection, VisualTokens

# Added before the division, so that the least relevant token can still be picked.
SMALL = 1e-6

# The authors walk on until nothing is left. In float64 that is about here.
FLOOR = 1e-12


@dataclass(frozen=True)
class CDPruner:
    """sign: +1 or -1, or None for the backbone's own (the authors' code: -1)."""

    sign: float | None = None

    name: ClassVar[str] = "cdpruner"
    title: ClassVar[str] = "CDPruner"
    acts: ClassVar[str] = "before"
    reads_question: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"joint"})

    def select(self, tokens: VisualTokens, query: Query, budget: int) -> Selection:
        budget = check_budget(budget, len(tokens))
        visual, text = require(tokens.joint, "joint", self.title), require(query.joint, "joint", self.title)
        sign = tokens.relevance_sign if self.sign is None else self.sign
        matters = relevance(visual[None], text, sign)[0]
        largest = max(len(index) for index in tokens.grid.members())
        return in_blocks(list(walks(tokens, "crop", matters, largest, FLOOR)), budget, scores={"relevance": matters})


def relevance(image_embeds: Tensor, text_embeds: Tensor, sign: float = -1.0) -> Tensor:
    """Relevance of every patch: image_embeds (B, n, c), text_embeds (M, c) -> (B, n) float32.

    Smallest and largest value are taken over all crops together. All equal gives all ones.
    Raises ValueError for embeddings of other shapes.
    """
    check_joint(image_embeds, text_embeds)
    cosine = similarity.unit(image_embeds) @ similarity.unit(text_embeds).to(image_embeds.device).T
    match = sign * cosine.mean(dim=-1).cpu()
    low, high = match.min(), match.max()
    if high - low <= similarity.TIE:
        return torch.ones_like(match, dtype=torch.float32)
    return ((match - low + SMALL) / (high - low)).to(torch.float32)


def select_crops(features: Tensor, relevance: Tensor, k: int) -> Tensor:
    """Greedy picks of each crop: features (B, n, d), relevance (B, n) -> order (B, min(k, n)) int64, nested."""
    orders = [
        dpp.greedy_walk(similarity.gram(crop), similarity.array(weight), k, FLOOR)[0]
        for crop, weight in zip(features, relevance, strict=True)
    ]
    return torch.stack([torch.from_numpy(order) for order in orders])
