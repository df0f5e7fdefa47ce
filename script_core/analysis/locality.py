"""Are near patches alike? Cosine similarity of token pairs against their Manhattan distance on the grid (Figure 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from script_core.analysis.plane import Plane


@dataclass(frozen=True, eq=False)
class ByDistance:
    """Per Manhattan distance, 1 and up: the pairs' mean similarity, quartiles and number. All (k,)."""

    distance: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    pairs: np.ndarray


@dataclass(frozen=True, eq=False)
class NearAndRandom:
    """Similarities of all pairs at distance 1, and of as many random pairs. Both (m,)."""

    near: np.ndarray
    random: np.ndarray

    @property
    def chance(self) -> float:
        """Probability that a neighbouring pair is more alike than a random one; ties count half."""
        ordered = np.sort(self.random)
        below = np.searchsorted(ordered, self.near, "left") + np.searchsorted(ordered, self.near, "right")
        return float(below.mean() / (2 * len(ordered)))


def by_distance(plane: Plane) -> ByDistance:
    """Every pair of tokens once."""
    distance, cosine = _pairs(plane)
    order = np.argsort(distance, kind="stable")
    distance, cosine = distance[order], cosine[order]
    values, starts = np.unique(distance, return_index=True)
    groups = np.split(cosine, starts[1:])
    quartiles = np.array([np.quantile(group, (0.25, 0.75)) for group in groups])
    return ByDistance(
        values,
        np.array([group.mean() for group in groups]),
        quartiles[:, 0],
        quartiles[:, 1],
        np.array([len(group) for group in groups]),
    )


def near_and_random(plane: Plane, seed: int = 0) -> NearAndRandom:
    """Neighbours above, below, left and right against pairs drawn from all others."""
    distance, cosine = _pairs(plane)
    near, far = cosine[distance == 1], cosine[distance > 1]
    if not len(near) or not len(far):
        raise ValueError("This crop or frame is too small to compare neighbours with other pairs.")
    picked = np.random.default_rng(seed).choice(len(far), min(len(near), len(far)), replace=False)
    return NearAndRandom(near, far[picked])


def _pairs(plane: Plane) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.triu_indices(len(plane), 1)
    apart = np.abs(plane.row[first] - plane.row[second]) + np.abs(plane.col[first] - plane.col[second])
    return apart, (plane.vectors @ plane.vectors.T)[first, second]
