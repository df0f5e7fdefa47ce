"""The Compare tab's behaviour as plain functions, and every method on the embedded model at the papers' budgets."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import torch

from script_core.engine import Engine
from script_core.pruners import PRUNERS, Random
from script_core.pruners.base import CannotPrune
from script_core.pruners.script_released import ScriptReleased
from script_core.report import Encoded
from tests import made
from ui.compare import CompareHandlers
from ui.compare_calculator import calculated
from ui.compare_cells import difference, graph_verdict, jaccard, pieces, refilled
from ui.compare_state import DEFAULT_METHODS, RELEASED_AGAINST_PAPER, CompareSettings, check, from_query, to_query
from ui.compare_table import FAILED
from ui.examples import examples
from ui.runtime import Host
from ui.state import Unusable
from ui.trouble import GONE

PICTURE = str(examples()[0].path)
QUESTION = examples()[0].question


@pytest.fixture(scope="module")
def host() -> Host:
    torch.set_num_threads(1)
    loaded = Host()
    loaded.start()
    loaded.wait()
    return loaded


@pytest.fixture
def handlers(host: Host) -> CompareHandlers:
    return CompareHandlers(host)


def play(views: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """The parts as they stand at the end of a stream."""
    last: dict[str, Any] = {}
    for view in views:
        last |= view
    return last


def run(handlers: CompareHandlers, *methods: str, budget: Any = 192, path: str | None = PICTURE, **more: Any) -> dict:
    return play(handlers.run("", path, more.get("question", QUESTION), budget, methods, more.get("answer_tokens", 4)))


def kept(cell: dict[str, Any]) -> list[int]:
    return np.frombuffer(base64.b64decode(cell["kept"]), dtype="<u2").tolist()


# ---- pieces ----------------------------------------------------------------------------------------------------

WORDS = {1: "a ", 2: "red ", 3: "car", 4: "bus", 5: "\ufffd", 6: "!", 9: ""}


def decode(ids: list[int]) -> str:
    return "".join(WORDS[i] for i in ids).replace("\ufffd!", "\u00e9")  # 5 and 6 are the halves of one character


def test_differences_are_by_token() -> None:
    assert difference(decode, [1, 2, 3, 9], [1, 4, 9], frozenset({9})) == [
        ["same", "a "],
        ["missing", "red car"],
        ["added", "bus"],
    ]
    assert difference(decode, [1, 3], [1, 3], frozenset()) == [["same", "a car"]]
    assert difference(decode, [9], [4], frozenset({9})) == [["added", "bus"]]


def test_half_a_character_waits_for_the_other_half() -> None:
    assert pieces(decode, [1, 5, 6, 3]) == ["a ", "", "\u00e9", "car"]


def test_jaccard_by_hand() -> None:
    sets = {"x": torch.tensor([1, 2, 3]), "y": torch.tensor([2, 3, 4, 5]), "z": torch.tensor([], dtype=torch.int64)}
    assert jaccard(sets) == {"names": ["x", "y", "z"], "matrix": [[1.0, 0.4, 0.0], [0.4, 1.0, 0.0], [0.0, 0.0, 1.0]]}
    assert jaccard({}) == {"names": [], "matrix": []}


def test_settings_survive_a_link() -> None:
    asked = CompareSettings("is it & <odd>?", 64, ("script", "random"), 12, "stickers", "penguins")
    query = {name: values[0] for name, values in parse_qs(urlsplit("?" + to_query(asked)).query).items()}
    assert query["tab"] == "compare" and from_query(query) == (asked, ())
    assert from_query({"question": "for the other tab", "tab": "ask"}) is None


def test_what_a_link_cannot_mean_is_ignored_and_said() -> None:
    found = from_query({"c_budget": "many", "c_methods": "script,magic", "c_question": "what is it?"})
    assert found is not None
    settings, notes = found
    assert settings == CompareSettings("what is it?")
    assert any("budget was ignored" in note for note in notes) and any("magic" in note for note in notes)


@pytest.mark.parametrize("methods", [[], ["script"], list(PRUNERS)[:9], ["script", "magic"], None])
def test_two_to_eight_known_methods(methods: list[str] | None) -> None:
    with pytest.raises(Unusable, match="2 to 8|no method"):
        check(question="what?", budget=8, methods=methods, answer_tokens=4)


# ---- the comparison --------------------------------------------------------------------------------------------


def test_every_cell_is_filled_and_measured(handlers: CompareHandlers, host: Host, monkeypatch: Any) -> None:
    counts = {"encode": 0, "full": 0}
    engine = host.engine()
    encode, forced = engine.backend.encode, engine.forced_logits
    monkeypatch.setattr(
        engine.backend, "encode", lambda media: counts.update(encode=counts["encode"] + 1) or encode(media)
    )

    def counted(*args: Any, **options: Any) -> Any:
        counts["full"] += options["pruner"].name == "full"
        return forced(*args, **options)

    monkeypatch.setattr(engine, "forced_logits", counted)
    methods = (*DEFAULT_METHODS, "trim", "full")
    value = run(handlers, *methods)["grid"]
    cells = {cell["method"]: cell for cell in value["cells"]}
    assert value["state"] == "done" and set(cells) == set(methods) and value["progress"] == [8, 8]
    assert counts["encode"] <= 1 and counts["full"] == 1
    for name, cell in cells.items():
        assert cell["state"] == "done", cell.get("reason")
        assert cell["average"] == pytest.approx(576 if name == "full" else 192, abs=0.5)
        assert cell["kl_first"] >= 0 and cell["kl_answer"] >= 0 and 0 <= cell["agreement"] <= 1
        assert cell["same"] == (cell["text"] == value["full"]["text"])
        assert len(cell["entering"]) == 4 and cell["kv_bytes"] > 0
    assert cells["full"]["kl_first"] == cells["full"]["kl_answer"] == 0 and cells["full"]["agreement"] == 1
    assert cells["full"]["same"] and cells["full"]["paper_flops"] > 2.9 * cells["script"]["paper_flops"]
    assert len(kept(cells["script"])) == 192 and cells["fastv"]["entering"] == [576, 64, 64, 64]
    # 162 dominant tokens with CLS among them, 30 contextual ones: 191 places, 30 of them merged.
    zipped = cells["visionzip"]
    merged = np.frombuffer(base64.b64decode(zipped["merged"]), dtype="<u2").tolist()
    assert len(kept(zipped)) == 191 and zipped["beside"] == 1 and len(merged) == 30 and set(merged) < set(kept(zipped))
    assert cells["trim"]["beside"] == 1 and len(kept(cells["trim"])) == 191
    names = value["overlap"]["names"]
    a, b = (set(kept(cells[name])) for name in ("script", "random"))
    got = value["overlap"]["matrix"][names.index("script")][names.index("random")]
    assert got == len(a & b) / len(a | b)


def test_figures_are_those_of_the_engine(handlers: CompareHandlers, host: Host) -> None:
    value = run(handlers, "random", "script", budget=32)["grid"]
    engine = host.engine()
    for cell in value["cells"]:
        told = engine.compare(PICTURE, QUESTION, pruner=cell["method"], budget=32, max_new_tokens=4)
        assert cell["text"] == told.pruned.answer and cell["same"] == told.same
        assert cell["kl_first"] == pytest.approx(told.kl_first, abs=1e-6)
        assert cell["kl_answer"] == pytest.approx(told.kl_answer, abs=1e-6) and cell["agreement"] == told.agreement
        assert kept(cell) == told.pruned.selection.kept.tolist()


def test_a_budget_out_of_reach_is_explained_in_its_cell(handlers: CompareHandlers) -> None:
    cells = run(handlers, "fastv", "pdrop", "sparsevlm", "random", budget=64)["grid"]["cells"]
    by_name = {cell["method"]: cell for cell in cells}
    assert by_name["random"]["state"] == "done"
    for name in ("fastv", "pdrop", "sparsevlm"):
        assert by_name[name]["state"] == "unavailable" and "cannot average 64" in by_name[name]["reason"]


def test_one_failure_spares_the_rest(handlers: CompareHandlers, monkeypatch: Any) -> None:
    def broken(self: Any, tokens: Any, query: Any, budget: int) -> Any:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(Random, "select", broken)
    value = run(handlers, "random", "uniform", "divprune")["grid"]
    states = {cell["method"]: cell["state"] for cell in value["cells"]}
    assert states == {"divprune": "done", "random": "failed", "uniform": "done"} and value["state"] == "done"
    assert value["cells"][1]["reason"] == FAILED and "secret" not in str(value)


def test_cells_fill_one_after_another(handlers: CompareHandlers) -> None:
    seen = []
    for view in handlers.run("", PICTURE, QUESTION, 64, ["random", "uniform"], 2):
        if view.get("grid"):
            seen.append([cell["state"] for cell in view["grid"]["cells"]])
    assert seen[0] == ["waiting", "waiting"] and ["done", "waiting"] in seen and seen[-1] == ["done", "done"]


def test_stop_keeps_what_is_there(handlers: CompareHandlers) -> None:
    stream = handlers.run("", PICTURE, QUESTION, 64, ["random", "uniform"], 4)
    for view in stream:
        if view.get("grid") and view["grid"]["cells"][0]["state"] == "done":
            break
    stream.close()
    stopped = handlers.stopped(view["grid"])
    assert [cell["state"] for cell in stopped["grid"]["cells"]] == ["done", "stopped"]
    assert stopped["grid"]["state"] == "stopped" and stopped["stop"] == {"interactive": False}
    assert handlers.stopped(None)["grid"] is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"path": None}, "Choose a picture first"),
        ({"path": "/no/such/file.png"}, GONE),
        ({"question": " "}, "Type a question"),
        ({"budget": 577}, "more than the 576 tokens"),
        ({"budget": 0}, "budget must be at least 1"),
        ({"budget": None}, "budget must be a whole number"),
        ({"answer_tokens": 0}, "answer&#x27;s length must be"),
    ],
)
def test_what_cannot_be_compared_is_said_beside_the_fields(
    handlers: CompareHandlers, change: dict[str, Any], words: str
) -> None:
    view = run(handlers, "random", "uniform", **change)
    assert words in view["note"] and "/no/such" not in view["note"]
    assert view["stop"] == {"interactive": False}


def test_nobody_waits_for_a_comparison_that_was_made(handlers: CompareHandlers, monkeypatch: Any) -> None:
    first = list(handlers.started(None, "stickers", PICTURE, QUESTION, 192, list(DEFAULT_METHODS), 32))
    assert first[-2]["grid"]["state"] == "done" and len(first) > 6
    monkeypatch.setattr(handlers, "_compare", None)
    again = play(handlers.started(None, "stickers", PICTURE, QUESTION, 192, list(DEFAULT_METHODS), 32))
    assert again["grid"]["cells"] == first[-2]["grid"]["cells"]
    assert "when this tab was first opened" in again["grid"]["status"]
    assert play(handlers.started({"cells": []}, "stickers")) == {"stop": {}}


def test_a_link_restores_the_comparison(handlers: CompareHandlers, tmp_path: Path) -> None:
    value = run(handlers, "random", "uniform", budget=48)["grid"]
    assert value["linkable"]
    query = {name: values[0] for name, values in parse_qs(value["link"]).items()}
    view = play(handlers.linked(query))
    assert view["question"] == QUESTION and view["methods"] == ["random", "uniform"] and view["answer_tokens"] == 4
    assert [cell["kl_first"] for cell in view["grid"]["cells"]] == [cell["kl_first"] for cell in value["cells"]]
    assert play(handlers.linked({})) == {"stop": {}}
    own = tmp_path / "own.png"
    from PIL import Image

    Image.new("RGB", (50, 40), "red").save(own)
    value = run(handlers, "random", "uniform", path=str(own), budget=48)["grid"]
    assert (
        not value["linkable"] and "example" not in value["link"] and "only knows sticker scenes" in value["remarks"][0]
    )


def test_the_budget_follows_the_picture_and_the_model(handlers: CompareHandlers) -> None:
    assert handlers.sized("stickers", PICTURE, 192)["budget"] == {"maximum": 576, "value": 192}
    assert handlers.sized("stickers-anyres", PICTURE, 2000)["budget"] == {"maximum": 2880, "value": 2000}
    assert "not loaded" in handlers.sized("llava-hf/llava-1.5-7b-hf", PICTURE, 64)["note"]


# ---- released code against paper -------------------------------------------------------------------------------


def test_the_preset_says_from_the_sets_whether_the_graph_changed_anything(handlers: CompareHandlers) -> None:
    view = play(handlers.preset("", PICTURE, QUESTION, 192, ["random"], 2))
    assert view["methods"] == list(RELEASED_AGAINST_PAPER)
    cells = {cell["method"]: set(kept(cell)) for cell in view["grid"]["cells"]}
    changed = len(cells["script"] - cells["qcsp"])
    said = view["grid"]["verdict"]
    assert f"keeps {changed} of 192 tokens" in said and f"changed {'something' if changed else 'nothing'} here" in said
    assert "0 of 192 tokens differ from the picks without GSP: it changed nothing" in said
    shared = len(cells["script_released"] & cells["cdpruner"])
    assert f"The released code and CDPruner share {shared} of 192" in said
    assert run(handlers, "random", "uniform")["grid"]["verdict"] == ""


def test_the_released_last_step_is_carried_out(handlers: CompareHandlers) -> None:
    tokens, asked = made.tokens(2, side=8), made.question()
    released = ScriptReleased(sign=-1).select(tokens, asked, 30)
    encoded = Encoded("key", tokens, None, 0.0, False)  # type: ignore[arg-type]
    result, shared = refilled(released, encoded, 30)
    assert result == set(released.kept.tolist()) and f"agrees on {shared} of" in released.notes[0]
    assert graph_verdict({}, encoded, 30) == ""


# ---- the calculator --------------------------------------------------------------------------------------------


def test_the_calculator_answers_or_says_why_not(host: Host) -> None:
    said = calculated(host, "sparsevlm", "llava-1.5-7b", 192)
    assert "206.5 of 576" in said and "192 tokens" in said and "576 in 3 layers, 309 in 4 layers" in said
    assert "its first 2 of 32 layers see all 576" in calculated(host, "fastv", "llava-1.5-7b", 32)
    assert "whole number" in calculated(host, "fastv", "llava-1.5-7b", None)
    assert "the models are llava-1.5-7b" in calculated(host, "fastv", "stickers-video", 64)
    assert "The method must be one of script" in calculated(host, ["fastv"], "stickers", 64)  # type: ignore[arg-type]
    assert "&lt;b&gt;" in calculated(host, "fastv", "<b>", 64) and "ours" in calculated(host, "fastv", "stickers", 192)


# ---- every method at every budget ------------------------------------------------------------------------------


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
