"""Which tokens four kinds of methods prefer (Figure 5): by attention, similarity, divergence, and a conditional DPP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from script_core.pruners.base import CannotPrune
from script_core.pruners.cls_attention import ClsAttention
from script_core.pruners.divprune import DivPrune
from script_core.pruners.script import QCSP
from script_core.pruners.similarity_only import SimilarityOnly
from script_core.tokens import Grid, Query, Selection, VisualTokens


@dataclass(frozen=True, eq=False)
class Preference:
    """preference (n,): 1 for the token that is chosen first within its crop or frame, down to 0 for the last.

    kept (m,): what the budget keeps. missing: why the map cannot be drawn for this model, or "".
    """

    title: str
    preference: np.ndarray
    kept: np.ndarray
    missing: str = ""


KINDS: tuple[tuple[str, Any], ...] = (
    ("Attention", ClsAttention),
    ("Similarity", SimilarityOnly),
    ("Divergence", DivPrune),
    ("DPP", QCSP),
)


def preferences(tokens: VisualTokens, query: Query, budget: int) -> tuple[Preference, ...]:
    """All four maps. A method that this model cannot serve comes with its reason."""
    return tuple(_preference(title, method(), tokens, query, budget) for title, method in KINDS)


def _preference(title: str, method: Any, tokens: VisualTokens, query: Query, budget: int) -> Preference:
    try:
        kept = method.select(tokens, query, budget)
        every = method.select(tokens, query, len(tokens))
    except CannotPrune as reason:
        nothing = np.zeros(len(tokens))
        return Preference(title, nothing, np.empty(0, dtype=np.int64), str(reason))
    order = every if len(every.order) >= len(kept.order) else kept
    return Preference(title, ranks(order, tokens.grid), kept.kept.numpy())


def ranks(selection: Selection, grid: Grid) -> np.ndarray:
    """1 .. 0 by place in the order, within each block; tokens that were never chosen get 0."""
    found = np.zeros(len(grid))
    order, block = selection.order.numpy(), grid.block.numpy()
    for number in range(len(grid.blocks)):
        chosen = order[block[order] == number]
        size = int((block == number).sum())
        found[chosen] = 1 - np.arange(len(chosen)) / max(size - 1, 1)
    return found


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two sets of tokens; 1 for two empty ones."""
    union = len(np.union1d(first, second))
    return len(np.intersect1d(first, second)) / union if union else 1.0
