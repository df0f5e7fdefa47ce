"""One walk from raw features on the CPU, without the whole cosine matrix.

A walk of k picks reads k of its n rows, so with k << n a full float64 matrix is mostly wasted, while asking for one row
at a time reads all features k times over. Two observations leave little to compute:

* A residual only ever shrinks, and it starts at r_i^2. So a token whose r_i^2 is below the gain of the last pick was
  never picked: the walk over the m most relevant tokens is the walk over all n if its last gain says so.
* Which rows will be asked for is almost always known in advance, from a walk in float32.

1. take the m most relevant tokens, their float32 matrix, and walk: a guess                   m^2 d, in float32
2. if the last gain is too low to rule the others out, take more tokens and repeat
3. compute the guessed rows in float64 together, as one product, and walk on them             m k d, in float64
4. a row that was not guessed is computed when it is asked for; again check the last gain

Products are torch's: numpy's would wake a second set of threads, and on two cores the two sets wait for each other ten
times longer than they work. The guess decides only what is computed together. Every number that the walk sees is the
float64 one, so the order is that of the full float64 matrix whatever the guess was.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from script_core.dpp import greedy_walk, usable
from script_core.similarity import TIE, array, unit

# Tokens taken at first, per pick.
START = 3

# Tokens per float64 block: 256 x 4,096 values are 8 MiB, which stay in a core's cache while they are used.
BLOCK = 256


def walk(features: Tensor, relevance: np.ndarray, k: int, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """`dpp.greedy_walk` over the cosines of `features` (n, d) on the CPU: relevance (n,) float64, 1 <= k <= n."""
    relevance = usable(relevance)  # a power that is not finite would never be ruled out
    power = relevance * relevance
    size = START * k
    while True:
        inside, bound = _strongest(power, size)
        some, weight = (
            (features if len(inside) == len(features) else features[torch.from_numpy(inside)]),
            relevance[inside],
        )
        nonzero, guess, last = _guess(some, weight, k, floor)
        if last > bound:
            order, gains = greedy_walk(ForeseenRows(some, nonzero, guess), weight, k, floor)
            if gains[-1] - TIE * gains[0] > bound:  # none of the others was even a tie
                return inside[order], gains
        size = max(2 * size, int((power >= last).sum()))


class ForeseenRows:
    """Float64 cosine rows of `features` (n, d), the guessed ones at hand; `nonzero` (n,) is the diagonal."""

    def __init__(self, features: Tensor, nonzero: np.ndarray, guess: np.ndarray) -> None:
        self._features = features
        self._nonzero = nonzero
        self._place = {int(token): place for place, token in enumerate(guess)}
        self._rows = self._exact(guess)

    def __len__(self) -> int:
        return len(self._features)

    def __getitem__(self, index: int, /) -> np.ndarray:
        place = self._place.get(index)
        return self._exact(np.array([index]))[0] if place is None else self._rows[place]

    def diagonal(self) -> np.ndarray:
        return self._nonzero

    def _exact(self, tokens: np.ndarray) -> np.ndarray:
        """Rows (len(tokens), n) in float64."""
        picked = unit(self._features[torch.from_numpy(tokens)])
        rows = np.empty((len(tokens), len(self)))
        for start in range(0, len(self), BLOCK):
            rows[:, start : start + BLOCK] = (picked @ unit(self._features[start : start + BLOCK]).T).numpy()
        return rows


def _strongest(power: np.ndarray, size: int) -> tuple[np.ndarray, float]:
    """The `size` tokens with the largest `power`, by index, and the largest power left out (-inf if none is)."""
    if size >= len(power):
        return np.arange(len(power)), -np.inf
    order = np.argpartition(-power, size)
    return np.sort(order[:size]), float(power[order[size]])


def _guess(features: Tensor, relevance: np.ndarray, k: int, floor: float) -> tuple[np.ndarray, np.ndarray, float]:
    """The diagonal of the cosine matrix, and the picks and last gain of a walk over its float32 version."""
    rows = features.detach().float().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    rows = rows.div_(length.clamp_min(1e-30))
    cosine: np.ndarray = (rows @ rows.T).numpy()
    nonzero = (array(length)[:, 0] > 0).astype(np.float64)
    np.fill_diagonal(cosine, nonzero)
    picks, gains = greedy_walk(cosine, relevance, k, floor)
    return nonzero, picks, float(gains[-1])
