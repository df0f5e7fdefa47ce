"""SparseVLM v1 (ICML 2025, arXiv:2410.04417): the question's telling words rate visual tokens; dropped ones recycle.

1. raters     text tokens whose mean share in softmax(E_vis E_text^T) is above average, once, on input embeddings
2. prune      after three layers: attention of the raters to each visual token in that layer, mean over heads and raters
3. recycle    the better part of what is dropped is clustered (DPC-KNN); each cluster's mean joins the kept tokens

Authors' code: cluster densities get random noise. Here: none, so that a run can be repeated.
Authors: the configurations are named by the mean of tokens leaving each layer. Here: at their 64, 96, 128 and 192 (of
576, 32 layers) their schedules as published, which 82.25, 114.1, 145.4 and 206.5 tokens enter on average; the note says
so. Every other budget means tokens entering, by a schedule of ours in the proportion of their largest one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from script_core.pruners.base import CannotPrune, Cut, InsideRun, LayerView, check_budget, highest_first
from script_core.pruners.inside import DEPTH, Run, at_depth, entering, image_columns, over_heads, precise, top, where
from script_core.tokens import Query, VisualTokens

CUTS = (3, 7, 16)  # before these layers, that is after layers 2, 6 and 15
PUBLISHED = {192: (300, 200, 110), 128: (303, 110, 36), 96: (238, 48, 26), 64: (66, 30, 17)}  # of 576, 32 layers
SHAPE = (300, 200, 110)
RECYCLED = 0.3
PER_CLUSTER = 10


@dataclass(frozen=True)
class SparseVLM:
    """adaptive: keep as many tokens as the rank of the raters' attention instead of the schedule's number."""

    adaptive: bool = False

    name: ClassVar[str] = "sparsevlm"
    title: ClassVar[str] = "SparseVLM"
    acts: ClassVar[str] = "inside"
    reads_question: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"in_model"})

    def schedule(self, budget: int, total: int, layers: int) -> tuple[int, ...]:
        kept, _ = plan(budget, total, layers)
        return _counts(tuple(kept.values()), total, tuple(kept), layers)

    def begin(self, tokens: VisualTokens, query: Query, budget: int, layers: int) -> InsideRun:
        kept, published = plan(budget, len(tokens), layers)
        counts = self.schedule(budget, len(tokens), layers)
        average = round(sum(counts) / layers, 2)
        note = (
            f"The authors' configuration for {budget} (named by tokens leaving each layer); {average} enter on average."
            if published
            else f"A schedule of ours in the authors' proportions; {average} tokens enter a layer on average."
        )
        if self.adaptive:
            note = f"The rank of the raters' attention chose the counts; the budget of {budget} was not used."
        return SparseRun(len(tokens), layers, kept, self.adaptive, (note,) if kept else ())


class SparseRun(Run):
    """Prunes by the raters' attention and recycles. Recycled rows are visual rows and may be pruned later."""

    def __init__(self, total: int, layers: int, plan: dict[int, int], adaptive: bool, notes: tuple[str, ...]) -> None:
        super().__init__(total, layers, plan, self._relation, "compact", notes)
        self._adaptive = adaptive
        self._raters: Tensor | None = None  # which of the text rows behind the picture rate: (t,) bool

    def cut(self, view: LayerView) -> Cut | None:
        if self._raters is None and self._plan:
            text = view.inputs[len(view.inputs) - view.behind :]
            self._raters = _rating(view.inputs[where(view.visual, view.count)], text)[1]
        return super().cut(view)

    def _relation(self, view: LayerView, rows: Tensor) -> Tensor:
        """Every text row's attention is computed and the raters' is used: how many rate, only the device knows."""
        if self._raters is None:
            raise RuntimeError("SparseVLM rates before its raters are known")
        length = len(view.hidden)
        asked = torch.arange(length - view.behind, length, device=rows.device)
        rate = self._raters.to(rows.device)
        self._attention = over_heads(view.attention(asked))[:, rows] * rate[:, None]
        return self._attention.sum(dim=0) / rate.sum()

    def choose(self, view: LayerView, rows: Tensor, keep: int) -> Tensor:
        self.scores = self._relation(view, rows)
        if self._adaptive:
            keep = max(1, int(torch.linalg.matrix_rank(self._attention)))
        return top(self.scores, min(keep, len(rows) - 1))

    def merge(self, view: LayerView, rows: Tensor, chosen: Tensor) -> Tensor | None:
        dropped = torch.ones_like(rows, dtype=torch.bool).index_fill_(0, chosen, False)
        left = where(dropped, len(rows) - len(chosen))
        return recycle(view.hidden[rows[left]], self.scores[left]).to(view.hidden)


def plan(budget: int, total: int, layers: int) -> tuple[dict[int, int], bool]:
    """Layer -> visual tokens kept there (before recycling), and whether the authors published this schedule.

    Raises `CannotPrune` if the layers before the first cut alone exceed the budget.
    """
    budget = check_budget(budget, total)
    if budget == total:
        return {}, True
    cuts = at_depth(CUTS, layers)
    if layers == DEPTH and total == 576 and budget in PUBLISHED:
        return dict(zip(cuts, PUBLISHED[budget], strict=True)), True
    low, high = 0.0, float(total)
    for _ in range(60):
        scale = (low + high) / 2
        short = sum(_counts(_scaled(scale, total), total, cuts, layers)) < layers * budget
        low, high = (scale, high) if short else (low, scale)
    kept = min(
        (_scaled(scale, total) for scale in (low, high)),
        key=lambda kept: abs(sum(_counts(kept, total, cuts, layers)) - layers * budget),
    )
    reached = sum(_counts(kept, total, cuts, layers)) / layers
    if reached > budget + 0.5:
        raise CannotPrune(
            f"SparseVLM cannot average {budget} visual tokens: its first {cuts[0]} of {layers} layers see all {total}, "
            f"which alone makes an average of {cuts[0] * total / layers:g}, and recycled tokens bring it to "
            f"{reached:.0f}."
        )
    return dict(zip(cuts, kept, strict=True)), False


def _scaled(scale: float, total: int) -> tuple[int, ...]:
    """Tokens kept at each cut: the authors' proportions times `scale`, at least 1, one fewer than before at most."""
    kept, current = [], total
    for share in SHAPE:
        keep = max(1, min(round(scale * share), current - 1))
        kept.append(keep)
        current = keep + recycled(current - keep)
    return tuple(kept)


def _counts(kept: tuple[int, ...], total: int, cuts: tuple[int, ...], layers: int) -> tuple[int, ...]:
    """Visual tokens that enter each layer, recycled ones included."""
    plan, current = {}, total
    for cut, keep in zip(cuts, kept, strict=True):
        current = keep + recycled(current - keep)
        plan[cut] = current
    return entering(plan, total, layers)


def recycled(dropped: int) -> int:
    """How many tokens `recycle` makes of so many dropped ones."""
    return (int(RECYCLED * dropped) + 1) // PER_CLUSTER + 1 if dropped > 0 else 0


def raters(visual_embeds: Tensor, text_embeds: Tensor) -> tuple[Tensor, Tensor]:
    """Text tokens that may rate: visual_embeds (n, d), text_embeds (t, d) -> scores (t,) float32, indices ascending.

    If no score is above the average (they are all equal), every text token rates.
    """
    scores, rating = _rating(visual_embeds, text_embeds)
    return scores.to("cpu", torch.float32), torch.nonzero(rating).flatten().cpu()


def _rating(visual: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (t,) and whether each text token may rate (t,) bool, on the device."""
    visual, text = (rows.detach().to(precise(rows)) for rows in (visual, text))
    scores = torch.softmax(visual @ text.T, dim=1).mean(dim=0)
    above = scores > scores.mean()
    return scores, above | ~above.any()


def prune(attention: Tensor, raters: Tensor, start: int, n: int, keep: int) -> tuple[Tensor, Tensor]:
    """Rate and cut: attention (H, T_text, L) of the text rows, raters among those rows, image at [start, start + n).

    Returns relation (n,) float32 and the kept indices into the image, ascending: `min(keep, n - 1)` of them.
    Raises ValueError if the image lies outside the sequence or nothing rates.
    """
    if not len(raters):
        raise ValueError("at least one text row must rate the visual tokens")
    relation = image_columns(over_heads(attention)[raters.cpu()].mean(dim=0), start, n, min(keep, n))
    return relation.to(torch.float32), top(relation, min(keep, n - 1))


def recycle(layer_output_of_dropped: Tensor, relation_of_dropped: Tensor) -> Tensor:
    """Merge the better part of the dropped tokens: states (r, d), relation (r,) -> (c, d) float32.

    Of the int(0.3 r) + 1 tokens of highest relation, DPC-KNN finds int(that / 10) + 1 centres: dense tokens (small mean
    squared distance to their nearest neighbours) that are far from any denser one. Each token joins its nearest centre.
    Raises ValueError if the two are not of one length.
    """
    states, relation = layer_output_of_dropped.detach(), relation_of_dropped.detach()
    if len(states) != len(relation):
        raise ValueError(f"{len(states)} dropped tokens have {len(relation)} relations")
    if not len(relation):
        return states.float()
    best = highest_first(relation)[: int(RECYCLED * len(relation)) + 1]
    tokens = states[best].to(precise(states))
    clusters = len(best) // PER_CLUSTER + 1
    distance = torch.cdist(tokens, tokens, compute_mode="donot_use_mm_for_euclid_dist") / tokens.shape[1] ** 0.5
    nearest = torch.sort(distance, dim=1).values[:, :clusters]
    density = torch.exp(-nearest.square().mean(dim=1))
    denser = density[None, :] > density[:, None]
    to_denser = torch.where(denser, distance, distance.max()).amin(dim=1)
    centres = highest_first(density * to_denser)[:clusters]
    joined = distance[:, centres].argmin(dim=1)
    joined[centres] = torch.arange(clusters, device=joined.device)
    total = torch.zeros_like(tokens[:clusters]).index_add_(0, joined, tokens)
    size = total.new_zeros(clusters).index_add_(0, joined, torch.ones_like(relation[: len(best)], dtype=total.dtype))
    return (total / (size[:, None] + 1e-6)).to(torch.float32)
