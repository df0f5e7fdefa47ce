"""The Compare tab's handlers as plain functions: every cell measured, trouble, links, and the paper's released code."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pytest

from script_core.pruners import Random
from script_core.pruners.script_released import ScriptReleased
from script_core.report import Encoded
from tests import made
from tests.handling import merged, started
from ui.compare import CompareHandlers
from ui.compare_cells import graph_verdict, refilled
from ui.compare_state import DEFAULT_METHODS, RELEASED_AGAINST_PAPER
from ui.compare_table import FAILED
from ui.examples import examples
from ui.runtime import Host
from ui.trouble import GONE

PICTURE = str(examples()[0].path)
QUESTION = examples()[0].question


@pytest.fixture(scope="module")
def host() -> Host:
    return started()


@pytest.fixture
def handlers(host: Host) -> CompareHandlers:
    return CompareHandlers(host)


def run(handlers: CompareHandlers, *methods: str, budget: Any = 192, path: str | None = PICTURE, **more: Any) -> dict:
    return merged(handlers.run("", path, more.get("question", QUESTION), budget, methods, more.get("answer_tokens", 4)))


def kept(cell: dict[str, Any]) -> list[int]:
    return np.frombuffer(base64.b64decode(cell["kept"]), dtype="<u2").tolist()


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
    first = list(handlers.started({}, None, "stickers", PICTURE, QUESTION, 192, list(DEFAULT_METHODS), 32))
    assert first[-2]["grid"]["state"] == "done" and len(first) > 6
    monkeypatch.setattr(handlers, "_compare", None)
    again = merged(handlers.started({}, None, "stickers", PICTURE, QUESTION, 192, list(DEFAULT_METHODS), 32))
    assert again["grid"]["cells"] == first[-2]["grid"]["cells"]
    assert "when this tab was first opened" in again["grid"]["status"]
    assert merged(handlers.started({}, {"cells": []}, "stickers")) == {"stop": {}}


def test_a_link_restores_the_comparison(handlers: CompareHandlers, tmp_path: Path) -> None:
    value = run(handlers, "random", "uniform", budget=48)["grid"]
    assert value["linkable"]
    query = {name: values[0] for name, values in parse_qs(value["link"]).items()}
    view = merged(handlers.started(query, None))
    assert view["question"] == QUESTION and view["methods"] == ["random", "uniform"] and view["answer_tokens"] == 4
    assert [cell["kl_first"] for cell in view["grid"]["cells"]] == [cell["kl_first"] for cell in value["cells"]]
    assert merged(handlers.started(query, {"cells": []})) == {"stop": {}}
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


def test_the_preset_says_from_the_sets_whether_the_graph_changed_anything(handlers: CompareHandlers) -> None:
    view = merged(handlers.preset("", PICTURE, QUESTION, 192, ["random"], 2))
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
