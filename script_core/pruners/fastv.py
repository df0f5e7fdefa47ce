"""FastV (ECCV 2024, arXiv:2403.06764): after K layers, keep what the last prompt token attends to.

1. layers 0 to K - 1 see every visual token
2. score = attention of the last prompt token to each visual token in layer K - 1, mean over heads
3. the top tokens go on to layer K and beyond, with the position ids that they had

The average over L layers is the budget b when (L b - K n) / (L - K) tokens are kept; below K n / L it is out of reach.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from script_core.pruners.base import CannotPrune, InsideRun, LayerView, check_budget
from script_core.pruners.inside import DEPTH, Run, entering, image_columns, over_heads, top
from script_core.tokens import Query, VisualTokens

K = 2


@dataclass(frozen=True)
class FastV:
    """k: layers that see everything; None = the authors' 2 of 32, or the same fraction of another depth."""

    k: int | None = None

    name: ClassVar[str] = "fastv"
    title: ClassVar[str] = "FastV"
    acts: ClassVar[str] = "inside"
    reads_question: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"in_model"})

    def schedule(self, budget: int, total: int, layers: int) -> tuple[int, ...]:
        return entering(self._plan(budget, total, layers), total, layers)

    def begin(self, tokens: VisualTokens, query: Query, budget: int, layers: int) -> InsideRun:
        plan = self._plan(budget, len(tokens), layers)
        k = self._layers(layers)
        notes = (f"After {k} of {layers} layers {min(plan.values(), default=len(tokens))} visual tokens go on.",)
        return Run(len(tokens), layers, plan, last_row, "original", notes)

    def _layers(self, layers: int) -> int:
        k = max(1, round(K * layers / DEPTH)) if self.k is None else self.k
        if not 1 <= k < layers:
            raise CannotPrune(f"FastV's k must lie between 1 and {layers - 1} for this model, got {k}.")
        return k

    def _plan(self, budget: int, total: int, layers: int) -> dict[int, int]:
        budget, k = check_budget(budget, total), self._layers(layers)
        if budget == total:
            return {}
        keep = (layers * budget - k * total) / (layers - k)
        if keep < 1:
            raise CannotPrune(
                f"FastV cannot average {budget} visual tokens: its first {k} of {layers} layers see all {total}, which "
                f"alone makes an average of {k * total / layers:g}."
            )
        return {k: round(keep)}


def last_row(view: LayerView, rows: Tensor) -> Tensor:
    """Attention of the last prompt token to the visual rows in the layer that just ran, mean over heads."""
    last = torch.arange(len(view.hidden) - 1, len(view.hidden), device=rows.device)
    return over_heads(view.attention(last))[0][rows]


def rank(last_row_attention: Tensor, start: int, n: int, keep: int) -> Tensor:
    """Patches that stay, ascending, as indices into the image at [start, start + n): last_row_attention (H, L).

    Raises ValueError if the image lies outside the sequence or has fewer than `keep` patches.
    """
    return top(image_columns(over_heads(last_row_attention), start, n, keep), keep)
