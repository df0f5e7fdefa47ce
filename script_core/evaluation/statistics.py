"""What is computed from right and wrong answers. Everything that can be wrong here is a few lines of arithmetic.

Questions about one scene are not independent, so intervals resample whole scenes, and paired tests pair scenes: a
method's share of right answers on a scene against the other's on the same scene, as random methods' mean over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2_000
DIGITS = 9  # shares of right answers differ by much more; what is left beyond is the noise of their sums


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """One-sided: small p-values speak for the first being better. difference: of means; scenes: pairs.

    low and high are not a number where there are fewer than two scenes, as in `interval`.
    """

    difference: float
    low: float
    high: float
    p_t: float
    p_wilcoxon: float
    scenes: int


def f1(answers: Sequence[str], truths: Sequence[str]) -> float | None:
    """F1 of "yes", as POPE reports it; None where nothing is yes, neither said nor true."""
    hits = sum(a == t == "yes" for a, t in zip(answers, truths, strict=True))
    said, true = sum(a == "yes" for a in answers), sum(t == "yes" for t in truths)
    return 2 * hits / (said + true) if said + true else None


def ratio_of_means(scores: Mapping[str, float], full: Mapping[str, float]) -> float | None:
    """Mean over suites over the full model's mean, as the paper's "Relative"; None if the full model scores nothing."""
    _check(scores, full)
    reference = sum(full.values())
    return sum(scores.values()) / reference if reference else None


def mean_of_ratios(scores: Mapping[str, float], full: Mapping[str, float]) -> float | None:
    """Mean over suites of the ratio to the full model, as most other papers print it.

    None if the full model scores nothing on some suite: that ratio does not exist.
    """
    _check(scores, full)
    if not full or not all(full.values()):
        return None
    return sum(scores[suite] / full[suite] for suite in full) / len(full)


def _check(scores: Mapping[str, float], full: Mapping[str, float]) -> None:
    if set(scores) != set(full):
        raise ValueError(f"both need the same suites, they differ in {sorted(set(scores) ^ set(full))}")


def paired(ours: Sequence[float], theirs: Sequence[float], weights: Sequence[float] | None = None) -> Paired:
    """Compare the scores of two methods on the same scenes; `weights` are the scenes' numbers of questions, so that
    what is tested is the difference in right answers per scene.

    Fewer than two scenes, or no difference on any, give p-values of 1.
    """
    a, b = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"paired tests need two equally long lists of scores, got {a.shape} and {b.shape}")
    share = np.ones_like(a) if weights is None else np.asarray(weights, dtype=float)
    gap, gain = np.round(a - b, DIGITS), np.round((a - b) * share, DIGITS)
    difference = float(np.average(gap, weights=share)) if len(gap) else 0.0
    if len(gap) < 2:
        return Paired(difference, math.nan, math.nan, 1.0, 1.0, len(gap))
    if not gap.any():
        return Paired(difference, difference, difference, 1.0, 1.0, len(gap))
    from scipy import stats  # slow to import, and the page shows finished results without it

    if np.ptp(gain) == 0:  # the same gain on every scene: infinitely many standard errors away from none
        p_t = 0.0 if gain[0] > 0 else 1.0
    else:
        p_t = float(stats.ttest_1samp(gain, 0.0, alternative="greater").pvalue)
    # "zsplit" shares ties out to both signs: leaving them out would hide that most scenes do not differ.
    p_w = float(stats.wilcoxon(gain, alternative="greater", zero_method="zsplit", method="approx").pvalue)
    low, high = _resampled(gap, share)
    return Paired(difference, low, high, p_t, p_w, len(gap))


def interval(scores: Sequence[float], weights: Sequence[float]) -> Interval:
    """95 % bootstrap interval of the accuracy: per scene the share of right answers and the number of questions."""
    values, share = np.asarray(scores, dtype=float), np.asarray(weights, dtype=float)
    if len(values) < 2:
        return Interval(math.nan, math.nan)
    return Interval(*_resampled(values, share))


def _resampled(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    if not np.ptp(values):
        return float(values[0]), float(values[0])
    from scipy import stats

    def mean(v: np.ndarray, w: np.ndarray, axis: int = -1) -> np.ndarray:
        return (v * w).sum(axis) / w.sum(axis)

    found = stats.bootstrap(
        (values, weights), mean, paired=True, vectorized=True, n_resamples=RESAMPLES, method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)
