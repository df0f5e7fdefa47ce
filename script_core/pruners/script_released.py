"""Script as the authors' public code runs it, for honest comparison with the paper's method.

Per crop: relevance = -(mean dot product with the text segments that match best), min-max; kernel diag(r) S diag(r);
picks by a greedy loop without orthogonalisation, which freezes once residuals are used up; and a graph score whose
top k are intersected with the picks. Because the missing tokens are filled back from the picks and there are exactly k
picks, the graph cannot change the result.

Authors' code: the sign is always -1, as CLIP needs. Here: the backbone's own, unless set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from script_core import similarity
from script_core.pruners.base import (
    check_budget,
    check_joint,
    highest_first,
    in_blocks,
    pick_count,
    require,
    split_budget,
)
from script_core.tokens import Query, Selection, VisualTokens

TAU, GAMMA, NEIGHBOURS = 0.2, 1.0, 4
EPS = 1e-6


@dataclass(frozen=True)
class ScriptReleased:
    """sign: +1 or -1, or None for the backbone's own (the authors' code: -1)."""

    sign: float | None = None

    name: ClassVar[str] = "script_released"
    title: ClassVar[str] = "Script (released code)"
    acts: ClassVar[str] = "before"
    reads_question: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"joint"})

    def select(self, tokens: VisualTokens, query: Query, budget: int) -> Selection:
        budget = check_budget(budget, len(tokens))
        visual, text = require(tokens.joint, "joint", self.title), require(query.joint, "joint", self.title)
        sign = tokens.relevance_sign if self.sign is None else self.sign
        known = similarity.of(tokens, "crop")
        redundancy, matters = torch.zeros(len(tokens)), torch.zeros(len(tokens))
        orders, shared = [], 0
        shares = split_budget(budget, [len(index) for index in known.members])
        for index, rows, share in zip(known.members, known.rows, shares, strict=True):
            if not len(index):  # a tile of a very thin picture, all of it padding
                continue
            redundancy[index] = _scores(np.stack([rows[i] for i in range(len(index))]))
            matters[index] = relevance(visual[index.to(visual.device)][None], text, sign)[0]
            order = _picks(rows, similarity.array(matters[index]), len(index))
            connected = set(highest_first(redundancy[index])[:share].tolist())
            shared += len(connected.intersection(order[:share].tolist()))
            orders.append(index[order])
        note = (
            f"Its graph step agrees on {shared} of these {budget} tokens; the other {budget - shared} are filled back "
            "from the same picks, so the graph changed nothing."
        )
        return in_blocks(orders, budget, scores={"redundancy": redundancy, "relevance": matters}, notes=(note,))


def graph_scores(features: Tensor) -> Tensor:
    """The released graph score, higher = more connected: features (B, n, d) -> (B, n) float32.

    Over the full graph with self-edges; a token with fewer than 4 neighbours gets half of it and half its mean cosine.
    """
    return torch.stack([_scores(similarity.gram(crop)) for crop in features])


def _scores(cosine: np.ndarray) -> Tensor:
    edge = cosine >= TAU
    degree = edge.sum(axis=1)
    mean = np.where(edge, cosine, 0.0).sum(axis=1) / np.maximum(degree, 1)
    connected = degree * np.exp(GAMMA * (mean - TAU))
    blend = 0.5 * connected + 0.5 * cosine.sum(axis=1) / max(len(cosine), 1)
    return torch.from_numpy(np.where(degree >= NEIGHBOURS, connected, blend)).to(torch.float32)


def relevance(image_embeds: Tensor, text_embeds: Tensor, sign: float = -1.0) -> Tensor:
    """Relevance per crop: image_embeds (B, n, c), text_embeds (M, c), neither normalised -> (B, n) float32 in [0, 1].

    Of several text segments only the better-matching half counts. Raises ValueError for embeddings of other shapes.
    """
    check_joint(image_embeds, text_embeds)
    products = (image_embeds.detach().double() @ text_embeds.detach().double().to(image_embeds.device).T).cpu()
    segments = products.mean(dim=1)  # (B, M)
    best = highest_first(segments)[:, : max(1, segments.shape[1] // 2)]
    match = sign * products.gather(2, best[:, None].expand(-1, products.shape[1], -1)).mean(dim=2)
    low, high = match.amin(dim=1, keepdim=True), match.amax(dim=1, keepdim=True)
    return ((match - low) / (high - low + EPS)).to(torch.float32)


def pick_order(features: Tensor, relevance: Tensor, k: int) -> Tensor:
    """The released greedy loop per crop: features (B, n, d), relevance (B, n) -> (B, min(k, n)) int64."""
    return torch.stack(
        [_picks(similarity.gram(crop), similarity.array(r), k) for crop, r in zip(features, relevance, strict=True)]
    )


def _picks(rows: similarity.Rows, relevance: np.ndarray, k: int) -> Tensor:
    """Subtract `(L_j / (sqrt(d_j) + eps))^2` after each pick; a pick with no residual left subtracts nothing."""
    residual = relevance * relevance * rows.diagonal()
    first = float(residual.max(initial=0.0))
    picks = np.empty(pick_count(k, len(relevance)), dtype=np.int64)
    for step in range(len(picks)):
        picks[step] = best = similarity.first_largest(residual, first)
        gain = residual[best]
        if gain > 0:
            residual -= (rows[best] * relevance * relevance[best] / (np.sqrt(gain) + EPS)) ** 2
        residual[best] = -np.inf
    return torch.from_numpy(picks)
