"""PyramidDrop (CVPR 2025, arXiv:2410.17247): drop a share of the visual tokens at three depths.

At each stage, before layer l runs: attention of the last prompt token to each visual token by layer l's own input
norm, queries and keys; mean over heads; the top tokens stay, and positions are renumbered.

Authors: before layers 8, 16 and 24 of 32, each keeping half (an average of 270 of 576), and no published schedule for
smaller averages. Here, ours: the ratio that gives the budget, at those layers if it stays above `SMALLEST`, else with
all three stages moved to the front in proportion.
Authors' code: computes q, k and v of all tokens for this. Here: one query row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from script_core.pruners.base import CannotPrune, InsideRun, LayerView, check_budget
from script_core.pruners.inside import Run, entering, image_columns, over_heads, top
from script_core.tokens import Query, VisualTokens

# Each stage keeps at least this share, if an earlier first stage makes that possible.
SMALLEST = 0.25
PUBLISHED = 0.5


@dataclass(frozen=True)
class PDrop:
    """No parameters: the schedule follows from the budget."""

    name: ClassVar[str] = "pdrop"
    title: ClassVar[str] = "PyramidDrop"
    acts: ClassVar[str] = "inside"
    reads_question: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"in_model"})

    def schedule(self, budget: int, total: int, layers: int) -> tuple[int, ...]:
        return entering(plan(budget, total, layers)[0], total, layers)

    def begin(self, tokens: VisualTokens, query: Query, budget: int, layers: int) -> InsideRun:
        stages, ratio = plan(budget, len(tokens), layers)
        places = ", ".join(f"{count} before layer {layer}" for layer, count in stages.items())
        published = abs(ratio - PUBLISHED) < 1e-3 and min(stages, default=0) == layers // 4
        whose = "the authors' default" if published else "a schedule of ours, the authors published none for it"
        notes = (f"{places[0].upper()}{places[1:]}: {whose}.",) if stages else ()
        return Run(len(tokens), layers, stages, next_last_row, "compact", notes)


def plan(budget: int, total: int, layers: int) -> tuple[dict[int, int], float]:
    """Layer -> visual tokens that enter it, and the ratio kept at each stage.

    Raises `CannotPrune` if the layers before the first stage alone exceed the budget.
    """
    budget = check_budget(budget, total)
    if budget == total:
        return {}, 1.0
    if layers < 4:
        raise CannotPrune(f"PyramidDrop needs at least 4 layers for its three stages, and the model has {layers}.")
    target = budget / total
    for first in range(layers // 4, 0, -1):
        ratio = _ratio(target, first / layers)
        if ratio >= SMALLEST or (first == 1 and ratio > 0):
            counts = [max(1, round(total * ratio**stage)) for stage in (1, 2, 3)]
            spent = first * (total + counts[0] + counts[1])
            last = round((layers * budget - spent) / (layers - 3 * first))
            counts[2] = min(max(1, last), counts[1])  # the deepest stage takes up what rounding left
            if spent + counts[2] * (layers - 3 * first) - layers * budget <= layers / 2:
                return {first * stage: count for stage, count in zip((1, 2, 3), counts, strict=True)}, ratio
    raise CannotPrune(
        f"PyramidDrop cannot average {budget} visual tokens: the layers before its first stage see all {total}, so "
        f"with {layers} layers the average stays above {total / layers:.0f}."
    )


def _ratio(target: float, first: float) -> float:
    """The ratio r for which stages of `first` of the depth average `target`; 0 if even r = 0 is too much."""
    low, high = 0.0, 1.0
    for _ in range(60):
        ratio = (low + high) / 2
        average = first * (1 + ratio + ratio**2) + (1 - 3 * first) * ratio**3
        low, high = (ratio, high) if average < target else (low, ratio)
    return low


def next_last_row(view: LayerView, rows: Tensor) -> Tensor:
    """Attention of the last prompt token to the visual rows by the layer about to run, mean over heads."""
    last = torch.arange(len(view.hidden) - 1, len(view.hidden), device=rows.device)
    return over_heads(view.attention(last, of_next=True))[0][rows]


def rank(
    hidden: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    heads: int,
    start: int,
    n: int,
    keep: int,
    rms_eps: float,
    rope_base: float,
) -> Tensor:
    """Patches that stay, ascending, as indices into the image at [start, start + n).

    hidden (1, L, d): states that enter the layer, before its input norm (of unit weight; fold another weight into the
    columns of q_weight and k_weight). q_weight (heads * h, d), k_weight (key heads * h, d) where key heads divide
    heads. Positions are 0 to L - 1. Raises ValueError if the image lies outside the sequence or has fewer than `keep`
    patches.
    """
    states = hidden[0].detach().to("cpu", torch.float32)
    states = states * torch.rsqrt(states.pow(2).mean(dim=-1, keepdim=True) + rms_eps)
    length, size = len(states), q_weight.shape[0] // heads
    queries = (states[-1:] @ q_weight.detach().cpu().float().T).view(1, heads, size).transpose(0, 1)
    keys = (states @ k_weight.detach().cpu().float().T).view(length, -1, size).transpose(0, 1)
    position = torch.arange(length)
    queries, keys = _rotate(queries, position[-1:], rope_base), _rotate(keys, position, rope_base)
    keys = keys.repeat_interleave(heads // len(keys), dim=0)
    attention = torch.softmax(queries @ keys.transpose(1, 2) / size**0.5, dim=-1)[:, 0]
    return top(image_columns(over_heads(attention), start, n, keep), keep)


def _rotate(states: Tensor, position: Tensor, base: float) -> Tensor:
    """Rotary embedding, half against half: states (heads, L, h), position (L,)."""
    half = states.shape[-1] // 2
    angle = position[:, None] / base ** (torch.arange(half) / half)
    cos, sin = angle.cos(), angle.sin()
    left, right = states[..., :half], states[..., half:]
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)
