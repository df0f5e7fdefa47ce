"""DivPrune (CVPR 2025, arXiv:2503.02175): max-min diversity over the whole input, whatever the question.

1. first pick: the token whose nearest other token is farthest away (cosine distance)      O(n^2 d)
2. then always the token whose nearest picked token is farthest away                       O(n k)

Paper's code: `image_newline` tokens compete with the patches. Here: only content tokens do.
Paper's code: once every token left repeats a picked one, the first index is picked again and again, so fewer tokens
than asked stay. Here: picked tokens are out, so the count is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from script_core import similarity
from script_core.derived import derived
from script_core.pruners.base import check_budget, in_blocks, pick_count
from script_core.tokens import Query, Selection, VisualTokens


@dataclass(frozen=True)
class DivPrune:
    """No parameters: the order follows from the features alone."""

    name: ClassVar[str] = "divprune"
    title: ClassVar[str] = "DivPrune"
    acts: ClassVar[str] = "before"
    reads_question: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset()

    def select(self, tokens: VisualTokens, query: Query, budget: int) -> Selection:
        budget = check_budget(budget, len(tokens))
        known = similarity.of(tokens, "global").rows[0]
        order = derived(tokens, "divprune", lambda: _farthest_first(known, len(tokens)))
        return in_blocks([torch.from_numpy(order)], budget)


def max_min_order(features: Tensor, k: int) -> Tensor:
    """The first `min(k, n)` picks, nested: features (n, d) -> (k,) int64."""
    return torch.from_numpy(_farthest_first(similarity.gram(features), k))


def _farthest_first(rows: similarity.Rows, k: int) -> np.ndarray:
    picks = np.empty(pick_count(k, len(rows)), dtype=np.int64)
    distance = _to_nearest_other(rows)
    for step in range(len(picks)):
        picks[step] = best = similarity.first_largest(distance)
        to_best = 1.0 - rows[best]
        # The first pick was by distance to any other token; from here on only picked ones count.
        distance = to_best if step == 0 else np.minimum(distance, to_best, out=distance)
        distance[best] = -np.inf  # and a minimum leaves it there
    return picks


def _to_nearest_other(rows: similarity.Rows) -> np.ndarray:
    """Distance of each row to the closest one that is not itself."""
    if len(rows) < 2:
        return np.zeros(len(rows))
    return np.array([1.0 - _largest_but(rows[i], i) for i in range(len(rows))])


def _largest_but(row: np.ndarray, own: int) -> float:
    return max(row[:own].max(initial=-np.inf), row[own + 1 :].max(initial=-np.inf))
