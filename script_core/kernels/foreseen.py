"""One walk from raw features on the CPU: guess the picks in float32, then walk on float64 rows of the guess.

A walk of k picks reads k rows of the cosine matrix, so with k << n a full float64 matrix is mostly wasted, while asking
for one row at a time reads all features k times over. Which rows will be asked for is almost always known in advance:

1. the float32 matrix, one triangle, and a walk over it give a guess of the k picks      n^2 d / 2, in float32
2. the guessed rows are computed in float64 together, as one product                      n k d, in float64
3. the walk runs on them; a row that was not guessed is computed when it is asked for     n k^2

The guess decides only what is computed together. Every number the walk sees is the float64 one, so the order is the
one of the full float64 matrix whatever the guess was.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from script_core.dpp import greedy_walk
from script_core.similarity import array, unit

# Tokens per float64 block: 256 x 4,096 values are 8 MiB, which stay in a core's cache while they are used.
BLOCK = 256


class ForeseenRows:
    """Float64 cosine rows of `features` (n, d), those of the likely picks of `greedy_walk(., relevance, k)` at hand."""

    def __init__(self, features: Tensor, relevance: np.ndarray, k: int) -> None:
        self._features = features
        self._nonzero, guess = _guess(features, relevance, k)
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
        picked = array(unit(self._features[tokens]))
        rows = np.empty((len(tokens), len(self)))
        for start in range(0, len(self), BLOCK):
            rows[:, start : start + BLOCK] = picked @ array(unit(self._features[start : start + BLOCK])).T
        return rows


def _guess(features: Tensor, relevance: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The diagonal of the cosine matrix, and the picks of a walk over its float32 version."""
    rows = features.detach().float().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    length = rows.norm(dim=1, keepdim=True)
    host: np.ndarray = rows.div_(length.clamp_min(1e-30)).numpy()
    cosine: np.ndarray = host @ host.T
    nonzero = (array(length)[:, 0] > 0).astype(np.float64)
    np.fill_diagonal(cosine, nonzero)
    return nonzero, greedy_walk(cosine, relevance, k)[0]
