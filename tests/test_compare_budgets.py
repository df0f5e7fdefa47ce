"""Every method on the embedded model at the papers' budgets, and the calculator that says which can be reached."""

from __future__ import annotations

import pytest

from script_core.engine import Engine
from script_core.pruners import PRUNERS
from script_core.pruners.base import CannotPrune
from script_core.report import Encoded
from tests.handling import started
from ui.compare_calculator import calculated
from ui.examples import examples
from ui.runtime import Host

PICTURE = str(examples()[0].path)
QUESTION = examples()[0].question


@pytest.fixture(scope="module")
def host() -> Host:
    return started()


def test_the_calculator_answers_or_says_why_not(host: Host) -> None:
    said = calculated(host, "sparsevlm", "llava-1.5-7b", 192)
    assert "206.5 of 576" in said and "192 tokens" in said and "576 in 3 layers, 309 in 4 layers" in said
    assert "its first 2 of 32 layers see all 576" in calculated(host, "fastv", "llava-1.5-7b", 32)
    assert "whole number" in calculated(host, "fastv", "llava-1.5-7b", None)
    assert "the models are llava-1.5-7b" in calculated(host, "fastv", "stickers-video", 64)
    assert "The method must be one of script" in calculated(host, ["fastv"], "stickers", 64)  # type: ignore[arg-type]
    assert "&lt;b&gt;" in calculated(host, "fastv", "<b>", 64) and "ours" in calculated(host, "fastv", "stickers", 192)


@pytest.fixture(scope="module")
def encodings(host: Host) -> dict[str, tuple[Engine, Encoded]]:
    found = {}
    for model in ("stickers", "stickers-anyres"):
        engine = host.engine(model)
        found[model] = engine, engine.encode(PICTURE)
    return found


@pytest.mark.parametrize("method", list(PRUNERS))
@pytest.mark.parametrize(
    ("model", "budgets"), [("stickers", (192, 128, 64, 32, 16)), ("stickers-anyres", (640, 320, 160))]
)
def test_each_method_gives_what_was_asked_or_its_reason(
    encodings: dict[str, tuple[Engine, Encoded]], model: str, budgets: tuple[int, ...], method: str
) -> None:
    engine, encoded = encodings[model]
    total = len(encoded.tokens)
    assert total == (576 if model == "stickers" else 2880)
    for budget in budgets:
        try:
            selection = engine.select(encoded, QUESTION, pruner=method, budget=budget).selection
        except CannotPrune as refusal:
            assert PRUNERS[method].acts == "inside" and f"cannot average {budget} visual tokens" in str(refusal)
            assert budget < total / 4 + 10, "the first of four layers sees every token, which is all that it costs"
            continue
        if PRUNERS[method].acts == "inside":
            assert selection.entering is not None and len(selection.entering) == 4
            assert sum(selection.entering) / 4 == pytest.approx(budget, abs=0.51)
        else:
            assert len(selection) == (total if method == "full" else budget)
