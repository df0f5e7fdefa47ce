"""What the public functions of the methods refuse, in a sentence, instead of returning something of wrong length."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from script_core.pruners import cdpruner, divprune, fastv, pdrop, script_released, sparsevlm, trim, visionzip

ROWS, CROPS = torch.rand(6, 4), torch.rand(2, 6, 4)
ATTENTION = torch.rand(2, 20)
SQUARE = torch.rand(8, 8)
ranked = partial(pdrop.rank, torch.rand(1, 20, 8), SQUARE, SQUARE, 2, rms_eps=1e-5, rope_base=1e4)
zipped = partial(visionzip.zip_tokens, dominant=3, contextual=2)
NO_PICKS, OUTSIDE, SPACE = "must not be negative, got -1", "do not lie within 20 positions", "of one space"


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: divprune.max_min_order(ROWS, -1), NO_PICKS),
        (lambda: cdpruner.select_crops(CROPS, torch.ones(2, 6), -1), NO_PICKS),
        (lambda: script_released.pick_order(CROPS, torch.ones(2, 6), -1), NO_PICKS),
        (lambda: cdpruner.relevance(CROPS, torch.rand(4)), SPACE),
        (lambda: cdpruner.relevance(CROPS, torch.rand(1, 5)), SPACE),
        (lambda: script_released.relevance(CROPS, torch.rand(0, 4)), SPACE),
        (lambda: script_released.relevance(ROWS, torch.rand(1, 4)), SPACE),
        (lambda: fastv.rank(ATTENTION, 15, 10, 2), OUTSIDE),
        (lambda: fastv.rank(ATTENTION, -3, 10, 2), OUTSIDE),
        (lambda: fastv.rank(ATTENTION, 5, 10, -1), "-1 of 10 visual tokens cannot be kept"),
        (lambda: fastv.rank(ATTENTION, 5, 10, 11), "11 of 10 visual tokens cannot be kept"),
        (lambda: ranked(start=15, n=10, keep=2), OUTSIDE),
        (lambda: ranked(start=5, n=10, keep=11), "11 of 10 visual tokens cannot be kept"),
        (lambda: sparsevlm.prune(torch.rand(2, 3, 20), torch.tensor([0]), 15, 10, 2), OUTSIDE),
        (lambda: sparsevlm.prune(torch.rand(2, 3, 20), torch.tensor([], dtype=torch.int64), 5, 10, 2), "must rate"),
        (lambda: sparsevlm.recycle(ROWS, torch.rand(5)), "6 dropped tokens have 5 relations"),
        (lambda: trim.keep_count(torch.rand(1, 6), 1.5), "between 0 and 1"),
        (lambda: trim.keep_count(torch.rand(1, 6), -1), "between 0 and 1"),
        (lambda: trim.aggregate(CROPS, torch.tensor([[0, 1]])), "kept"),
        (lambda: zipped(torch.rand(1, 11, 4), torch.rand(1, 10, 4), torch.rand(1, 2, 10)), "zip_tokens needs"),
        (lambda: zipped(torch.rand(1, 11, 4), torch.rand(1, 11, 4), torch.rand(1, 2, 11)), "zip_tokens needs"),
    ],
)
def test_impossible_input_is_refused_in_words(call: Callable[[], Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        call()


def test_a_kept_row_that_is_not_finite_stays_out_of_the_mean_of_the_others() -> None:
    features = torch.ones(1, 3, 2)
    features[0, 1] = torch.inf
    assert trim.aggregate(features, torch.tensor([[1]])).tolist() == [[1.0, 1.0]]


def test_visionzip_joins_the_first_of_equal_targets() -> None:
    keys = torch.randn(1, 1, 8, generator=torch.Generator().manual_seed(12)).repeat(1, 65, 1)
    tokens, _, targets = visionzip.zip_tokens(torch.eye(65)[None], keys, torch.arange(64.0).view(1, 1, 64), 8, 6)
    members = (tokens[0, 8:] > 0).sum(dim=1)
    assert members.tolist() == [1 + 65 - 8 - 6, 1, 1, 1, 1, 1] and targets.shape == (1, 6)


def test_patches_that_all_match_alike_are_all_relevant() -> None:
    alike = torch.randn(1, 1, 64, generator=torch.Generator().manual_seed(4)).repeat(1, 169, 1)
    text = torch.randn(1, 64, generator=torch.Generator().manual_seed(5))
    assert cdpruner.relevance(alike, text).unique().tolist() == [1.0]
