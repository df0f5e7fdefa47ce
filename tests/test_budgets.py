"""Budgets against the numbers of the papers and of the authors' code, for model shapes that nothing has to load."""

from __future__ import annotations

import dataclasses
import json

import pytest
from transformers import LlamaConfig

from script_core.__main__ import main
from script_core.budgets import SHAPES, Shape, average, average_leaving, cost, fastv_rank
from script_core.counters import kv_cache_bytes, prefill_flops
from script_core.pruners import PRUNERS
from script_core.pruners.base import CannotPrune

SMALL, LARGE = SHAPES["llava-1.5-7b"], SHAPES["llava-next-7b"]
MIB = 2**20


@pytest.mark.parametrize(
    ("tokens", "tera"),
    [(576, 3.81715), (192, 1.25306), (128, 0.83322), (64, 0.41554), (32, 0.20750), (16, 0.10368)]
    + [(2880, 20.82522), (640, 4.25202), (320, 2.09917), (160, 1.04287)],
)
def test_flops_of_the_papers_formula(tokens: int, tera: float) -> None:
    assert prefill_flops(tokens, SMALL) / 1e12 == pytest.approx(tera, abs=5e-6)
    priced = cost("script", LARGE, tokens)
    assert priced.paper_flops == prefill_flops(tokens, SMALL) and priced.average == tokens == priced.claimed
    # A forward pass counts two per multiply-add and adds the output head for one position.
    assert priced.flops == pytest.approx(2 * priced.paper_flops + 2 * 4096 * 32064)


def test_the_larger_model_costs_what_its_shape_says() -> None:
    assert prefill_flops(576, SHAPES["llava-1.5-13b"]) / 1e12 == pytest.approx(7.444, abs=5e-4)
    assert prefill_flops(2880, SHAPES["llava-next-13b"]) / 1e12 == pytest.approx(39.94, abs=5e-3)


def test_kv_bytes_of_the_papers_table() -> None:
    assert cost("full", LARGE, 2880).kv_bytes == 1440 * MIB
    assert cost("divprune", LARGE, 320).kv_bytes == 160 * MIB
    # FastV's tabulated 160.3 MB is two full layers and rank 150 after them: an average of 320.625 tokens.
    entering = (2880,) * 2 + (150,) * 30
    assert average(entering) == 320.625 and kv_cache_bytes(entering, LARGE) == 160.3125 * MIB


@pytest.mark.parametrize(
    ("shape", "budget", "rank", "average_tokens"),
    [(SMALL, 192, 166.4, 191.625), (SMALL, 128, 98.1333, 127.875), (SMALL, 64, 29.8667, 64.125)]
    + [(LARGE, 640, 490.6667, 640.3125), (LARGE, 320, 149.3333, 319.6875)],
)
def test_fastv_ranks(shape: Shape, budget: int, rank: float, average_tokens: float) -> None:
    assert fastv_rank(budget, shape.tokens, 32) == pytest.approx(rank, abs=1e-4)
    priced = cost("fastv", shape, budget)
    assert priced.entering == (shape.tokens,) * 2 + (round(rank),) * 30
    assert priced.average == average_tokens and priced.claimed == round(rank) and not priced.ours
    assert f"{rank:.1f} before rounding" in priced.configuration


@pytest.mark.parametrize(
    ("budget", "counts", "entering", "leaving", "tera"),
    [
        (192, (309, 204, 113), 206.5, 192.03, 1.353),
        (128, (312, 117, 39), 145.4, 128.63, 0.954),
        (96, (249, 55, 27), 114.1, 96.94, 0.749),
        (64, (82, 32, 18), 82.3, 64.81, 0.541),
    ],
)
def test_sparsevlm_is_named_by_what_leaves_and_costs_what_enters(
    budget: int, counts: tuple[int, ...], entering: float, leaving: float, tera: float
) -> None:
    priced = cost("sparsevlm", SMALL, budget)
    first, second, third = counts
    assert priced.entering == (576,) * 3 + (first,) * 4 + (second,) * 9 + (third,) * 16
    assert priced.average == pytest.approx(entering, abs=0.05) and priced.claimed == budget and not priced.ours
    assert average_leaving(priced.entering) == pytest.approx(leaving, abs=0.005)
    assert priced.paper_flops / 1e12 == pytest.approx(tera, abs=5e-4)


def test_pyramiddrop_is_ours_except_at_its_default() -> None:
    default = cost("pdrop", SMALL, 270)
    assert default.entering == (576,) * 8 + (288,) * 8 + (144,) * 8 + (72,) * 8 and not default.ours
    assert default.claimed is None and default.paper_flops / default.paper_flops_full == pytest.approx(0.466, abs=3e-3)
    assert cost("pdrop", SMALL, 192).ours and cost("pdrop", LARGE, 640).ours


def test_merged_tokens_count_and_unpublished_splits_are_ours() -> None:
    assert cost("visionzip", SMALL, 64).configuration == "54 dominant + 10 contextual"
    assert cost("visionzip", LARGE, 320).configuration == "54 dominant + 10 contextual per crop"
    assert not cost("visionzip", SMALL, 64).ours and cost("visionzip", SMALL, 16).ours
    assert cost("trim", SMALL, 128).configuration == "127 patches + 1 mean token"
    assert {cost(name, SMALL, 64).average for name in ("visionzip", "trim", "random", "cdpruner")} == {64}
    # TRIM's code breaks on crops, and CDPruner's takes one count for all of them.
    assert not cost("trim", SMALL, 37).ours and cost("trim", LARGE, 320).ours
    assert not cost("cdpruner", LARGE, 320).ours and cost("cdpruner", LARGE, 642).ours


@pytest.mark.parametrize(
    ("method", "shape", "budget", "reason"),
    [
        ("fastv", SMALL, 32, "its first 2 of 32 layers see all 576, which alone makes an average of 36"),
        ("fastv", SMALL, 16, "average of 36"),
        ("fastv", LARGE, 160, "average of 180"),
        ("sparsevlm", SMALL, 32, "average of 54"),
        ("sparsevlm", SMALL, 16, "average of 54"),
        ("pdrop", SMALL, 16, "the average stays above 18"),
        ("script", SMALL, 577, "more than the 576 visual tokens"),
        ("script", SMALL, 0, "at least 1"),
        ("magic", SMALL, 64, "no method 'magic'"),
    ],
)
def test_out_of_reach_is_refused_with_the_reason(method: str, shape: Shape, budget: int, reason: str) -> None:
    with pytest.raises(CannotPrune, match=reason):
        cost(method, shape, budget)


@pytest.mark.parametrize("name", list(SHAPES))
@pytest.mark.parametrize("method", list(PRUNERS))
def test_every_method_averages_the_budget_or_refuses(name: str, method: str) -> None:
    shape = SHAPES[name]
    for budget in (16, 32, 64, 128, 192, 576) if shape.tokens == 576 else (160, 320, 640, 2880):
        try:
            priced = cost(method, shape, budget)
        except CannotPrune as refusal:
            assert PRUNERS[method].acts == "inside" and str(budget) in str(refusal)
            continue
        want = shape.tokens if method == "full" else budget
        assert len(priced.entering) == shape.num_hidden_layers and list(priced.entering) == sorted(
            priced.entering, reverse=True
        )
        published_by_leaving = method == "sparsevlm" and not priced.ours
        assert priced.average == pytest.approx(want, abs=0.51 if not published_by_leaving else 20)
        assert priced.kv_bytes == sum(priced.entering) * 2 * shape.hidden_size * 2


def test_a_loaded_models_config_gives_the_same_as_its_sizes() -> None:
    config = LlamaConfig(
        hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32, vocab_size=32064
    )
    shape = Shape.of(config, 576, title=SMALL.title)
    assert cost("fastv", shape, 192) == cost("fastv", SMALL, 192)
    grouped = dataclasses.replace(shape, num_key_value_heads=8)
    assert 4 * cost("script", grouped, 64).kv_bytes == cost("script", shape, 64).kv_bytes


def test_the_command_prints_the_calculation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["budget", "--method", "sparsevlm", "--model", "llava-1.5-7b", "--budget", "192"]) == 0
    said = capsys.readouterr().out
    assert "206.5" in said and "192" in said and "1.353" in said and "own" not in said
    assert main(["budget", "--method", "sparsevlm", "--budget", "64"]) == 0
    assert "82.25 of 576" in capsys.readouterr().out
    assert main(["budget", "--method", "pdrop", "--budget", "64"]) == 0
    assert "this project's own" in capsys.readouterr().out
    assert main(["budget", "--method", "fastv", "--model", "llava-1.5-7b", "--budget", "192", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["entering"] == [576] * 2 + [166] * 30 and told["average"] == 191.625
    assert main(["budget", "--method", "fastv", "--model", "llava-1.5-7b", "--budget", "32"]) == 2
    assert "average of 36" in capsys.readouterr().err
    assert main(["budget", "--model", "gpt"]) == 2 and "llava-next-13b" in capsys.readouterr().err
