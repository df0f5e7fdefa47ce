"""The fast forms give what the plain ones give: same order, same gains, same scores."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from script_core import dpp, graph, kernels
from script_core.kernels import foreseen

ROOT = Path(__file__).parent.parent


def features(n: int, d: int, seed: int = 0) -> torch.Tensor:
    """Tokens in clusters, as neighbouring patches are."""
    made = torch.Generator().manual_seed(seed)
    centre = torch.randn(n // 4 + 1, d, generator=made)
    return centre[torch.randint(len(centre), (n,), generator=made)] + 0.5 * torch.randn(n, d, generator=made)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("k", [1, 7, 12, 100])
def test_a_walk_from_raw_features_is_the_reference_walk(seed: int, k: int) -> None:
    x, r = features(96, 24, seed), torch.rand(96, generator=torch.Generator().manual_seed(seed))
    order, gains = kernels.greedy_map(x, r, k)
    expected, expected_gains = dpp.greedy_map(x, r, k)
    assert order.tolist() == expected.tolist()
    assert torch.allclose(gains, expected_gains, atol=1e-6)


@pytest.mark.parametrize(
    "x",
    [
        features(40, 3),  # fewer dimensions than picks
        torch.ones(40, 5),
        torch.zeros(40, 5),
        features(20, 8).repeat(2, 1),
        torch.full((40, 4), float("nan")),
    ],
    ids=["rank-deficient", "all-equal", "zero", "every token twice", "not a number"],
)
@pytest.mark.parametrize("flat", [True, False])
def test_degenerate_inputs_walk_as_the_reference_does(x: torch.Tensor, flat: bool) -> None:
    r = torch.ones(40) if flat else torch.linspace(0, 1, 40)
    for k in (1, 5, 40):
        assert kernels.greedy_map(x, r, k)[0].tolist() == dpp.greedy_map(x, r, k)[0].tolist()


def test_equal_relevance_is_a_tie_that_the_lowest_index_wins() -> None:
    assert kernels.greedy_map(features(64, 700), torch.ones(64), 1)[0].tolist() == [0]


@pytest.mark.parametrize("half", [290, 1443])  # no multiple of what a matrix product works on at once
def test_the_same_token_twice_is_a_tie_however_products_round(half: int) -> None:
    x, r = features(half, 300).repeat(2, 1), torch.rand(half, generator=torch.Generator().manual_seed(3)).repeat(2)
    for walk in (kernels.greedy_map, dpp.greedy_map):
        assert int(walk(x, r, 100)[0].max()) < half


def test_a_wrong_guess_costs_time_and_not_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    x, r = features(64, 16), torch.rand(64, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(foreseen, "_guess", lambda some, *_: (np.ones(len(some)), np.array([3, 2]), 1.0))
    assert kernels.greedy_map(x, r, 8)[0].tolist() == dpp.greedy_map(x, r, 8)[0].tolist()


def test_less_relevant_tokens_are_looked_at_when_the_most_relevant_repeat_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, r = features(64, 16), torch.linspace(0.5, 1, 64)
    x[32:] = x[32]  # the more relevant half is one token over and over
    looked: list[int] = []
    plain = foreseen._guess
    monkeypatch.setattr(foreseen, "_guess", lambda some, *more: looked.append(len(some)) or plain(some, *more))
    assert kernels.greedy_map(x, r, 6)[0].tolist() == dpp.greedy_map(x, r, 6)[0].tolist()
    assert looked[0] == 18 and looked[-1] > 32


def test_a_batch_is_its_crops_one_by_one() -> None:
    x, r = features(120, 8).view(3, 40, 8), torch.rand(3, 40, generator=torch.Generator().manual_seed(2))
    order, gains = kernels.greedy_map(x, r, 6)
    assert order.shape == gains.shape == (3, 6) and order.dtype == torch.int64 and gains.dtype == torch.float32
    for crop in range(3):
        assert order[crop].tolist() == kernels.greedy_map(x[crop], r[crop], 6)[0].tolist()


def test_no_tokens_and_no_picks_are_empty_and_wrong_shapes_are_explained() -> None:
    assert kernels.greedy_map(torch.zeros(0, 4), torch.zeros(0), 5)[0].shape == (0,)
    assert kernels.greedy_map(torch.ones(2, 3, 4), torch.ones(2, 3), 0)[0].shape == (2, 0)
    with pytest.raises(ValueError, match="needs features"):
        kernels.greedy_map(torch.ones(3, 4), torch.ones(4), 1)
    with pytest.raises(ValueError, match="negative"):
        kernels.greedy_map(torch.ones(3, 4), torch.ones(3), -1)


@pytest.mark.parametrize("n", [1, 2, 5, 33])
@pytest.mark.parametrize("tau", [-0.2, 0.5, 1.0])
def test_the_graph_score_in_strips_is_the_graph_score(n: int, tau: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("script_core.kernels.graph_score.STRIP", 4)
    x = features(n, 6)
    x[-1] = x[0]
    assert torch.allclose(kernels.redundancy(x, tau, 1.0), graph.redundancy(x, tau, 1.0), atol=1e-6)


def test_the_graph_scores_of_a_batch_are_those_of_its_crops() -> None:
    x = features(3 * 17, 6).view(3, 17, 6)
    scores = kernels.redundancy(x, 0.4, 1.0)
    assert torch.allclose(scores, torch.stack([graph.redundancy(crop, 0.4, 1.0) for crop in x]), atol=1e-6)
    with pytest.raises(ValueError, match="needs features"):
        kernels.redundancy(x[0, 0], 0.4, 1.0)


# Run in a process of its own: Triton reads its switch for the interpreter once, when it is imported.
INTERPRETED = """
import json, torch
from script_core import dpp
from script_core.bench.parity import Sizes, agreeing, cases
from script_core.kernels import triton_walk
from script_core.similarity import gram

torch.set_num_threads(1)
triton_walk.CROP, triton_walk.TILE, triton_walk.CHUNK = CROP, 4, 2
found = {}
for case in cases(Sizes(SIZE, FEW, 12, 13)):
    matrices = torch.stack([torch.from_numpy(gram(crop)) for crop in case.features])
    same, apart = agreeing(case, lambda *given: triton_walk.walk(*given, dpp.FLOOR), matrices)
    found[case.name] = [len(matrices) - same, apart]
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    ("crop", "size", "few"), [(1024, 200, 4), (0, 3, 1)], ids=["one launch", "one launch per pick"]
)
def test_the_triton_kernels_walk_as_the_reference_does(crop: int, size: int, few: int) -> None:
    program = INTERPRETED.replace("CROP, 4", f"{crop}, 4").replace("SIZE", str(size)).replace("FEW", str(few))
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert all(wrong == 0 and apart < 1e-9 for wrong, apart in found.values()), found


def test_the_library_works_without_triton() -> None:
    program = "import sys; sys.modules['triton'] = None; from script_core.kernels import greedy_map"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0
