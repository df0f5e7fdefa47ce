"""The figures' mathematics against cases small enough to do by hand."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
import torch

from script_core.analysis import bounds, detail, edits, estimation, locality, preferences, sweep
from script_core.analysis.plane import Plane, plane
from script_core.engine import Engine
from script_core.graph import redundancy
from script_core.pruners import PRUNERS
from script_core.pruners.base import CannotPrune
from script_core.pruners.script import Script
from script_core.tokens import Block, Grid, VisualTokens
from tests import made, tiny


def laid(vectors: list[list[float]], rows: int, cols: int) -> Plane:
    found = np.array(vectors, dtype=float)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    row, col = np.divmod(np.arange(rows * cols), cols)
    return Plane(found, row, col, rows, cols, np.arange(rows * cols))


RIGHT, UP = [1.0, 0.0], [0.0, 1.0]


# ---- planes ------------------------------------------------------------------------------------------------------


def test_a_plane_is_one_block_with_its_places() -> None:
    tokens = made.tokens(blocks=2, side=4)
    second = plane(tokens, 1)
    assert second.index.tolist() == list(range(16, 32)) and (second.rows, second.cols) == (4, 4)
    assert np.allclose(np.linalg.norm(second.vectors, axis=1), 1)
    assert second.image(second.index.astype(float))[2, 3] == 16 + 2 * 4 + 3
    with pytest.raises(ValueError, match="no crop or frame 2"):
        plane(tokens, 2)


def test_holes_have_no_neighbours() -> None:
    grid = Grid(
        (Block("base", 2, 2),), torch.zeros(3, dtype=torch.int64), torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0])
    )
    whole = plane(VisualTokens(torch.eye(3), grid))
    assert np.isnan(whole.image(np.zeros(3))[1, 1])
    assert sum(len(tokens) for tokens, _ in whole.around()) == 6  # each of the three sees the other two


# ---- Figure 3 ----------------------------------------------------------------------------------------------------


def test_similarity_by_distance_by_hand() -> None:
    found = locality.by_distance(laid([RIGHT, RIGHT, UP], 1, 3))
    assert found.distance.tolist() == [1, 2] and found.pairs.tolist() == [2, 1]
    assert found.mean.tolist() == pytest.approx([0.5, 0.0])
    assert (found.low[0], found.high[0]) == pytest.approx((0.25, 0.75))


def test_all_pairs_are_counted_once() -> None:
    found = locality.by_distance(plane(made.tokens(side=5)))
    assert found.pairs.sum() == 25 * 24 // 2 and found.distance.tolist() == list(range(1, 9))


def test_neighbours_of_stripes_are_alike_and_of_a_chessboard_are_not() -> None:
    stripes = locality.near_and_random(laid([RIGHT] * 8 + [UP] * 8, 4, 4))
    board = locality.near_and_random(laid([RIGHT if (i // 4 + i % 4) % 2 else UP for i in range(16)], 4, 4))
    assert len(stripes.near) == len(stripes.random) == 24
    assert stripes.chance > 0.5 > board.chance
    with pytest.raises(ValueError, match="too small"):
        locality.near_and_random(laid([RIGHT, UP], 1, 2))


# ---- Figures 4 and 9 -----------------------------------------------------------------------------------------------


def test_entropy_of_flat_and_of_halved_neighbourhoods() -> None:
    half = laid([RIGHT] * 12 + [UP] * 6, 3, 6)  # rows 0 and 1 one way, row 2 the other
    entropy = half.image(detail.local_entropy(half))
    assert np.allclose(entropy[0], 0, atol=1e-6)
    share = 3 / 9
    expected = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    assert np.allclose(entropy[1, 1:-1], expected, atol=1e-6)
    assert np.allclose(entropy[2], np.log(2), atol=1e-6)  # at the edge only two rows count: half and half
    assert not detail.local_entropy(laid([RIGHT] * 9, 3, 3)).any()


def test_local_similarity_counts_only_neighbours_that_exist() -> None:
    corner = laid([RIGHT, UP, RIGHT, RIGHT], 2, 2)
    assert detail.local_similarity(corner).tolist() == pytest.approx([2 / 3, 0.0, 2 / 3, 2 / 3])


def test_masks_shrink_as_tau_grows() -> None:
    masks = detail.redundancy_masks(plane(made.tokens(side=8)))
    assert masks.shape == (9, 64)
    assert not (masks[1:] & ~masks[:-1]).any()


def test_rank_correlation() -> None:
    a = np.array([1.0, 2.0, 3.0, 4.0])
    assert detail.rank_correlation(a, a**3).rho == pytest.approx(1)
    assert detail.rank_correlation(a, -a).rho == pytest.approx(-1)
    assert detail.rank_correlation(a, np.ones(4)) == detail.RankCorrelation(0.0, 1.0)


# ---- Figure 5 ------------------------------------------------------------------------------------------------------


def test_preferences_follow_the_methods_orders() -> None:
    tokens, query = made.tokens(blocks=2, side=4), made.question()
    maps = preferences.preferences(tokens, query, 6)
    assert [m.title for m in maps] == ["Attention", "Similarity", "Divergence", "DPP"]
    attention = maps[0]
    first = tokens.cls_attention[:16]
    assert attention.preference[int(first.argmax())] == 1 and attention.preference[int(first.argmin())] == 0
    for one in maps:
        assert len(one.kept) == 6 and one.preference.min() >= 0 and one.preference.max() == 1
        inside = one.kept[one.kept < 16]
        assert one.preference[inside].min() > np.delete(one.preference[:16], inside).max()


def test_a_model_without_cls_attention_says_so() -> None:
    tokens = dataclasses.replace(made.tokens(side=4), cls_attention=None, encoder=None)
    maps = preferences.preferences(tokens, made.question(), 4)
    assert "CLS token" in maps[0].missing and not len(maps[0].kept) and not maps[1].missing


def test_overlap() -> None:
    assert preferences.overlap(np.array([1, 2, 3]), np.array([2, 3, 4])) == 0.5
    assert preferences.overlap(np.array([]), np.array([])) == 1


# ---- Table 1 -------------------------------------------------------------------------------------------------------


def test_every_estimate_of_all_pairs_is_the_exhaustive_one() -> None:
    vectors = plane(made.tokens(side=6)).vectors
    first, second = estimation.random_pairs(36, 36 * 35 // 2, 0)
    whole = estimation.exhaustive(vectors, 0.3, 1.0)
    assert np.allclose(estimation.random(vectors, first, second, 0.3, 1.0), whole)


def test_bipartite_ranks_as_the_graph_does() -> None:
    tokens = made.tokens(side=6)
    ours = estimation.bipartite(plane(tokens).vectors, 0.3, 1.0)
    theirs = redundancy(tokens.features, 0.3, 1.0).numpy()
    assert estimation.top(ours, 36).tolist() == np.argsort(-theirs, kind="stable").tolist()


def test_the_table_counts_pairs_and_measures_overlap() -> None:
    exhaustive, bipartite, random = estimation.table(plane(made.tokens(side=6)), 12, 0.3, 1.0, repeats=1)
    assert (exhaustive.pairs, exhaustive.share, exhaustive.iou, exhaustive.speedup) == (630, 1.0, 1.0, 1.0)
    assert bipartite.pairs == random.pairs == 324 and bipartite.share == pytest.approx(324 / 630)
    assert all(0 < e.iou <= 1 and e.ms > 0 for e in (bipartite, random))
    first, second = estimation.random_pairs(36, 324, 0)
    assert (first < second).all() and len(set(zip(first.tolist(), second.tolist(), strict=True))) == 324


# ---- Figure 6 ------------------------------------------------------------------------------------------------------


def equally_similar(size: int, similarity: float) -> np.ndarray:
    gram = np.full((size, size), similarity) + (1 - similarity) * np.eye(size)
    return np.linalg.cholesky(gram)


def test_the_average_bound_is_met_by_equal_similarities() -> None:
    for size, similarity in ((2, 0.3), (5, 0.6), (5, -0.2)):
        found = bounds.point(equally_similar(size, similarity), "equal")
        assert found.average == pytest.approx(similarity)
        assert found.log_det == pytest.approx(float(bounds.average_bound(similarity, size)))
    assert float(bounds.average_bound(0.5, 2)) == pytest.approx(np.log(0.75))


def test_a_duplicate_has_no_determinant_at_any_average() -> None:
    rows = np.eye(12)
    rows[1] = rows[0]
    found = bounds.point(rows, "duplicate")
    assert found.average == pytest.approx(2 / (12 * 11)) and np.exp(found.log_det) == pytest.approx(0)
    assert float(bounds.average_bound(found.average, 12)) > np.log(0.9)


def test_theorems_hold_and_the_tempting_claims_do_not() -> None:
    rng = np.random.default_rng(0)
    points = []
    for size in range(2, 9):
        for _ in range(40):
            vectors = rng.normal(size=(size, 9)) + rng.uniform(0, 2)
            points.append(bounds.point(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), "made"))
    found = bounds.checks(points)
    assert [check.failed for check in found if check.theorem] == [0, 0, 0, 0]
    assert all(check.failed for check in found if not check.theorem)
    assert all(check.checked >= 280 for check in found)
    assert any(bounds.row_bound(p) > -np.inf for p in points), "Gershgorin was never put to the test"


def test_drawn_subsets_have_their_size_and_cover_high_averages() -> None:
    drawn = bounds.draw(plane(made.tokens(side=8)).vectors, 6, 40)
    assert {p.size for p in drawn} == {6} and len(drawn) == 40
    assert max(p.average for p in drawn if p.name != "random") > max(p.average for p in drawn if p.name == "random")
    with pytest.raises(ValueError, match="at least two"):
        bounds.point(np.eye(1), "one")


# ---- sweeps and edits ----------------------------------------------------------------------------------------------


def test_a_sweep_ends_at_the_full_answer(llava: Engine) -> None:
    picture = tiny.picture(90, 84)
    steps = list(sweep.sweep(llava, picture, "what is this ?", "script", max_new_tokens=3))
    assert [s.budget for s in steps] == sweep.budgets(36)
    last = steps[-1]
    assert last.same and last.agreement == 1 and last.kl_first == last.kl_answer == 0 and last.share == 1
    assert any(s.kl_first > 0 for s in steps[:-1])
    for step in steps:
        asked = llava.ask(picture, "what is this ?", pruner="script", budget=step.budget, max_new_tokens=3)
        assert asked.answer == step.answer and step.ms > 0
    stop = threading.Event()
    stop.set()
    assert not list(sweep.sweep(llava, picture, "what ?", "script", max_new_tokens=1, stop=stop))


def test_the_smallest_budget_that_keeps_the_answer() -> None:
    def step(budget: int, same: bool) -> sweep.Step:
        return sweep.Step(budget / 100, budget, "", same, 0, 0, 1, 1)

    comes_and_goes = [step(2, False), step(5, True), step(10, False), step(50, True), step(100, True)]
    assert sweep.keeps(comes_and_goes) == sweep.Keeps(5, 50)
    assert sweep.keeps([step(5, False)]) == sweep.Keeps(None, None)


def test_forced_tokens_take_the_last_places_and_free_ones_go_to_the_next() -> None:
    tokens, query = made.tokens(side=6), made.question()
    plain = Script().select(tokens, query, 8)
    chosen = [t for t in plain.order.tolist() if t in set(plain.kept.tolist())]
    outsider = next(t for t in range(36) if t not in chosen)
    swapped = edits.Edited(Script(), forced_in=(outsider,)).select(tokens, query, 8)
    assert set(swapped.kept.tolist()) == {outsider, *chosen[:-1]}
    longer = Script().select(tokens, query, 9)
    without = edits.Edited(Script(), forced_out=(chosen[0],)).select(tokens, query, 8)
    if set(chosen) <= set(longer.kept.tolist()):
        assert set(without.kept.tolist()) == set(longer.kept.tolist()) - {chosen[0]}
    assert edits.Edited(Script()).select(tokens, query, 8).kept.tolist() == plain.kept.tolist()


@pytest.mark.parametrize("name", [n for n, cls in PRUNERS.items() if cls.acts == "before"])
def test_every_choice_before_the_model_can_be_edited(name: str) -> None:
    tokens, query = made.tokens(blocks=2, side=5), made.question()
    base = PRUNERS[name]()
    budget = 50 if name == "full" else 9
    try:
        plain = base.select(tokens, query, budget)
        found = edits.Edited(base, forced_in=(49,), forced_out=(0,) if budget < 50 else ()).select(
            tokens, query, budget
        )
    except CannotPrune as reason:
        assert "merges" in str(reason)
        return
    assert len(found) == len(plain) and 49 in found.kept.tolist()


def test_impossible_edits_are_refused_in_a_sentence() -> None:
    tokens, query = made.tokens(side=4), made.question()
    for edit, said in (
        (lambda: edits.Edited(Script(), (3,), (3,)), "in and out"),
        (lambda: edits.Edited(PRUNERS["fastv"]()), "inside"),
        (lambda: edits.Edited(Script(), (16,)).select(tokens, query, 4), "no token 16"),
        (lambda: edits.Edited(Script(), (1, 2, 3)).select(tokens, query, 2), "cannot be forced"),
        (lambda: edits.Edited(Script(), (), tuple(range(14))).select(tokens, query, 4), "are left"),
    ):
        with pytest.raises(CannotPrune, match=said):
            edit()


def test_a_region_holds_the_tokens_whose_centres_it_holds() -> None:
    tokens = made.tokens(side=4)
    assert edits.inside(tokens, (0.0, 0.0, 0.5, 0.25)) == (0, 1)
    assert len(edits.inside(tokens, (0.0, 0.0, 1.0, 1.0))) == 16
    tile = Grid.full((Block("tile", 2, 2, (0.5, 0.5, 1.0, 1.0)),))
    assert edits.inside(VisualTokens(torch.eye(4), tile), (0.75, 0.75, 1.0, 1.0)) == (3,)


def test_an_edit_changes_what_the_model_reads(llava: Engine) -> None:
    picture = tiny.picture(84, 84)
    plain = llava.ask(picture, "what is this ?", pruner="script", budget=6, max_new_tokens=2)
    out = tuple(plain.selection.kept.tolist())
    edited = llava.ask(
        picture, "what is this ?", pruner=edits.Edited(Script(), forced_out=out), budget=6, max_new_tokens=2
    )
    assert not set(out) & set(edited.selection.kept.tolist()) and len(edited.selection) == 6
    assert not torch.equal(plain.first_logits, edited.first_logits)
