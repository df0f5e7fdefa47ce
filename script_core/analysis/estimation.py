"""How much of the similarity matrix is needed to find redundant tokens (Table 1)?

Three estimates of the same score, degree times exp(gamma (mean similarity of neighbours - tau)): from every pair, from
the bipartite graph of Eq. 8, and from as many random pairs as that has. Degrees are rates, so that tokens seen in
different numbers of pairs compare.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from script_core.analysis.plane import Plane
from script_core.analysis.preferences import overlap

CHUNK = 8_192  # random pairs that are gathered at once


@dataclass(frozen=True)
class Estimate:
    """pairs of distinct tokens compared; share of all n(n-1)/2; ms: best of the repeats, similarities and scores;
    iou: of its K most redundant tokens with the exhaustive K; speedup over exhaustive."""

    name: str
    pairs: int
    share: float
    ms: float
    iou: float
    speedup: float


def table(plane: Plane, k: int, tau: float, gamma: float, *, seed: int = 0, repeats: int = 7) -> tuple[Estimate, ...]:
    """Exhaustive, bipartite, random. k: how many tokens count as redundant. All on one thread-friendly float32 copy."""
    vectors = plane.vectors.astype(np.float32)
    n = len(vectors)
    first, second = random_pairs(n, (n // 2) * (n - n // 2), seed)
    ways: list[tuple[str, int, Callable[[], np.ndarray]]] = [
        ("Exhaustive", n * (n - 1) // 2, lambda: exhaustive(vectors, tau, gamma)),
        ("Bipartite", (n // 2) * (n - n // 2), lambda: bipartite(vectors, tau, gamma)),
        ("Random", len(first), lambda: random(vectors, first, second, tau, gamma)),
    ]
    found = [(name, pairs, *_timed(way, repeats)) for name, pairs, way in ways]
    _, _, reference, spent = found[0]
    truth = top(reference, k)
    return tuple(
        Estimate(name, pairs, pairs / (n * (n - 1) // 2), ms, overlap(top(score, k), truth), spent / ms)
        for name, pairs, score, ms in found
    )


def exhaustive(vectors: np.ndarray, tau: float, gamma: float) -> np.ndarray:
    """Scores (n,) from all pairs of unit vectors (n, d), a token with itself left out."""
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, 0.0)
    edge = similarity >= tau
    np.fill_diagonal(edge, False)
    return _score(
        edge.sum(1), (similarity * edge).sum(1), similarity.sum(1), np.full(len(vectors), len(vectors) - 1), tau, gamma
    )


def bipartite(vectors: np.ndarray, tau: float, gamma: float) -> np.ndarray:
    """Scores from even against odd tokens only."""
    similarity = vectors[0::2] @ vectors[1::2].T
    edge = similarity >= tau
    scores = np.empty(len(vectors))
    for side, axis in ((slice(0, None, 2), 1), (slice(1, None, 2), 0)):
        seen = np.full(similarity.shape[1 - axis], similarity.shape[axis])
        scores[side] = _score(edge.sum(axis), (similarity * edge).sum(axis), similarity.sum(axis), seen, tau, gamma)
    return scores


def random_pairs(n: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` different pairs of different tokens, all equally likely."""
    first, second = np.triu_indices(n, 1)
    picked = np.random.default_rng(seed).choice(len(first), min(count, len(first)), replace=False)
    return first[picked], second[picked]


def random(vectors: np.ndarray, first: np.ndarray, second: np.ndarray, tau: float, gamma: float) -> np.ndarray:
    """Scores from the given pairs. Unlike a block of a matrix product, each pair has to be gathered by itself."""
    n = len(vectors)
    similarity = np.concatenate(
        [
            np.einsum("nd,nd->n", vectors[first[at : at + CHUNK]], vectors[second[at : at + CHUNK]])
            for at in range(0, len(first), CHUNK)
        ]
    )
    ends, twice = np.concatenate([first, second]), np.concatenate([similarity, similarity])
    edge = twice >= tau
    return _score(
        np.bincount(ends, edge, n),
        np.bincount(ends, twice * edge, n),
        np.bincount(ends, twice, n),
        np.bincount(ends, minlength=n),
        tau,
        gamma,
    )


def _score(
    degree: np.ndarray, near: np.ndarray, total: np.ndarray, seen: np.ndarray, tau: float, gamma: float
) -> np.ndarray:
    """Eq. 9 with the degree as a rate. Tokens without a neighbour stay below those with one."""
    seen = np.maximum(seen, 1)
    mean = near / np.maximum(degree, 1)
    return np.where(degree > 0, 1 + degree / seen * np.exp(gamma * (mean - tau)), np.minimum(total / seen, 1.0))


def top(scores: np.ndarray, k: int) -> np.ndarray:
    """The k tokens of the highest score, the lowest index first among equals."""
    return np.argsort(-scores, kind="stable")[:k]


def _timed(way: Callable[[], np.ndarray], repeats: int) -> tuple[np.ndarray, float]:
    best, scores = float("inf"), way()
    for _ in range(repeats):
        started = time.perf_counter()
        scores = way()
        best = min(best, (time.perf_counter() - started) * 1000)
    return scores, best
