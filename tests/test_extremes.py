"""Selection with numbers at the ends of what is allowed, and beyond."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from script_core import dpp, graph, kernels, similarity
from script_core.kernels import foreseen, graph_score
from script_core.pruners.script import Script
from tests import made
from tests.made import clustered


@pytest.mark.parametrize("wrong", [math.inf, -math.inf, math.nan, 1e200])
@pytest.mark.parametrize("k", [5, 40])
def test_relevance_that_is_no_usable_number_counts_as_none(wrong: float, k: int) -> None:
    features = clustered(40, 50, seed=1)
    usable = torch.rand(40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    usable[[3, 17]] = 0.0
    unusable = usable.clone()
    unusable[[3, 17]] = wrong
    want, gains = dpp.greedy_map(features, usable, k)
    for walked, gained in (dpp.greedy_map(features, unusable, k), kernels.greedy_map(features, unusable, k)):
        assert walked.tolist() == want.tolist()
        torch.testing.assert_close(gained, gains)
    order, _ = foreseen.walk(features, similarity.array(unusable), k, dpp.FLOOR)
    assert order.tolist() == want.tolist()


def test_no_usable_relevance_at_all_gives_the_first_tokens() -> None:
    for walk in (dpp.greedy_map, kernels.greedy_map):
        order, gains = walk(torch.eye(24), torch.full((24,), math.inf), 4)
        assert order.tolist() == [0, 1, 2, 3] and gains.tolist() == [0.0] * 4


@pytest.mark.parametrize(("tau", "gamma"), [(-1.0, 100.0), (0.0, 100.0), (-1.0, 45.0)])
def test_the_steepest_graph_keeps_its_order(tau: float, gamma: float) -> None:
    features = clustered(60, 8, seed=2)
    rows = torch.nn.functional.normalize(features.double(), dim=1).numpy()
    exact = []
    for i in range(60):
        near = [s for s in rows[1 - i % 2 :: 2] @ rows[i] if s >= tau]
        exact.append(math.log(len(near)) + gamma * (float(np.mean(near)) - tau))
    scores = graph.redundancy(features, tau, gamma)
    assert torch.isfinite(scores).all()
    assert torch.sort(scores, stable=True).indices.tolist() == np.argsort(exact, kind="stable").tolist()
    torch.testing.assert_close(graph_score.redundancy(features, tau, gamma), scores)


def test_the_steepest_graph_drops_what_repeats() -> None:
    tokens = made.tokens(1, side=10)
    method = Script(tau=-1.0, gamma=100.0)
    selection = method.select(tokens, made.question(), 40)
    scores = selection.scores["redundancy"]
    assert torch.isfinite(scores).all() and len(selection) == 40
    dropped = torch.nonzero(~selection.allowed).flatten()
    assert scores[dropped].min() >= scores[selection.allowed].max() and len(dropped) == 25


def test_ordinary_graph_scores_are_the_formula_itself() -> None:
    degree, mean = torch.tensor([3.0, 5.0], dtype=torch.float64), torch.tensor([0.4, 0.9], dtype=torch.float64)
    want = degree * torch.exp(2.0 * (mean - 0.2))
    assert graph.connected(degree, mean, 0.2, 2.0).tolist() == want.tolist()
