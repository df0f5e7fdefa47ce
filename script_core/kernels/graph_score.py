"""The GSP score of `graph` in one pass over strips of the bipartite graph, on any device.

The score of a token needs only sums over its edges: how many, their cosines, and all cosines. So the graph is computed
one strip of even tokens at a time, its sums are added to both sides, and the strip is dropped: STRIP x n / 2 values at
once instead of n^2 / 4, and nothing is asked of the host.
"""

from __future__ import annotations

import torch
from torch import Tensor

from script_core.graph import ROUNDING, connected
from script_core.similarity import unit

STRIP = 512  # even tokens at once


def redundancy(features: Tensor, tau: float, gamma: float) -> Tensor:
    """`graph.redundancy` without its matrix: features (n, d) or (B, n, d) -> (n,) or (B, n) float32, on their device.

    Raises ValueError for any other shape.
    """
    if features.ndim not in (2, 3):
        raise ValueError(f"redundancy needs features (n, d) or (B, n, d), got {tuple(features.shape)}")
    rows = unit(features)
    even, odd = rows[..., 0::2, :], rows[..., 1::2, :]
    # degree, sum over neighbours, sum over everyone
    sums = rows.new_zeros(3, *rows.shape[:-1])
    for start in range(0, even.shape[-2], STRIP):
        cosine = even[..., start : start + STRIP, :] @ odd.transpose(-1, -2)
        edge = cosine >= tau - ROUNDING
        near = torch.where(edge, cosine, 0.0)
        strip = sums[..., 2 * start : 2 * (start + cosine.shape[-2]) : 2]
        for row, values in enumerate((edge, near, cosine)):
            strip[row] = values.sum(dim=-1)
            sums[row, ..., 1::2] += values.sum(dim=-2)
    degree, near, everyone = sums
    facing = torch.full_like(degree, max(odd.shape[-2], 1))
    facing[..., 1::2] = even.shape[-2]
    scores = connected(degree, near / degree.clamp_min(1), tau, gamma)
    return torch.where(degree > 0, scores, everyone / facing).float()
