"""Cosine similarity between visual tokens, computed once per encoding.

Neither the question nor a slider changes how similar two tokens are, so everything derived from the features alone is
kept beside its `VisualTokens` for as long as that object lives, and goes with it. Cosines are taken in float64: the
greedy walk subtracts nearly equal numbers, and float32 would let rounding choose between tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from script_core.derived import derived
from script_core.tokens import VisualTokens

# A dense 4,096-token matrix is 128 MiB. Beyond that rows are computed when the walk asks for them.
DENSE_LIMIT = 4096

# From this many tokens on, computing one triangle only saves more than waking numpy's own threads beside torch's costs.
TRIANGLE = 1024

# Cosines, or shares of a walk's first gain, that differ by less are equal: the same token twice comes out of matrix
# products up to 4e-15 apart (measured, see NOTES.md), differently on every machine, and the lowest index is to win.
TIE = 1e-13


def unit(features: Tensor) -> Tensor:
    """Rows (..., d) scaled to length 1 in float64. A zero row stays zero; a value that is not finite counts as 0."""
    rows = features.detach().to(torch.float64, copy=True)
    rows.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
    return rows.div_(torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp_min(1e-30))


def array(tensor: Tensor) -> np.ndarray:
    """A float64 array on the host, where walks run."""
    return tensor.detach().to("cpu", torch.float64).contiguous().numpy()


def gram(features: Tensor) -> np.ndarray:
    """Cosine of every pair of rows: (n, d) -> (n, n) float64, exactly symmetric, on the host.

    The diagonal is exactly 1, or 0 for a zero row: equal relevance is then a tie, which the lowest index wins, and not
    a contest of rounding errors.
    """
    rows = unit(features)
    if rows.is_cuda:
        cosine = array(rows @ rows.T)
    elif len(rows) < TRIANGLE:
        upper = torch.triu(rows @ rows.T)
        cosine = array(upper + torch.triu(upper, 1).T)
    else:
        host = array(rows)
        cosine = host @ host.T  # numpy sees the same matrix twice and computes one triangle
    np.fill_diagonal(cosine, cosine.diagonal() > 0.5)
    return cosine


def first_largest(values: np.ndarray, scale: float = 1.0) -> int:
    """The lowest index among the values (n,) that equal the largest one, see `TIE`; `scale` is what they began at."""
    largest = float(values.max())
    return int((values >= largest - TIE * max(scale, abs(largest))).argmax())


class Rows(Protocol):
    """What the greedy walk reads of a symmetric matrix."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray: ...

    def diagonal(self) -> np.ndarray: ...


class LazyRows:
    """The rows of a cosine matrix too large to hold; row i is computed from the unit features (n, d) on demand."""

    def __init__(self, features: Tensor) -> None:
        self._unit = array(unit(features))

    def __len__(self) -> int:
        return len(self._unit)

    def __getitem__(self, index: int, /) -> np.ndarray:
        return self._unit @ self._unit[index]

    def diagonal(self) -> np.ndarray:
        return np.asarray(self._unit.any(axis=1), dtype=np.float64)  # exactly 1, as in `gram`


@dataclass(frozen=True, eq=False)
class Similarity:
    """Cosine matrices of a partition of the tokens. members: the tokens of each block; rows: each block's matrix."""

    members: tuple[Tensor, ...]
    rows: tuple[Rows, ...]


def per_block(features: Tensor, members: Sequence[Tensor]) -> Similarity:
    """The cosine matrix of each block of `features` (n, d); `members` lists each block's token indices."""
    made: list[Rows] = []
    for index in members:
        block = features[index.to(features.device)]
        made.append(gram(block) if len(block) <= DENSE_LIMIT else LazyRows(block))
    return Similarity(tuple(members), tuple(made))


def members(tokens: VisualTokens, scope: str) -> tuple[Tensor, ...]:
    """The blocks in which a selection is made: every crop or frame for "crop", one block of all for "global"."""
    if scope == "crop":
        return tuple(tokens.grid.members())
    if scope == "global":
        return (torch.arange(len(tokens)),)
    raise ValueError(f'scope must be "crop" or "global", got {scope!r}')


def on_gpu(tokens: VisualTokens) -> bool:
    """Whether selection runs where the tokens are, on a GPU, instead of on the host."""
    return tokens.features.is_cuda


def by_size(members: Sequence[Tensor]) -> list[tuple[list[int], Tensor]]:
    """Blocks of the same size together, for one launch each: their places in `members` and their tokens (B, n)."""
    places: dict[int, list[int]] = {}
    for place, index in enumerate(members):
        places.setdefault(len(index), []).append(place)
    return [(group, torch.stack([members[place] for place in group])) for size, group in places.items() if size]


def of(tokens: VisualTokens, scope: str) -> Similarity:
    """`per_block` over the tokens' scope, computed once per encoding."""
    return derived(tokens, ("similarity", scope), lambda: per_block(tokens.features, members(tokens, scope)))
