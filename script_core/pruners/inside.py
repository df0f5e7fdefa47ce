"""What the methods that act inside the language model share: a run that drops visual tokens between layers.

A plan maps a layer's index to the number of visual tokens that enter it. Scores come from one layer's attention of a
few query rows, so the model itself keeps its fast attention kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from script_core.pruners.base import CannotPrune, Cut, LayerView, highest_first
from script_core.tokens import Selection

Score = Callable[[LayerView], Tensor]

# The authors' layer numbers are for models of this depth; others get the same fractions of their own.
DEPTH = 32


def top(scores: Tensor, keep: int) -> Tensor:
    """The `keep` indices of highest score, ascending; the lowest index wins among equals."""
    return torch.sort(highest_first(scores)[:keep]).values


def over_heads(attention: Tensor) -> Tensor:
    """Mean over heads in float64, on the host: (heads, ...) -> (...)."""
    return attention.detach().to("cpu", torch.float64).mean(dim=0)


def entering(plan: Mapping[int, int], total: int, layers: int) -> tuple[int, ...]:
    """Visual tokens that enter each layer under a plan."""
    counts, current = [], total
    for layer in range(layers):
        current = plan.get(layer, current)
        counts.append(current)
    return tuple(counts)


def at_depth(layers: tuple[int, ...], depth: int) -> tuple[int, ...]:
    """Layer indices of a 32-layer model at the same fractions of another depth, each at least 1 and all different.

    Raises `CannotPrune` if the model has too few layers.
    """
    found: list[int] = []
    for layer in layers:
        found.append(max(round(layer * depth / DEPTH), found[-1] + 1 if found else 1))
    if found[-1] >= depth:
        raise CannotPrune(f"This method cuts before {len(layers)} layers, and the model has only {depth}.")
    return tuple(found)


class Run:
    """One prefill. `score(view)` gives a value for each visual row; the plan says how many of them stay."""

    def __init__(
        self, total: int, layers: int, plan: Mapping[int, int], score: Score, positions: str, notes: tuple[str, ...]
    ) -> None:
        self.positions = positions
        self._total, self._layers, self._plan, self._score, self._notes = total, layers, plan, score, notes
        self._entering: list[int] = []
        self._kept = torch.arange(total)
        self._first_scores: Tensor | None = None
        self._depth = torch.full((total,), float(layers))

    def cut(self, view: LayerView) -> Cut | None:
        """See `InsideRun.cut`."""
        rows = torch.nonzero(view.visual).flatten().cpu()
        if view.index == 1:
            self._entering.append(len(rows))
        cut, count = None, len(rows)
        if view.index in self._plan and 0 < self._plan[view.index] < len(rows):
            cut, count = self._cut(view, rows)
        self._entering.append(count)
        return cut

    def _cut(self, view: LayerView, rows: Tensor) -> tuple[Cut, int]:
        chosen = self.choose(view, rows, self._plan[view.index])
        merged = self.merge(view, rows, chosen)
        stays = torch.ones(len(view.visual), dtype=torch.bool)
        stays[rows] = False
        stays[rows[chosen]] = True
        self._remember(view, rows, chosen)
        return Cut(torch.nonzero(stays).flatten(), merged), len(chosen) + (0 if merged is None else len(merged))

    def choose(self, view: LayerView, rows: Tensor, keep: int) -> Tensor:
        """Which of the visual rows stay, as ascending indices into `rows`."""
        self.scores = self._score(view)
        return top(self.scores, keep)

    def merge(self, view: LayerView, rows: Tensor, chosen: Tensor) -> Tensor | None:
        """New rows made of what is dropped, or None."""
        return None

    def _remember(self, view: LayerView, rows: Tensor, chosen: Tensor) -> None:
        source = view.source.cpu()[rows]
        content = source >= 0
        if self._first_scores is None:
            self._first_scores = torch.zeros(self._total)
            self._first_scores[source[content]] = self.scores[content].to(torch.float32)
        kept = source[chosen]
        self._kept = kept[kept >= 0]
        gone = torch.ones(self._total, dtype=torch.bool)
        gone[self._kept] = False
        self._depth[gone] = self._depth[gone].clamp_max(float(view.index))

    def selection(self) -> Selection:
        """See `InsideRun.selection`. Scores: "attention" at the first cut, "layers" that each token went through."""
        scores = {"layers": self._depth}
        if self._first_scores is not None:
            scores["attention"] = self._first_scores
        counts = self._entering or [self._total] * self._layers
        return Selection.of(self._kept, self._total, scores=scores, entering=tuple(counts), notes=self._notes)
