"""Greedy DPP orders of a whole encoding, kept beside it: tau, gamma, p and the budget reuse them."""

from __future__ import annotations

import torch
from torch import Tensor

from script_core import dpp, kernels, similarity
from script_core.derived import derived
from script_core.tokens import VisualTokens

# Blocks up to this size are walked to their end, so that the page can move the budget by itself. Larger ones are
# walked this far, or until the budget is met, twice as far each time.
REACH = 1024


def walks(
    tokens: VisualTokens, scope: str, weight: Tensor, reach: int = REACH, floor: float = dpp.FLOOR
) -> tuple[Tensor, ...]:
    """The first `reach` picks of each block's greedy order, as token indices.

    The question matters through `weight` (n,) alone, so equal weights share one walk.
    """

    def build() -> tuple[Tensor, ...]:
        blocks = similarity.members(tokens, scope)
        if similarity.on_gpu(tokens) and max(map(len, blocks)) <= similarity.DENSE_LIMIT:
            return _on_device(tokens.features, blocks, weight, reach, floor)
        known = similarity.of(tokens, scope)
        orders = []
        for index, rows in zip(known.members, known.rows, strict=True):
            order, _ = dpp.greedy_walk(rows, similarity.array(weight[index]), reach, floor)
            orders.append(index[torch.from_numpy(order)])
        return tuple(orders)

    return derived(tokens, ("walks", scope, reach, floor, weight.numpy().tobytes()), build)


def _on_device(
    features: Tensor, blocks: tuple[Tensor, ...], weight: Tensor, reach: int, floor: float
) -> tuple[Tensor, ...]:
    """The orders where the features lie on a GPU: one launch for all blocks of a size, and only the picks come back."""
    orders = list(blocks)
    for places, index in similarity.by_size(blocks):
        picks, _ = kernels.greedy_map(features[index.to(features.device)], weight[index], reach, floor)
        for place, order in zip(places, picks.cpu(), strict=True):
            orders[place] = blocks[place][order]
    return tuple(orders)
