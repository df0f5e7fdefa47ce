"""What every method promises, and what Script in particular does."""

from __future__ import annotations

import gc
import itertools
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from script_core import derived, graph, similarity
from script_core.dpp import greedy_map
from script_core.pruners import PRUNERS
from script_core.pruners.base import CannotPrune, split_budget
from script_core.pruners.script import QCSP, Script
from script_core.pruners.walks import REACH
from script_core.tokens import Selection, VisualTokens
from tests import made

OUTSIDE = sorted(name for name, method in PRUNERS.items() if method.acts != "inside" and name != "full")
BEFORE = sorted(name for name in OUTSIDE if PRUNERS[name].acts == "before")
# Methods whose choice does not depend on where a token stands in the sequence.
EQUIVARIANT = ["qcsp", "cdpruner", "script_released", "divprune", "cls_attention", "similarity", "trim"]


def select(name: str, tokens: VisualTokens, budget: int, joint: bool = True) -> Selection:
    return PRUNERS[name]().select(tokens, made.question(tokens.features.dtype, joint), budget)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("name", OUTSIDE)
def test_contract(name: str, blocks: int, joint: bool, dtype: torch.dtype) -> None:
    tokens = made.tokens(blocks, side=9, dtype=dtype, joint=joint)
    total = len(tokens)
    if not joint and "joint" in PRUNERS[name].needs:
        with pytest.raises(CannotPrune, match="does not have"):
            select(name, tokens, 16, joint)
        return
    for budget in (1, 16, 64, total - 1, total, total + 5):
        selection = select(name, tokens, budget, joint)
        assert len(selection) == min(budget, total) and selection.total == total
        kept = selection.kept
        assert kept.dtype == torch.int64 and (kept[1:] > kept[:-1]).all()
        assert len(kept) <= min(budget, total) and (not len(kept) or 0 <= kept[0] <= kept[-1] < total)
        for values in selection.scores.values():
            assert values.shape == (total,) and values.dtype == torch.float32 and torch.isfinite(values).all()
        if selection.inserted is not None:
            assert selection.inserted.shape == (budget, made.WIDTH) and selection.inserted.dtype == dtype
            assert torch.isfinite(selection.inserted).all()
        if budget >= total:
            assert kept.tolist() == list(range(total)) and selection.inserted is None
        again = select(name, made.tokens(blocks, side=9, dtype=dtype, joint=joint), budget, joint)
        assert again.kept.tolist() == kept.tolist() and again.order.tolist() == selection.order.tolist()


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("features", ["equal", "zero", "not a number"])
def test_degenerate_features_still_give_exactly_the_budget(name: str, features: str) -> None:
    tokens = made.tokens(2, side=6)
    value = {"equal": 1.0, "zero": 0.0, "not a number": float("nan")}[features]
    flat = replace(tokens, features=torch.full_like(tokens.features, value))
    for budget in (1, 7, 71):
        assert len(select(name, flat, budget)) == budget


@pytest.mark.parametrize("name", sorted(PRUNERS))
def test_declarations(name: str) -> None:
    method = PRUNERS[name]
    assert method.name == name and method.title and method.acts in ("before", "inside", "after")
    assert method.needs <= {"joint", "cls_attention", "encoder", "in_model"}
    assert isinstance(method.reads_question, bool) and hash(method()) == hash(method())
    assert hasattr(method, "begin" if method.acts == "inside" else "select")


@pytest.mark.parametrize("name", OUTSIDE)
def test_reading_the_question_is_declared_truthfully(name: str) -> None:
    tokens = made.tokens(1, side=9)
    chosen = {tuple(PRUNERS[name]().select(tokens, made.question(seed=s), 20).kept.tolist()) for s in range(4)}
    assert (len(chosen) > 1) == PRUNERS[name].reads_question


@pytest.mark.parametrize("budget", [0, -3, 1.5, True, "64", None])
@pytest.mark.parametrize("name", [*OUTSIDE, "full"])
def test_impossible_budgets_are_refused_in_words(name: str, budget: Any) -> None:
    with pytest.raises(CannotPrune, match="The budget must be"):
        PRUNERS[name]().select(made.tokens(side=4), made.question(), budget)


@pytest.mark.parametrize("name", EQUIVARIANT)
def test_moving_tokens_around_moves_the_selection_with_them(name: str) -> None:
    tokens = made.tokens(1, side=8)
    shuffle = torch.randperm(64, generator=torch.Generator().manual_seed(3))
    state = replace(tokens.encoder, patch=tokens.encoder.patch[shuffle])
    moved = replace(
        tokens,
        features=tokens.features[shuffle],
        joint=tokens.joint[shuffle],
        cls_attention=tokens.cls_attention[shuffle],
        encoder=state,
    )
    was, now = select(name, tokens, 20), select(name, moved, 20)
    assert sorted(shuffle[now.kept].tolist()) == was.kept.tolist()


@pytest.mark.parametrize("name", EQUIVARIANT)
def test_of_equal_tokens_the_first_stay(name: str) -> None:
    for side, seed in itertools.product((12, 13, 17, 23), range(4)):  # products are tiled differently by size
        tokens = made.tokens(1, side=side, seed=seed)
        first = len(tokens) // 3
        source = torch.arange(len(tokens)).clamp_max(first)
        fields = {field: getattr(tokens, field)[source] for field in ("features", "joint", "cls_attention")}
        kept = select(name, replace(tokens, **fields), first + 30).kept
        same = kept[kept >= first].tolist()
        assert same == list(range(first, first + len(same)))


@pytest.mark.parametrize("name", BEFORE)
def test_every_smaller_budget_follows_from_a_nested_order(name: str) -> None:
    tokens = made.tokens(3, side=7)
    sizes = [len(index) for index in tokens.grid.members()]
    largest = select(name, tokens, 60)
    if not largest.nested:
        assert name == "uniform"
        return
    whole = name == "divprune"
    parts = [largest.order] if whole else list(largest.order.split(sizes))
    for budget in (1, 5, 33, 60, 100, 146):
        shares = [budget] if whole else split_budget(budget, sizes)
        want = []
        for part, share in zip(parts, shares, strict=True):
            allowed = torch.ones(len(tokens), dtype=torch.bool)
            if largest.allowed is not None:
                index = torch.sort(part).values
                allowed[index] = graph.survivors(largest.scores["redundancy"][index], Script().p, share)
            want += part[allowed[part]][:share].tolist()
        assert select(name, tokens, budget).kept.tolist() == sorted(want)


def by_definition(method: Script, features: Tensor, relevance: Tensor, budget: int) -> list[int]:
    """script.md sections 1-4 for one scope, from the public functions."""
    scores = graph.redundancy(features, method.tau, method.gamma)
    dropped = min(round(method.p * len(features)), len(features) - budget)
    ranked = sorted(range(len(features)), key=lambda i: (float(scores[i]), i))
    inside = set(ranked[: len(features) - dropped])
    order = greedy_map(features, relevance, len(features))[0].tolist()
    return sorted([i for i in order if i in inside][:budget])


@pytest.mark.parametrize("budget", [1, 10, 40, 70, 99])
@pytest.mark.parametrize("method", [Script(), Script(tau=0.1, p=0.3), Script(gamma=0.0, p=0.8), Script(p=0.0)])
def test_script_is_its_definition(method: Script, budget: int) -> None:
    tokens = made.tokens(1, side=10)
    selection = method.select(tokens, made.question(), budget)
    assert selection.kept.tolist() == by_definition(method, tokens.features, selection.scores["relevance"], budget)
    assert selection.allowed[selection.kept].all()


def test_the_graph_is_not_inert() -> None:
    for seed in range(5):
        tokens, asked = made.tokens(2, side=10, seed=seed), made.question(seed=seed)
        ours, without = Script().select(tokens, asked, 40), QCSP().select(tokens, asked, 40)
        assert ours.kept.tolist() != without.kept.tolist()
        assert ours.order.tolist() == without.order.tolist()
        same = Script(p=0.0).select(tokens, asked, 40)
        assert same.kept.tolist() == without.kept.tolist()


def test_a_token_that_matches_the_question_outranks_one_that_does_not() -> None:
    tokens, asked = made.tokens(1, side=4, seed=7), made.question()
    joint = tokens.joint.clone()
    joint[5], joint[6] = asked.joint[0], -asked.joint[0]
    order = QCSP().select(replace(tokens, joint=joint), asked, 4).order.tolist()
    assert order[0] == 5 and order.index(6) > order.index(5)
    flipped = QCSP(sign=-1).select(replace(tokens, joint=joint), asked, 4).order.tolist()
    assert flipped[0] == 6


def test_the_three_switches() -> None:
    tokens, asked, budget = made.tokens(1, side=10), made.question(), 30

    def kept(gsp: bool, qcrs: bool, dpp: bool, **more: Any) -> list[int]:
        return Script(p=0.5, gsp=gsp, qcrs=qcrs, dpp=dpp, **more).select(tokens, asked, budget).kept.tolist()

    full = Script(p=0.5).select(tokens, asked, budget)
    redundancy, relevance = full.scores["redundancy"], full.scores["relevance"]
    least = torch.sort(redundancy, stable=True).indices
    most = torch.sort(relevance, descending=True, stable=True).indices
    inside = set(least[:50].tolist())
    assert kept(True, True, True) == full.kept.tolist()
    assert kept(True, False, False) == sorted(least[:30].tolist()) == select("gsp", tokens, budget).kept.tolist()
    assert kept(False, True, False) == sorted(most[:30].tolist())
    assert kept(True, True, False) == sorted([i for i in most.tolist() if i in inside][:30])
    plain = greedy_map(tokens.features, torch.ones(100), 100)[0].tolist()
    assert kept(False, False, True) == sorted(plain[:30])
    assert kept(True, False, True) == sorted([i for i in plain if i in inside][:30])
    assert kept(False, True, True) == select("qcsp", tokens, budget).kept.tolist()
    by_chance = {tuple(kept(False, False, False, seed=s)) for s in range(3)}
    assert len(by_chance) == 3 and kept(False, False, False) == kept(False, False, False)
    assert len({tuple(kept(*switches)) for switches in itertools.product([True, False], repeat=3)}) == 8


def test_p_is_lowered_exactly_as_far_as_needed_and_said() -> None:
    tokens = made.tokens(2, side=10)
    roomy, tight = (Script(p=0.5).select(tokens, made.question(), budget) for budget in (100, 101))
    assert roomy.notes == () and int(roomy.allowed.sum()) == 100
    assert "p was lowered" in tight.notes[0] and "1 of 2" in tight.notes[0] and int(tight.allowed.sum()) == 101
    assert tight.kept.tolist() == torch.nonzero(tight.allowed).flatten().tolist()


def test_a_cascade_runs_the_dpp_over_the_survivors_only() -> None:
    tokens, asked = made.tokens(1, side=10), made.question()
    method = Script(p=0.5, order="cascade")
    for budget in (10, 50, 80):
        got = method.select(tokens, asked, budget)
        relevance, inside = (
            got.scores["relevance"],
            torch.nonzero(Script(p=0.5).select(tokens, asked, 10).allowed).flatten(),
        )
        picks = inside[greedy_map(tokens.features[inside], relevance[inside], 50)[0]]
        if budget <= 50:
            assert got.kept.tolist() == sorted(picks[:budget].tolist())
        else:
            assert got.kept.tolist() == torch.nonzero(got.allowed).flatten().tolist()


def test_the_budget_is_shared_by_blocks_or_competed_for() -> None:
    tokens, asked = made.tokens(3, side=10), made.question()
    per_crop = Script().select(tokens, asked, 32).kept
    assert torch.bincount(tokens.grid.block[per_crop], minlength=3).tolist() == [11, 11, 10]
    everywhere = Script(scope="global").select(tokens, asked, 32)
    relevance = everywhere.scores["relevance"]
    assert int((relevance == 1).sum()) == 1  # scaled over all tokens together
    assert everywhere.kept.tolist() == by_definition(Script(), tokens.features, relevance, 32)


def test_large_blocks_are_walked_as_far_as_the_budget_needs() -> None:
    tokens, asked = made.tokens(13, side=10), made.question()
    method = Script(scope="global", tau=-0.5)
    assert len(tokens) > REACH
    for budget in (20, 600, 1000):
        got = method.select(tokens, asked, budget)
        assert got.kept.tolist() == by_definition(method, tokens.features, got.scores["relevance"], budget)


@pytest.mark.parametrize(
    ("budget", "sizes", "want"),
    [
        (320, [576] * 5, [64] * 5),
        (7, [3, 3, 3], [3, 2, 2]),
        (5, [1, 10, 10], [1, 2, 2]),
        (6, [1, 10, 10], [1, 3, 2]),
        (5, [10, 10, 1], [2, 2, 1]),
        (9, [0, 4, 4], [0, 4, 4]),
        (4, [0, 2, 9], [0, 2, 2]),
        (1, [3], [1]),
    ],
)
def test_split_budget(budget: int, sizes: list[int], want: list[int]) -> None:
    assert split_budget(budget, sizes) == want


def test_shares_never_shrink_when_the_budget_grows() -> None:
    for sizes in ([4, 0, 7, 2], [1, 1, 9], [5, 5, 5]):
        before = [0] * len(sizes)
        for budget in range(sum(sizes) + 1):
            now = split_budget(budget, sizes)
            assert sum(now) == budget and all(a <= b <= c for a, b, c in zip(before, now, sizes, strict=True))
            before = now


@pytest.mark.parametrize(
    "wrong",
    [{"tau": 1.5}, {"gamma": -1.0}, {"p": 1.1}, {"p": float("nan")}, {"sign": 2}, {"scope": "row"}, {"order": "up"}],
)
def test_parameters_out_of_range_are_refused_in_words(wrong: dict[str, Any]) -> None:
    with pytest.raises(CannotPrune, match="must"):
        Script(**wrong)


def test_what_is_kept_beside_an_encoding_is_reused_and_goes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, asked = made.tokens(2, side=8), made.question()
    first = Script().select(tokens, asked, 30)
    monkeypatch.setattr(similarity, "gram", lambda features: pytest.fail("similarity was computed again"))
    monkeypatch.setattr(graph, "bipartite", lambda features: pytest.fail("the graph was built again"))
    assert Script().select(tokens, asked, 30).kept.tolist() == first.kept.tolist()
    Script(tau=0.3, gamma=2.0).select(tokens, made.question(seed=8), 20)
    alive, before = weakref.ref(tokens), len(derived._DERIVED)
    del tokens
    gc.collect()
    assert alive() is None and len(derived._DERIVED) < before
