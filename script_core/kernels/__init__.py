"""Faster forms of the greedy walk and the graph score: same signatures as the plain ones, same results, tested so.

`greedy_map` picks the fastest exact form for what it is given; `redundancy` never holds an n x n matrix. Nothing here
is needed for a correct answer: `dpp` and `graph` are the definitions, and the CPU path ends in them.

Unmeasured on hardware: the CUDA kernels compile for it, and have been run by Triton's interpreter only.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from script_core.dpp import FLOOR, greedy_walk, usable
from script_core.kernels import foreseen
from script_core.kernels.graph_score import redundancy as redundancy
from script_core.similarity import array, gram, unit

# Below this share of the tokens, computing the rows of the picks alone beats the whole matrix (measured, see NOTES.md).
FEW = 1 / 4


def greedy_map(features: Tensor, relevance: Tensor, k: int, floor: float = FLOOR) -> tuple[Tensor, Tensor]:
    """Exact greedy MAP of det(diag(r) cos(X, X) diag(r)), Eq. 10-11, for one crop or a batch of equal ones.

    features (n, d) or (B, n, d), relevance (n,) or (B, n) -> order (..., min(k, n)) int64 and gains of the same shape,
    float32, both on the device of `features`. As `dpp.greedy_map`: ties go to the lowest index, picks beyond the
    numerical rank go by relevance with gain 0, cosines and residuals are float64 whatever the features are.
    CUDA tensors are walked by Triton kernels where Triton is installed, everything else on the CPU.
    Raises ValueError if the shapes do not match or `k` is negative.
    """
    if features.ndim not in (2, 3) or relevance.shape != features.shape[:-1]:
        raise ValueError(
            f"greedy_map needs features (n, d) or (B, n, d) and relevance (n,) or (B, n), got {tuple(features.shape)} "
            f"and {tuple(relevance.shape)}"
        )
    if k < 0:
        raise ValueError(f"the number of tokens to pick must not be negative, got {k}")
    crops, weights = (features, relevance) if features.ndim == 3 else (features[None], relevance[None])
    shape = (*features.shape[:-2], min(k, features.shape[-2]))
    if not features.is_cuda or find_spec("triton") is None or 0 in (*crops.shape[:2], k):
        pairs = [_on_host(crop, weight, k, floor) for crop, weight in zip(crops, weights, strict=True)]
        order = torch.from_numpy(np.array([picks for picks, _ in pairs], dtype=np.int64)).reshape(shape)
        gains = torch.from_numpy(np.array([gain for _, gain in pairs], dtype=np.float32)).reshape(shape)
        return order.to(features.device), gains.to(features.device)
    order, gains = _on_device(crops, weights, shape[-1], floor)
    return order.reshape(shape), gains.float().reshape(shape)


def _on_host(features: Tensor, relevance: Tensor, k: int, floor: float) -> tuple[np.ndarray, np.ndarray]:
    weight = usable(array(relevance))
    # Equal weights leave the picks to differences that float32 may not see; a wrong guess costs more than it saves.
    if 0 < k <= FEW * len(weight) and weight.min() < weight.max():
        return foreseen.walk(features.cpu(), weight, k, floor)
    return greedy_walk(gram(features), weight, k, floor)


def _on_device(features: Tensor, relevance: Tensor, k: int, floor: float) -> tuple[Tensor, Tensor]:
    """The same on a CUDA device, with no word to the host: (B, n, d) and (B, n) -> (B, k) twice."""
    from script_core.kernels.triton_walk import walk

    rows = unit(features)
    cosine = rows @ rows.transpose(1, 2)
    diagonal = cosine.diagonal(dim1=1, dim2=2)
    diagonal.copy_(diagonal > 0.5)
    weight = relevance.detach().to(features.device, torch.float64)
    weight = torch.where(torch.isfinite(weight * weight), weight, 0.0).contiguous()  # as `dpp.usable`
    return walk(cosine, weight, k, floor)
