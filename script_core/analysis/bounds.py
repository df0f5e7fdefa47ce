"""What the determinant of a similarity matrix says about its average similarity, and what it does not (Figure 6).

For k unit vectors with Gram matrix S, mean off-diagonal similarity s and largest off-diagonal |similarity| t:

  Hadamard     det S <= 1                                  equality only for orthogonal vectors
  average      det S <= (1 + (k-1) s) (1 - s)^(k-1)        the determinant if all pairs were equally similar
  closest pair det S <= 1 - t^2                            Fischer's inequality for one 2 x 2 block
  Gershgorin   det S >= max(0, 1 - R)^k                    R the largest sum of |similarities| in a row

The second: the Rayleigh quotient of (1, ..., 1) is 1 + (k-1) s, so some eigenvalue is at least (s >= 0) or at most
(s <= 0) that; the others' product is largest when they are equal, and the product of all falls as that eigenvalue moves
away from 1. There is no lower bound in s alone: one duplicated pair makes the determinant 0 whatever the average is.
So two claims that are easily made are false, and `checks` counts the counterexamples: that the average's formula also
bounds from below, and that of two subsets the one of lower average similarity has the larger determinant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SLACK = 1e-9  # rounding, relative to 1


@dataclass(frozen=True)
class Point:
    """One subset: how it was drawn, its size, its average similarity, and the log of its determinant (-inf for 0)."""

    name: str
    size: int
    average: float
    log_det: float
    closest: float
    row_sum: float


@dataclass(frozen=True)
class Check:
    """A claim, whether it is a theorem, and how often it failed on how many subsets or pairs of subsets."""

    claim: str
    theorem: bool
    checked: int
    failed: int


def point(vectors: np.ndarray, name: str) -> Point:
    """The numbers of one subset of unit vectors (k, d). Raises ValueError for fewer than two."""
    k = len(vectors)
    if k < 2:
        raise ValueError("a subset needs at least two tokens to have an average similarity")
    gram = vectors @ vectors.T
    np.fill_diagonal(gram, 1.0)
    sign, value = np.linalg.slogdet(gram)
    off = gram[~np.eye(k, dtype=bool)]
    sums = (np.abs(gram).sum(1) - 1).max()
    found = float(value) if sign > 0 else -np.inf
    return Point(name, k, float(off.mean()), found, float(np.abs(off).max()), float(sums))


def average_bound(average: float | np.ndarray, size: int) -> np.ndarray:
    """Log of the upper bound from the average similarity; -inf at its ends."""
    s = np.asarray(average, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        common = np.log(np.maximum(1 + (size - 1) * s, 0.0))
        return common + (size - 1) * np.log(np.maximum(1 - s, 0.0))


def pair_bound(closest: float) -> float:
    """Log of the upper bound from the most similar pair."""
    return float(np.log(max(1 - closest * closest, 1e-300)))


def row_bound(found: Point) -> float:
    """Log of Gershgorin's lower bound; -inf where it says nothing."""
    rest = 1 - found.row_sum
    return found.size * float(np.log(rest)) if rest > 0 else -np.inf


def draw(vectors: np.ndarray, size: int, count: int, seed: int = 0) -> tuple[Point, ...]:
    """Subsets of `size`: uniformly random ones, and ones gathered around a random token to cover high averages."""
    rng = np.random.default_rng(seed)
    size = min(size, len(vectors))
    found = []
    for number in range(count):
        if number % 2:
            centre = vectors @ vectors[rng.integers(len(vectors))]
            reach = rng.integers(size, len(vectors) + 1)
            pool = np.argsort(-centre, kind="stable")[:reach]
            picked, name = rng.choice(pool, size, replace=False), "around a token"
        else:
            picked, name = rng.choice(len(vectors), size, replace=False), "random"
        found.append(point(vectors[picked], name))
    return tuple(found)


def checks(points: Sequence[Point]) -> tuple[Check, ...]:
    """Every claim of this module's text, counted on the given subsets; pairs are compared within one size."""

    def over(claim: str, theorem: bool, fails: list[bool]) -> Check:
        return Check(claim, theorem, len(fails), sum(fails))

    def above(log_det: float, bound: float) -> bool:
        """exp(log_det) > exp(bound) beyond rounding, which near a singular matrix is large relative to det itself."""
        return np.exp(log_det) > np.exp(bound) + SLACK

    ceilings = [float(average_bound(p.average, p.size)) for p in points]
    order = [
        (a.average < b.average) != (a.log_det > b.log_det)
        for at, a in enumerate(points)
        for b in points[at + 1 :]
        if a.size == b.size and a.average != b.average and a.log_det != b.log_det
    ]
    return (
        over("det S <= 1 (Hadamard)", True, [above(p.log_det, 0.0) for p in points]),
        over(
            "det S <= (1 + (k-1)s)(1-s)^(k-1), from the average similarity s",
            True,
            [above(p.log_det, c) for p, c in zip(points, ceilings, strict=True)],
        ),
        over(
            "det S <= 1 - t^2, from the closest pair t (Fischer)",
            True,
            [above(p.log_det, pair_bound(p.closest)) for p in points],
        ),
        over(
            "det S >= max(0, 1 - R)^k, from the largest row sum R (Gershgorin)",
            True,
            [above(row_bound(p), p.log_det) for p in points],
        ),
        over(
            "the formula in s is a lower bound, too",
            False,
            [p.log_det < c + np.log1p(-1e-6) for p, c in zip(points, ceilings, strict=True)],
        ),
        over("lower average similarity means a larger determinant", False, order),
    )
