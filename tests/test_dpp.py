"""The exact greedy walk."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from script_core import dpp, similarity
from script_core.dpp import greedy_map
from tests.made import clustered


def kernel(features: Tensor, relevance: Tensor) -> Tensor:
    rows = torch.nn.functional.normalize(features.double(), dim=1)
    return relevance.double()[:, None] * (rows @ rows.T) * relevance.double()[None]


def by_determinants(matrix: Tensor, k: int) -> list[int]:
    """Greedy MAP from the definition: always the token whose addition gives the largest determinant."""
    chosen: list[int] = []
    for _ in range(k):
        left = [i for i in range(len(matrix)) if i not in chosen]
        values = [float(torch.linalg.det(matrix[np.ix_([*chosen, i], [*chosen, i])])) for i in left]
        chosen.append(left[int(np.argmax(values))])
    return chosen


def relevance_of(count: int, seed: int) -> Tensor:
    return 0.05 + 0.95 * torch.rand(count, generator=torch.Generator().manual_seed(seed))


def test_by_hand() -> None:
    # cos(0, 1) = 0.8, token 2 is orthogonal to both, token 3 equals token 0 but matters less.
    features = torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 2.0], [3.0, 0.0, 0.0]])
    relevance = torch.tensor([1.0, 0.9, 0.5, 0.8])
    order, gains = greedy_map(features, relevance, 4)
    # After token 0: token 1 has 0.81 * (1 - 0.64) = 0.2916, token 2 has 0.25, token 3 nothing.
    assert order.tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(gains, torch.tensor([1.0, 0.2916, 0.25, 0.0]))


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_definition(seed: int) -> None:
    features, relevance = clustered(14, 20, seed), relevance_of(14, seed)
    order, _ = greedy_map(features, relevance, 9)
    assert order.tolist() == by_determinants(kernel(features, relevance), 9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_log_gains_add_up_to_the_log_determinant_at_every_prefix(dtype: torch.dtype) -> None:
    features, relevance = clustered(50, 40, seed=1).to(dtype), relevance_of(50, 1)
    order, gains = greedy_map(features, relevance, 30)
    matrix = kernel(features, relevance)
    for k in range(1, 31):
        part = matrix[np.ix_(order[:k], order[:k])]
        sign, logdet = torch.linalg.slogdet(part)
        assert sign == 1 and math.isclose(float(gains[:k].double().log().sum()), float(logdet), abs_tol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_within_the_greedy_bound_of_brute_force(seed: int) -> None:
    features, relevance = clustered(9, 12, seed), relevance_of(9, seed)
    # Scaled so that every sub-determinant of the best sets is above 1: then log det is monotone and the bound holds.
    matrix = kernel(features, relevance) * 1e4
    best = max(float(torch.linalg.slogdet(matrix[np.ix_(c, c)])[1]) for c in itertools.combinations(range(9), 4))
    order = greedy_map(features, relevance, 4)[0]
    got = float(torch.linalg.slogdet(matrix[np.ix_(order, order)])[1])
    assert (1 - 1 / math.e) * best <= got <= best + 1e-9


def test_nested_and_decreasing() -> None:
    features, relevance = clustered(80, 64, seed=2), relevance_of(80, 2)
    order, gains = greedy_map(features, relevance, 80)
    assert sorted(order.tolist()) == list(range(80))
    assert (gains[1:] <= gains[:-1] + 1e-7).all()
    for k in (1, 2, 17, 79):
        shorter, fewer = greedy_map(features, relevance, k)
        assert shorter.tolist() == order[:k].tolist() and fewer.tolist() == gains[:k].tolist()


def test_two_equal_relevant_tokens_wait_for_a_different_one() -> None:
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    order, gains = greedy_map(features, torch.tensor([1.0, 0.9, 0.4]), 3)
    assert order.tolist() == [0, 2, 1] and gains[2] == 0


def test_beyond_the_rank_it_goes_on_by_relevance() -> None:
    features, relevance = clustered(40, 5, seed=3), relevance_of(40, 3)
    order, gains = greedy_map(features, relevance, 40)
    assert sorted(order.tolist()) == list(range(40))
    assert (gains[:5] > 0).all() and (gains[5:] == 0).all()
    rest = relevance[order[5:]]
    assert (rest[1:] <= rest[:-1]).all()


@pytest.mark.parametrize(
    "relevance",
    [torch.zeros(7), torch.ones(7), torch.tensor([0.0, 0, 1, 0, 0, 0, 0]), torch.full((7,), float("nan"))],
)
@pytest.mark.parametrize(
    "features",
    [torch.eye(7), torch.ones(7, 3), torch.zeros(7, 3), torch.full((7, 3), float("nan")), torch.full((7, 3), 6e4)],
)
def test_never_fewer_never_nan(features: Tensor, relevance: Tensor) -> None:
    for dtype in (torch.float32, torch.float16):
        order, gains = greedy_map(features.to(dtype), relevance, 9)
        assert sorted(order.tolist()) == list(range(7)) and torch.isfinite(gains).all()


def test_ties_go_to_the_lowest_index() -> None:
    assert greedy_map(torch.eye(6), torch.ones(6), 6)[0].tolist() == list(range(6))
    assert greedy_map(torch.ones(6, 2), torch.ones(6), 6)[0].tolist() == list(range(6))
    assert greedy_map(torch.eye(4), torch.tensor([0.5, 1.0, 0.5, 1.0]), 4)[0].tolist() == [1, 3, 0, 2]


def test_moving_tokens_around_moves_the_picks_with_them() -> None:
    features, relevance = clustered(60, 30, seed=4), relevance_of(60, 4)
    shuffle = torch.randperm(60, generator=torch.Generator().manual_seed(9))
    order = greedy_map(features, relevance, 25)[0]
    moved = greedy_map(features[shuffle], relevance[shuffle], 25)[0]
    assert shuffle[moved].tolist() == order.tolist()


def test_constant_relevance_is_plain_diversity_and_its_scale_does_not_matter() -> None:
    features, relevance = clustered(60, 30, seed=5), relevance_of(60, 5)
    plain = greedy_map(features, torch.ones(60), 30)[0]
    assert greedy_map(features, torch.full((60,), 0.3), 30)[0].tolist() == plain.tolist()
    assert greedy_map(features * 7, relevance * 0.1, 30)[0].tolist() == greedy_map(features, relevance, 30)[0].tolist()


def test_rows_computed_on_demand_give_the_same_walk() -> None:
    features, relevance = clustered(70, 40, seed=6), similarity.array(relevance_of(70, 6))
    dense, gains = dpp.greedy_walk(similarity.gram(features), relevance, 50)
    lazy, same = dpp.greedy_walk(similarity.LazyRows(features), relevance, 50)
    assert dense.tolist() == lazy.tolist() and np.allclose(gains, same)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"features \(n, d\)"):
        greedy_map(torch.ones(3, 2), torch.ones(4), 2)
    with pytest.raises(ValueError, match="negative"):
        greedy_map(torch.ones(3, 2), torch.ones(3), -1)
    assert greedy_map(torch.ones(0, 2), torch.ones(0), 3)[0].tolist() == []
