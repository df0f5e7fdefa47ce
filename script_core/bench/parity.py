"""Whether the fast walks pick what the float64 reference picks: random kernels, and the cases that go wrong first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor

from script_core import dpp, kernels, similarity
from script_core.bench import inputs
from script_core.bench.tables import Cell

Walk = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Case:
    """Kernels that are walked together: features (B, n, d), relevance (B, n), k picks of each."""

    name: str
    features: Tensor
    relevance: Tensor
    k: int


@dataclass(frozen=True)
class Sizes:
    """`many` random kernels and `few` of every other case, of n tokens; one kernel of `large` tokens."""

    many: int
    few: int
    n: int
    large: int


def cases(sizes: Sizes) -> Iterator[Case]:
    few, n, made = sizes.few, sizes.n, torch.Generator().manual_seed(0)
    draw, part = partial(torch.randn, generator=made), partial(torch.rand, generator=made)
    k = _picks(n)
    clusters = inputs.features(sizes.many * n, n).view(sizes.many, n, -1)
    yield Case("random", clusters, part(sizes.many, n), k)
    yield Case("rank-deficient", draw(few, n, max(k // 2, 1)), part(few, n), k)
    yield Case("all equal", torch.ones(few, n, 4), torch.ones(few, n), k)
    yield Case("equal relevance", draw(few, n, n), torch.ones(few, n), k)
    yield Case("irrelevant", draw(few, n, n), torch.zeros(few, n), k)
    half = -(-n // 2)
    yield Case("every token twice", draw(few, half, n).repeat(1, 2, 1), part(few, half).repeat(1, 2), k)
    yield Case("one token", draw(few, 1, 4), part(few, 1), 1)
    yield Case("large", inputs.features(sizes.large, n)[None], part(1, sizes.large), min(k, _picks(sizes.large)))


def _picks(n: int) -> int:
    return max(n // 4, 1)  # no more than `kernels.FEW`, so that on a CPU the rows of the picks are computed alone


def agreeing(case: Case, walk: Walk, matrices: Tensor) -> tuple[int, float]:
    """In how many of a case's kernels `walk` makes the reference's picks, and how far gains are apart at most.

    walk: of (cosine matrices (B, n, n) float64, relevance (B, n) float64, k) -> order and gains, (B, k) each.
    """
    order, gains = (found.cpu() for found in walk(matrices, case.relevance.double(), case.k))
    same, apart = 0, 0.0
    for crop in range(len(order)):
        expected, value = dpp.greedy_walk(matrices[crop].numpy(), case.relevance[crop].double().numpy(), case.k)
        same += order[crop].tolist() == expected.tolist()
        apart = max(apart, float((gains[crop].double() - torch.from_numpy(value)).abs().max()))
    return same, apart


def parity(device: torch.device, sizes: Sizes) -> Iterator[dict[str, Cell]]:
    """Every case, from raw features and, where there is a kernel for it on the device, from the same matrix."""
    for case in cases(sizes):
        matrices = torch.stack([torch.from_numpy(similarity.gram(crop)) for crop in case.features])
        raw = agreeing(case, partial(_from_features, case.features.to(device)), matrices)
        same = agreeing(case, partial(_on_gpu, device), matrices) if _has_kernel(device) else None
        yield {
            "case": case.name,
            "device": device.type,
            "kernels": len(case.features),
            "tokens": case.features.shape[1],
            "picks": case.k,
            "same picks from the matrix": same and same[0],
            "largest difference of a gain": same and f"{same[1]:.0e}",
            "same picks from raw features": raw[0],
        }


def _from_features(features: Tensor, _: Tensor, relevance: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return kernels.greedy_map(features, relevance.to(features.device), k)


def _has_kernel(device: torch.device) -> bool:
    return device.type == "cuda" and find_spec("triton") is not None


def _on_gpu(device: torch.device, matrices: Tensor, relevance: Tensor, k: int) -> tuple[Tensor, Tensor]:
    from script_core.kernels.triton_walk import walk

    return walk(matrices.to(device), relevance.to(device).contiguous(), k, dpp.FLOOR)
