"""The yardstick: greedy MAP as one would first write it in torch, float32, one Python step per pick."""

from __future__ import annotations

import torch
from torch import Tensor


def plain_map(features: Tensor, relevance: Tensor, k: int) -> Tensor:
    """Picks of every crop in turn: features (B, n, d), relevance (B, n) -> (B, k)."""
    return torch.stack([_walk(kernel(*crop), k) for crop in zip(features, relevance, strict=True)])


def kernel(features: Tensor, relevance: Tensor) -> Tensor:
    """diag(r) cos(X, X) diag(r), (n, n)."""
    rows = torch.nn.functional.normalize(features.float(), dim=-1)
    return relevance[:, None] * (rows @ rows.T) * relevance[None]


def _walk(matrix: Tensor, k: int) -> Tensor:
    residual = matrix.diagonal().clone()
    factor = torch.zeros(k, len(matrix), device=matrix.device)
    picks = torch.zeros(k, dtype=torch.int64, device=matrix.device)
    for step in range(k):
        best = residual.argmax()
        picks[step] = best
        row = (matrix[best] - factor[:step, best] @ factor[:step]) / residual[best].clamp_min(1e-12).sqrt()
        factor[step] = row
        residual -= row.square()
        residual[best] = -torch.inf
    return picks
