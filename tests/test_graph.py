"""Redundancy by the bipartite graph."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from script_core import graph
from tests.made import clustered


def reference(features: Tensor, tau: float, gamma: float) -> list[float]:
    """Eq. 8-9 token by token."""
    rows = torch.nn.functional.normalize(features.double(), dim=1)
    scores = []
    for i in range(len(rows)):
        other = [float(rows[i] @ rows[j]) for j in range(len(rows)) if j % 2 != i % 2]
        near = [s for s in other if s >= tau]
        if near:
            scores.append(len(near) * math.exp(gamma * (sum(near) / len(near) - tau)))
        else:
            scores.append(sum(other) / len(other))
    return scores


@pytest.mark.parametrize("count", [2, 9, 40])
@pytest.mark.parametrize(("tau", "gamma"), [(0.5, 1.0), (0.2, 3.0), (-0.3, 0.0), (0.99, 1.0)])
def test_equals_the_formula_token_by_token(count: int, tau: float, gamma: float) -> None:
    features = clustered(count, 8, seed=count)
    torch.testing.assert_close(graph.redundancy(features, tau, gamma), torch.tensor(reference(features, tau, gamma)))


def test_by_hand() -> None:
    # Even side: e1, e2; odd side: e1, -e2. Only tokens 0 and 1 are neighbours, with cosine 1.
    features = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0], [0.0, -1.0]])
    want = [math.exp(0.5), math.exp(0.5), (0.0 - 1.0) / 2, (0.0 - 1.0) / 2]
    torch.testing.assert_close(graph.redundancy(features, 0.5, 1.0), torch.tensor(want))


def test_a_duplicated_token_is_more_redundant_than_a_unique_one() -> None:
    features = torch.eye(6)
    features[3] = features[0]
    scores = graph.redundancy(features, 0.5, 1.0)
    assert scores[0] == scores[3] == scores.max()
    assert all(scores[i] < scores[0] for i in (1, 2, 4, 5))


def test_a_token_without_neighbours_ranks_below_every_connected_one() -> None:
    features = clustered(60, 8, seed=3)
    scores = graph.redundancy(features, 0.6, 1.0)
    rows = torch.nn.functional.normalize(features, dim=1)
    edges = rows[0::2] @ rows[1::2].T >= 0.6
    connected = torch.zeros(60, dtype=torch.bool)
    connected[0::2], connected[1::2] = edges.any(1), edges.any(0)
    assert connected.any() and not connected.all()
    assert scores[~connected].max() < scores[connected].min()


def test_equal_tokens_are_neighbours_at_tau_one() -> None:
    row = torch.randn(1, 33, generator=torch.Generator().manual_seed(1))
    assert graph.redundancy(row.repeat(4, 1), 1.0, 1.0).tolist() == pytest.approx([2.0] * 4)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_tokens_and_values_that_are_no_numbers(count: int) -> None:
    features = torch.full((count, 4), float("nan"))
    assert torch.isfinite(graph.redundancy(features, 0.5, 1.0)).all()
    assert len(graph.redundancy(features, 0.5, 1.0)) == count


def test_survivors_drop_the_most_redundant_and_never_too_many() -> None:
    scores = torch.tensor([3.0, 1.0, 2.0, 2.0, 2.0, 0.0])
    assert graph.survivors(scores, 0.5, 1).tolist() == [False, True, True, False, False, True]  # ties: lowest index
    assert graph.survivors(scores, 0.5, 5).tolist() == [False, True, True, True, True, True]  # p is lowered
    assert graph.survivors(scores, 0.0, 1).all() and graph.survivors(scores, 1.0, 6).all()
    assert int(graph.survivors(scores, 1.0, 0).sum()) == 0
    assert int(graph.survivors(torch.zeros(9), 0.5, 1).sum()) == 9 - 4  # round(4.5) is 4


def test_neighbours_are_the_most_similar_tokens_across_the_graph() -> None:
    features = clustered(50, 8, seed=4)
    members = torch.arange(20, 41)
    rows = torch.nn.functional.normalize(features.double(), dim=1)
    token = 25  # sixth of its block, so on the odd side; the other side is 20, 22, ...
    near = sorted((-float(rows[token] @ rows[j]), j) for j in range(20, 41, 2))
    want = [j for s, j in near[:3] if -s >= 0.1]
    assert graph.redundant_neighbours(features, token, members, 0.1, 3).tolist() == want
    assert graph.redundant_neighbours(features, token, members, 1.0, 3).tolist() == []
    with pytest.raises(ValueError, match="not in the block"):
        graph.redundant_neighbours(features, 3, members, 0.1, 3)
