"""Methods inside the language model: selection against restatements, schedules, and whole runs of a tiny model."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from script_core.engine import Engine
from script_core.prefill import Decoding
from script_core.pruners import fastv, pdrop, sparsevlm
from script_core.pruners.base import CannotPrune, Cut, LayerView
from script_core.pruners.fastv import FastV
from script_core.pruners.inside import Run, at_depth
from script_core.pruners.pdrop import PDrop
from script_core.pruners.sparsevlm import SparseVLM
from tests.made import clustered
from tests.recomputed import QUESTION, layer_by_layer
from tests.tiny import picture

METHODS = [FastV(), PDrop(), SparseVLM()]


def attention(*shape: int, seed: int = 0) -> Tensor:
    return torch.softmax(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_fastv_keeps_what_the_last_row_attends_to() -> None:
    rows = attention(4, 50, seed=1)
    mean = rows.double().mean(0)[7:37].tolist()
    want = sorted(sorted(range(30), key=lambda i: -mean[i])[:11])
    assert fastv.rank(rows, 7, 30, 11).tolist() == want
    assert fastv.rank(torch.ones(2, 9) / 9, 2, 6, 3).tolist() == [0, 1, 2]  # ties: lowest index


def rope(x: np.ndarray, position: int, base: float) -> np.ndarray:
    half = len(x) // 2
    out = x.copy()
    for i in range(half):
        angle = position / base ** (2 * i / len(x))
        out[i] = x[i] * math.cos(angle) - x[i + half] * math.sin(angle)
        out[i + half] = x[i + half] * math.cos(angle) + x[i] * math.sin(angle)
    return out


@pytest.mark.parametrize("key_heads", [4, 2])
def test_pdrop_ranks_by_the_next_layers_queries_and_keys(key_heads: int) -> None:
    draw = torch.Generator().manual_seed(key_heads)
    length, width, heads, size = 20, 12, 4, 6
    hidden = torch.randn(1, length, width, generator=draw)
    wq, wk = torch.randn(24, width, generator=draw), torch.randn(key_heads * 6, width, generator=draw)
    states = hidden[0].double().numpy()
    states = states / np.sqrt((states**2).mean(axis=1, keepdims=True) + 1e-5)
    query, keys = states[-1] @ wq.double().numpy().T, states @ wk.double().numpy().T
    total = np.zeros(length)
    for h in range(heads):
        q, g = rope(query[h * size : (h + 1) * size], length - 1, 100.0), h // (heads // key_heads)
        scores = np.array([q @ rope(keys[p, g * size : (g + 1) * size], p, 100.0) for p in range(length)])
        weights = np.exp((scores - scores.max()) / math.sqrt(size))
        total += weights / weights.sum()
    want = sorted(sorted(range(13), key=lambda i: -total[4 + i])[:5])
    assert pdrop.rank(hidden, wq, wk, heads, 4, 13, 5, 1e-5, 100.0).tolist() == want


def test_sparsevlm_raters_are_text_tokens_above_the_mean() -> None:
    visual, text = clustered(30, 10, seed=1), clustered(7, 10, seed=2)
    shares = torch.softmax(visual.double() @ text.double().T, dim=1).mean(dim=0)
    scores, raters = sparsevlm.raters(visual, text)
    torch.testing.assert_close(scores, shares.float())
    assert raters.tolist() == [i for i in range(7) if shares[i] > shares.mean()] and 0 < len(raters) < 7
    assert sparsevlm.raters(visual, text[:1].repeat(4, 1))[1].tolist() == [0, 1, 2, 3]


def test_sparsevlm_prune_reads_rater_rows_and_visual_columns() -> None:
    rows, raters = attention(3, 6, 40, seed=3), torch.tensor([1, 4])
    mean = rows.double().mean(0)[[1, 4]].mean(0)[5:30]
    relation, kept = sparsevlm.prune(rows, raters, 5, 25, 9)
    torch.testing.assert_close(relation, mean.float())
    assert kept.tolist() == sorted(sorted(range(25), key=lambda i: -float(mean[i]))[:9])
    assert len(sparsevlm.prune(rows, raters, 5, 25, 25)[1]) == 24


@pytest.mark.parametrize("dropped", [1, 2, 30, 100, 276])
def test_sparsevlm_recycles_clusters_of_the_better_part(dropped: int) -> None:
    states = clustered(dropped, 6, seed=dropped)
    relation = torch.rand(dropped, generator=torch.Generator().manual_seed(dropped))
    best = sorted(range(dropped), key=lambda i: -float(relation[i]))[: int(0.3 * dropped) + 1]
    count = int(len(best) / 10) + 1
    points = states[best].double().numpy()
    distance = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1)) / math.sqrt(6)
    density = np.exp(-(np.sort(distance, axis=1)[:, :count] ** 2).mean(axis=1))
    delta = np.array(
        [
            min((distance[i, j] for j in range(len(best)) if density[j] > density[i]), default=distance.max())
            for i in range(len(best))
        ]
    )
    centres = sorted(range(len(best)), key=lambda i: -(density[i] * delta[i]))[:count]
    groups: list[list[int]] = [[c] for c in centres]
    for i in range(len(best)):
        if i not in centres:
            groups[int(np.argmin([distance[i, c] for c in centres]))].append(i)
    want = np.stack([points[group].sum(axis=0) / (len(group) + 1e-6) for group in groups])
    got = sparsevlm.recycle(states, relation)
    assert got.shape == (sparsevlm.recycled(dropped), 6)
    torch.testing.assert_close(got, torch.from_numpy(want).float())
    assert sparsevlm.recycle(states[:0], relation[:0]).shape == (0, 6) and sparsevlm.recycled(0) == 0


@pytest.mark.parametrize("total", [576, 2880])
@pytest.mark.parametrize("method", METHODS)
def test_schedules_average_the_budget_or_are_refused(method: Any, total: int) -> None:
    reached = 0
    for budget in (16, 32, 36, 64, 100, 160, 192, 320, 400, 575, total - 1, total, total + 9):
        try:
            counts = method.schedule(budget, total, 28)  # a depth for which nothing is published
        except CannotPrune as refusal:
            assert str(budget) in str(refusal) and budget < 200 * total / 576
            continue
        reached += 1
        assert len(counts) == 28 and counts[0] == total and all(a >= b > 0 for a, b in itertools.pairwise(counts))
        assert abs(sum(counts) / 28 - min(budget, total)) <= 0.5
    assert reached >= 6


@pytest.mark.parametrize(
    ("total", "budget", "rank"), [(576, 192, 166), (576, 128, 98), (576, 64, 30), (2880, 320, 149)]
)
def test_fastv_ranks_of_a_32_layer_model(total: int, budget: int, rank: int) -> None:
    assert FastV().schedule(budget, total, 32) == (total,) * 2 + (rank,) * 30


@pytest.mark.parametrize(
    ("method", "total", "budget"),
    [
        (FastV(), 576, 35),
        (FastV(), 576, 16),
        (FastV(), 2880, 160),
        (FastV(), 576, 128),
        (PDrop(), 576, 16),
        (SparseVLM(), 576, 53),
        (SparseVLM(), 576, 16),
    ],
)
def test_budgets_out_of_reach_are_refused_with_the_reason(method: Any, total: int, budget: int) -> None:
    layers = 4 if budget == 128 else 32
    with pytest.raises(CannotPrune, match=f"cannot average {budget} visual tokens"):
        method.schedule(budget, total, layers)


def test_the_published_schedules() -> None:
    assert PDrop().schedule(270, 576, 32) == (576,) * 8 + (288,) * 8 + (144,) * 8 + (72,) * 8
    assert PDrop().schedule(1350, 2880, 32) == (2880,) * 8 + (1440,) * 8 + (720,) * 8 + (360,) * 8
    for budget, counts in {192: (309, 204, 113), 128: (312, 117, 39), 96: (249, 55, 27), 64: (82, 32, 18)}.items():
        first, second, third = counts
        want = (576,) * 3 + (first,) * 4 + (second,) * 9 + (third,) * 16
        assert SparseVLM().schedule(budget, 576, 32) == want


def test_cut_layers_scale_with_depth() -> None:
    assert at_depth((3, 7, 16), 32) == (3, 7, 16) and at_depth((3, 7, 16), 40) == (4, 9, 20)
    assert at_depth((3, 7, 16), 4) == (1, 2, 3)
    with pytest.raises(CannotPrune, match="only 3"):
        at_depth((3, 7, 16), 3)


class Recorded:
    """A method's run, with every cut written down and every view checked."""

    def __init__(self, run: Any) -> None:
        self.run, self.positions = run, run.positions
        self.cuts: list[tuple[int, Tensor, Tensor | None]] = []
        self.views: list[LayerView] = []

    def cut(self, view: LayerView) -> Cut | None:
        cut = self.run.cut(view)
        self.views.append(view)
        if cut is not None:
            self.cuts.append((view.index, cut.keep, cut.merged))
        return cut


def start(engine: Engine, method: Any, budget: int) -> tuple[Recorded, Decoding, Any, Any]:
    encoded = engine.encode(picture(84, 84))
    prompt = engine.backend.build(QUESTION, encoded.tokens, None, newlines="none")
    run = Recorded(method.begin(encoded.tokens, engine.query(QUESTION), budget, 4))
    return run, Decoding(engine.backend, prompt, run), prompt, encoded.tokens


@pytest.mark.parametrize("method", [*METHODS, FastV(k=2), SparseVLM(adaptive=True)])
@pytest.mark.parametrize("family", ["llava", "llava_next"])
def test_cached_decoding_equals_recomputation(request: Any, family: str, method: Any) -> None:
    engine = request.getfixturevalue(family)
    total = len(engine.encode(picture(84, 84)).tokens)
    budget = 2 * total // 3
    run, decoding, prompt, _ = start(engine, method, budget)
    ids = [int(decoding.logits.argmax())]
    for _ in range(5):
        ids.append(int(decoding.push(ids[-1]).argmax()))
    assert run.cuts and layer_by_layer(engine, prompt, run, tuple(ids)) == ids
    selection = run.run.selection()
    assert selection.entering == decoding.entering
    assert all(values.shape == (total,) and torch.isfinite(values).all() for values in selection.scores.values())
    assert (selection.scores["layers"] == 4).sum() == len(selection.kept) > 0
    if getattr(method, "adaptive", False):
        assert "was not used" in selection.notes[0]
    else:
        assert selection.entering == method.schedule(budget, total, 4)
        assert abs(sum(selection.entering) / 4 - budget) <= 0.5


@pytest.mark.parametrize("method", METHODS)
def test_keeping_all_is_the_unpruned_run(llava: Engine, method: Any) -> None:
    image = picture(84, 84)
    full = llava.ask(image, QUESTION, pruner="full", budget=36, max_new_tokens=5)
    inside = llava.ask(image, QUESTION, pruner=method, budget=36, max_new_tokens=5)
    assert torch.equal(full.first_logits, inside.first_logits) and full.token_ids == inside.token_ids
    assert inside.selection.kept.tolist() == list(range(36)) and inside.selection.entering == (36,) * 4


def test_runs_choose_what_the_pure_functions_choose(llava: Engine) -> None:
    layers = llava.backend.language_model.layers
    # FastV: the layer that just ran.
    run, _, prompt, _ = start(llava, FastV(), 20)
    first = int(torch.nonzero(prompt.visual)[0])
    view, keep = run.views[0], run.run.selection().entering[1]
    want = fastv.rank(view.attention(torch.tensor([len(view.hidden) - 1]))[:, 0], first, 36, keep)
    assert run.run.selection().kept.tolist() == want.tolist()
    # PyramidDrop: the layer about to run, its norm's weight folded into the projections.
    run, _, _, _ = start(llava, PDrop(), 20)
    view, inner, norm = run.views[0], layers[1].self_attn, layers[1].input_layernorm
    base = llava.text_config.rope_parameters["rope_theta"]
    want = pdrop.rank(
        view.hidden[None],
        inner.q_proj.weight * norm.weight,
        inner.k_proj.weight * norm.weight,
        4,
        first,
        36,
        run.run.selection().entering[1],
        norm.variance_epsilon,
        base,
    )
    kept = run.cuts[0][1]
    assert (kept[prompt.visual[kept]] - first).tolist() == want.tolist()
    # SparseVLM: raters from the input embeddings, text after the picture, clusters behind the kept tokens.
    run, _, _, _ = start(llava, SparseVLM(), 24)
    view, end = run.views[0], first + 36
    raters = sparsevlm.raters(prompt.embeddings[0, first:end], prompt.embeddings[0, end:])[1]
    rows = view.attention(torch.arange(end, len(view.hidden)))
    keep = sparsevlm.plan(24, 36, 4)[0][1]
    relation, want = sparsevlm.prune(rows, raters, first, 36, keep)
    _, kept, merged = run.cuts[0]
    assert (kept[prompt.visual[kept]] - first).tolist() == want.tolist()
    dropped = torch.ones(36, dtype=torch.bool)
    dropped[want] = False
    torch.testing.assert_close(merged, sparsevlm.recycle(view.hidden[first:end][dropped], relation[dropped]))


def test_a_run_without_a_prefill_has_kept_everything() -> None:
    selection = Run(9, 4, {}, lambda view: torch.zeros(9), "compact", ()).selection()
    assert selection.kept.tolist() == list(range(9)) and selection.entering == (9,) * 4


@pytest.mark.parametrize("k", [0, 4, -1])
def test_fastv_needs_layers_before_and_after_its_cut(k: int) -> None:
    with pytest.raises(CannotPrune, match="between 1 and 3"):
        FastV(k=k).schedule(20, 36, 4)
