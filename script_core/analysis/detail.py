"""Where the picture holds detail, tokens differ from their neighbours: local entropy against local similarity (Figure
4), and the masks of redundant tokens that a threshold on local similarity gives (Figure 9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from script_core.analysis.plane import Plane

BINS = 20
EPS = 1e-8
TAUS = tuple(round(0.1 * step, 1) for step in range(1, 10))


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rho with its two-sided p-value; 0 and 1 where either side does not vary."""

    rho: float
    p: float


def first_component(vectors: np.ndarray) -> np.ndarray:
    """Scores (n,) on the first principal component; the side with the largest score is positive."""
    centred = vectors - vectors.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    scores = centred @ directions[0]
    return scores if scores[np.abs(scores).argmax()] > 0 else -scores


def local_entropy(plane: Plane, bins: int = BINS, eps: float = EPS) -> np.ndarray:
    """Entropy (n,) in nats of the first principal component within each token's 3 x 3 neighbourhood.

    The histogram's `bins` equal bins span the whole plane's range; -sum p ln(p + eps). Cells off the grid do not count.
    """
    scores = first_component(plane.vectors)
    low, span = scores.min(), np.ptp(scores)
    place = (
        np.minimum(((scores - low) / span * bins).astype(int), bins - 1) if span > EPS else np.zeros(len(plane), int)
    )
    counts = np.zeros((len(plane), bins))
    counts[np.arange(len(plane)), place] = 1
    for tokens, neighbours in plane.around():
        counts[tokens, place[neighbours]] += 1
    share = counts / counts.sum(1, keepdims=True)
    return np.maximum(-(share * np.log(share + eps)).sum(1), 0.0)


def local_similarity(plane: Plane) -> np.ndarray:
    """Mean cosine (n,) of each token to the up to eight tokens around it; 0 for one that has none."""
    total, count = np.zeros(len(plane)), np.zeros(len(plane))
    for tokens, neighbours in plane.around():
        total[tokens] += np.einsum("nd,nd->n", plane.vectors[tokens], plane.vectors[neighbours])
        count[tokens] += 1
    return total / np.maximum(count, 1)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> RankCorrelation:
    """Spearman's, with average ranks for ties."""
    if np.ptp(a) <= EPS or np.ptp(b) <= EPS:
        return RankCorrelation(0.0, 1.0)
    from scipy import stats  # slow to import

    found = stats.spearmanr(a, b)
    return RankCorrelation(float(found.statistic), float(found.pvalue))


def redundancy_masks(plane: Plane, taus: Sequence[float] = TAUS) -> np.ndarray:
    """Masks (len(taus), n): tokens whose local similarity reaches tau. A larger tau never marks a token more."""
    score = local_similarity(plane)
    return np.stack([score >= tau for tau in taus])
