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

Score = Callable[[LayerView, Tensor], Tensor]

# The authors' layer numbers are for models of this depth; others get the same fractions of their own.
DEPTH = 32


def top(scores: Tensor, keep: int) -> Tensor:
    """The `keep` indices of highest score, ascending; the lowest index wins among equals."""
    return torch.sort(highest_first(scores)[:keep]).values


def image_columns(attention: Tensor, start: int, n: int, keep: int) -> Tensor:
    """Attention (..., L) to the `n` visual tokens behind `start`: (..., n).

    Raises ValueError if they do not lie within L, or `keep` of them cannot be kept.
    """
    length = attention.shape[-1]
    if not 0 <= start <= start + n <= length:
        raise ValueError(f"{n} visual tokens from position {start} on do not lie within {length} positions")
    if not 0 <= keep <= n:
        raise ValueError(f"{keep} of {n} visual tokens cannot be kept")
    return attention[..., start : start + n]


def over_heads(attention: Tensor) -> Tensor:
    """Mean over heads, `precise`: (heads, ...) -> (...), on the device of `attention`."""
    return attention.detach().mean(dim=0, dtype=precise(attention))


def precise(values: Tensor) -> torch.dtype:
    """float64; float32 on Apple's GPUs, which have nothing wider."""
    return torch.float32 if values.device.type == "mps" else torch.float64


def where(marks: Tensor, count: int) -> Tensor:
    """Indices, ascending, of the `count` true values in `marks` (n,). Unlike `nonzero` it makes no host wait."""
    return torch.sort(marks.to(torch.uint8), descending=True, stable=True).indices[:count]


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
    """One prefill. `score(view, rows)` gives a value for each visual row; the plan says how many of them stay."""

    def __init__(
        self, total: int, layers: int, plan: Mapping[int, int], score: Score, positions: str, notes: tuple[str, ...]
    ) -> None:
        self.positions = positions
        self._total, self._layers, self._plan, self._score, self._notes = total, layers, plan, score, notes
        self._entering: list[int] = []
        # By content token, and one place more for rows that are none. They follow the model's device at the first cut.
        self._depth = torch.full((total + 1,), float(layers))
        self._kept = torch.arange(total)
        self._first_scores: Tensor | None = None

    def cut(self, view: LayerView) -> Cut | None:
        """See `InsideRun.cut`."""
        if view.index == 1:
            self._entering.append(view.count)
        cut, count = None, view.count
        if view.index in self._plan and 0 < self._plan[view.index] < count:
            cut, count = self._cut(view)
        self._entering.append(count)
        return cut

    def _cut(self, view: LayerView) -> tuple[Cut, int]:
        rows = where(view.visual, view.count)
        chosen = self.choose(view, rows, self._plan[view.index])
        merged = self.merge(view, rows, chosen)
        self._remember(view, rows, chosen)
        text = where(~view.visual, len(view.hidden) - view.count)
        keep = torch.sort(torch.cat([text, rows[chosen]])).values
        return Cut(keep, merged), len(chosen) + (0 if merged is None else len(merged))

    def choose(self, view: LayerView, rows: Tensor, keep: int) -> Tensor:
        """Which of the visual rows stay, as ascending indices into `rows`."""
        self.scores = self._score(view, rows)
        return top(self.scores, keep)

    def merge(self, view: LayerView, rows: Tensor, chosen: Tensor) -> Tensor | None:
        """New rows made of what is dropped, or None."""
        return None

    def _remember(self, view: LayerView, rows: Tensor, chosen: Tensor) -> None:
        source = view.source[rows]
        token = torch.where(source >= 0, source, self._total)
        if self._first_scores is None:
            self._first_scores = torch.zeros(self._total + 1, device=token.device)
            self._first_scores.scatter_(0, token, self.scores.to(torch.float32))
            self._depth = torch.full((self._total + 1,), float(self._layers), device=token.device)
        self._depth = self._depth.to(token.device)
        self._kept = token[chosen]
        gone = torch.ones_like(self._depth, dtype=torch.bool).index_fill_(0, self._kept, False)
        self._depth = torch.where(gone, self._depth.clamp_max(float(view.index)), self._depth)

    def selection(self) -> Selection:
        """See `InsideRun.selection`. Scores: "attention" at the first cut, "layers" that each token went through."""
        scores = {"layers": self._depth[: self._total].cpu()}
        if self._first_scores is not None:
            scores["attention"] = self._first_scores[: self._total].cpu()
        counts = self._entering or [self._total] * self._layers
        kept = self._kept.cpu()
        return Selection.of(
            kept[kept < self._total], self._total, scores=scores, entering=tuple(counts), notes=self._notes
        )
