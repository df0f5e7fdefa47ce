"""Conditional DPP: exact greedy MAP of det(diag(r) S diag(r)), Eq. 10-11, by incremental Cholesky (Chen et al. 2018).

`r` is relevance and `S` cosine similarity, so the determinant grows with tokens that matter and differ. A token's
residual `v2` is the factor by which picking it would multiply the determinant. Each step

1. picks the token with the largest residual (lowest index on a tie, see `similarity.TIE`),
2. computes its Cholesky row `e = (L_j - C_j C) / sqrt(v2_j)`, one matrix-vector product, O(n t) at step t,
3. subtracts `e^2` from every residual.

The order is nested: the first k picks of a longer walk are the picks of a walk of k.

Paper: an epsilon inside the square root. Here: none; the walk stops at a relative floor instead, which is what makes
the sum of log gains equal the log determinant of the picked sub-kernel at every prefix.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from script_core.similarity import TIE, Rows, array, gram

# Below this share of the first gain a residual is rounding noise: the budget exceeds the kernel's numerical rank, or
# only tokens of no relevance are left.
FLOOR = 1e-6

# A matrix-vector product of fewer elements stays on one BLAS thread. Waking a second one for each step's 50
# microseconds gains little, and on a busy machine the two wait for each other a hundred times longer than they work.
UNTHREADED = 1 << 18


def greedy_map(features: Tensor, relevance: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Pick `min(k, n)` tokens: features (n, d) raw, relevance (n,) >= 0 -> order (k,) int64, gains (k,) float32.

    gains are the residuals at each pick; picks after the rank is exhausted go by relevance, descending, with gain 0.
    Raises ValueError if the shapes do not match or `k` is negative.
    """
    if features.ndim != 2 or relevance.shape != features.shape[:1]:
        raise ValueError(
            f"greedy_map needs features (n, d) and relevance (n,), got {tuple(features.shape)} and "
            f"{tuple(relevance.shape)}"
        )
    order, gains = greedy_walk(gram(features), array(relevance), k)
    return torch.from_numpy(order), torch.from_numpy(gains.astype(np.float32))


def greedy_walk(rows: Rows, relevance: np.ndarray, k: int, floor: float = FLOOR) -> tuple[np.ndarray, np.ndarray]:
    """`greedy_map` over a cosine matrix that is already there: rows (n, n), relevance (n,) float64 -> order, gains.

    `floor`: the share of the first gain at which a residual counts as used up.
    """
    if k < 0:
        raise ValueError(f"the number of tokens to pick must not be negative, got {k}")
    total = len(rows)
    steps = min(k, total)
    relevance = usable(relevance)
    picks, gains = _cholesky(rows, relevance, steps, floor)
    order = np.concatenate([picks, _by_relevance(relevance, picks)])[:steps]
    return order, np.concatenate([gains, np.zeros(steps - len(gains))])


def usable(relevance: np.ndarray) -> np.ndarray:
    """Relevance (n,) in float64, with 0 for NaN and for what is infinite or would be once it is squared."""
    values = np.asarray(relevance, dtype=np.float64)
    with np.errstate(over="ignore"):
        return np.where(np.isfinite(values * values), values, 0.0)


def _cholesky(rows: Rows, relevance: np.ndarray, steps: int, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """The walk itself, until `steps` or the numerical rank is reached."""
    total = len(relevance)
    picks, gains = np.empty(steps, dtype=np.int64), np.empty(steps)
    factor = np.empty((steps, total))  # row t is the t-th pick's Cholesky row: contiguous, so step t is one gemv
    squared = np.empty(total)
    residual = relevance * relevance * rows.diagonal()
    limit = slack = 0.0
    for step in range(steps):
        gain = float(residual.max())
        if gain <= limit:
            return picks[:step], gains[:step]
        if step == 0:
            limit, slack = floor * gain, TIE * gain
        best = int((residual >= gain - slack).argmax())
        row = factor[step]
        np.multiply(rows[best], relevance, out=row)
        row *= relevance[best]
        if step:
            _project(row, factor[:step], best)
        row /= gain**0.5
        residual -= np.multiply(row, row, out=squared)
        residual[best] = -np.inf
        picks[step], gains[step] = best, gain
    return picks, gains


def _project(row: np.ndarray, factor: np.ndarray, best: int) -> None:
    """Subtract from `row` (n,) what the earlier picks' rows (t, n) explain of pick `best`."""
    weights = np.ascontiguousarray(factor[:, best])
    width = UNTHREADED // len(factor) + 1
    for start in range(0, len(row), width):
        row[start : start + width] -= weights @ factor[:, start : start + width]


def _by_relevance(relevance: np.ndarray, picked: np.ndarray) -> np.ndarray:
    """Every index not picked, most relevant first, lowest index first among equals."""
    left = np.ones(len(relevance), dtype=bool)
    left[picked] = False
    order = np.argsort(-relevance, kind="stable")
    return order[left[order]]
