"""The public endpoints: what is public, and what REST and client get."""

from __future__ import annotations

import base64
import json
import urllib.request
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from script_core import PRUNERS
from script_core.budgets import cost, shape
from script_core.engine import Engine
from script_core.spacefile.manifest import load
from tests.serving import QUESTION, SHORT, rest
from ui.examples import examples
from ui.guard import Allowance
from ui.runtime import NotReady

ROOT = Path(__file__).parent.parent

# ---- what is public ----------------------------------------------------------------------------------------------


def test_exactly_the_declared_endpoints_are_public(server: SimpleNamespace) -> None:
    with urllib.request.urlopen(f"{server.address}/gradio_api/info", timeout=60) as answer:
        info = json.load(answer)
    assert set(info["named_endpoints"]) == {f"/{name}" for name in load().api.endpoints}
    assert info["unnamed_endpoints"] == {}
    for name, endpoint in info["named_endpoints"].items():
        assert endpoint["description"], name
        for parameter in endpoint["parameters"]:
            assert parameter["type"] or parameter["parameter_name"] == "image", (name, parameter)
    named = {p["parameter_name"]: p for p in info["named_endpoints"]["/answer"]["parameters"]}
    assert [n for n, p in named.items() if not p["parameter_has_default"]] == ["image", "question"]
    assert named["method"]["type"]["enum"] == list(PRUNERS)


def test_the_pages_own_events_cannot_be_called(server: SimpleNamespace) -> None:
    for fn in server.demo.fns.values():
        if fn.api_name not in load().api.endpoints:
            assert fn.api_visibility == "private", fn.api_name
    with pytest.raises(Exception, match="(?i)no endpoint|cannot find|not found|invalid"):
        server.client.predict(api_name="/arrived")


def test_all_that_asks_the_model_waits_in_one_line(server: SimpleNamespace) -> None:
    by_name = {fn.api_name: fn for fn in server.demo.fns.values()}
    asking = [fn for fn in server.demo.fns.values() if fn.concurrency_id == "model"]
    assert {by_name[name] for name in ("answer", "explain", "compare")} < set(asking) and len(asking) > 10
    assert {fn.concurrency_limit for fn in asking} == {load().limits.model_lanes}
    for name in ("calculate", "methods", "models"):
        assert by_name[name].concurrency_limit is None


# ---- what they answer --------------------------------------------------------------------------------------------


def test_answer_by_client_is_the_librarys(server: SimpleNamespace, engine: Engine) -> None:
    told = server.client.predict(
        image="balloons", question=QUESTION, budget=32, answer_tokens=SHORT, api_name="/answer"
    )
    path = next(example.path for example in examples() if example.id == "balloons")
    ours = engine.ask(path, QUESTION, budget=32, max_new_tokens=SHORT)
    assert told["answer"] == ours.answer and (told["kept"], told["total"]) == (32, 576)
    assert told["settings"]["method"] == "script" and told["counters"]["generated"] == ours.counters.generated
    assert len(json.dumps(told)) < 3000


def test_answer_takes_an_uploaded_file_and_base64(server: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "mine.png"
    Image.fromarray(np.full((60, 80, 3), 90, dtype=np.uint8)).save(path)
    given = {"question": QUESTION, "budget": 16, "answer_tokens": SHORT, "api_name": "/answer"}
    uploaded = server.client.predict(image=handle_file(str(path)), **given)
    uri = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    inside = server.client.predict(image=uri, **given)
    assert uploaded["answer"] == inside["answer"] and uploaded["kept"] == inside["kept"] == 16


def test_explain_by_rest_is_the_librarys(server: SimpleNamespace, engine: Engine) -> None:
    told = rest(server, "explain", {"image": "balloons", "question": QUESTION, "budget": 40, "tau": 0.4})
    path = next(example.path for example in examples() if example.id == "balloons")
    ours = engine.select(path, QUESTION, pruner=PRUNERS["script"](tau=0.4), budget=40).selection
    assert told["selection"]["kept"] == ours.kept.tolist()
    assert told["selection"]["order"] == ours.order.tolist()
    tokens = told["tokens"]
    assert {len(values) for values in tokens.values()} == {576}
    np.testing.assert_allclose(tokens["relevance"], ours.scores["relevance"].numpy(), rtol=1e-4, atol=1e-6)
    assert told["blocks"][0]["rows"] == 24 and max(tokens["row"]) == 23


def test_compare_measures_each_method_against_all_tokens(server: SimpleNamespace) -> None:
    told = server.client.predict(
        image="balloons", question=QUESTION, methods=["full", "fastv", "random"], budget=100,
        answer_tokens=SHORT, api_name="/compare",
    )  # fmt: skip
    rows = {row["method"]: row for row in told["methods"]}
    assert rows["full"]["kl_first_nats"] == 0 and rows["full"]["same"] and rows["full"]["kept"] == 576
    assert "cannot" in rows["fastv"] and "100" in rows["fastv"]["cannot"]  # four layers cannot average that low
    assert rows["random"]["kept"] == 100 and rows["random"]["kl_answer_nats"] >= 0


def test_calculate_is_the_calculators(server: SimpleNamespace) -> None:
    told = server.client.predict(method="sparsevlm", model="llava-1.5-7b", budget=192, api_name="/calculate")
    ours = asdict(cost("sparsevlm", shape("llava-1.5-7b"), 192))
    assert {**told, "entering": tuple(told["entering"])} == {**ours, "average": 206.5, "layers": 32}
    assert (told["claimed"], told["ours"], told["entering"][3]) == (192, False, 309)
    by_rest = rest(server, "calculate", {"method": "script", "model": "llava-next-7b", "budget": 320})
    assert by_rest["entering"] == [320] * 32 and by_rest["total"] == 2880
    assert by_rest["kv_bytes"] == 320 * 32 * 2 * 4096 * 2 and by_rest["kv_bytes_full"] == 9 * by_rest["kv_bytes"]
    embedded = rest(server, "calculate", {"method": "uniform", "model": "stickers-anyres", "budget": 288})
    assert embedded["total"] == 2880 and embedded["flops"] < embedded["flops_full"]


@pytest.mark.parametrize(
    "given, words",
    [
        ({"method": "fastv", "budget": 32}, "cannot average 32 visual tokens: its first 2 of 32 layers see all 576"),
        ({"budget": 577}, "more than the 576 visual tokens"),
        ({"budget": 0}, "The budget must be at least 1"),
        ({"budget": "many", "model": "gpt", "method": "magic"}, "The budget must be a whole number"),
        ({"model": ["llava-1.5-7b"]}, "the models are llava-1.5-7b, llava-1.5-13b"),
        ({"method": None}, "The method must be one of script"),
    ],
)
def test_calculate_refuses_in_a_sentence(given: dict[str, Any], words: str, server: SimpleNamespace) -> None:
    with pytest.raises(AppError) as raised:
        server.client.predict(**given, api_name="/calculate")
    assert words in str(raised.value)


def test_methods_and_models_are_listed(server: SimpleNamespace) -> None:
    methods = server.client.predict(api_name="/methods")
    assert [one["name"] for one in methods] == list(PRUNERS)
    script = methods[0]
    assert script["parameters"]["tau"] == 0.2 and script["reads_question"] and "2512.01949" in script["about"]
    models = {one["name"]: one for one in server.client.predict(api_name="/models")}
    assert models["stickers"]["loaded"] and models["stickers"]["first"]
    assert not models["llava-hf/llava-1.5-7b-hf"]["loaded"]
    assert "balloons" in models["stickers"]["examples"]


GOOD = {"image": "balloons", "question": QUESTION}


@pytest.mark.parametrize(
    "given, words",
    [
        ({"question": ""}, "Type a question"),
        ({"question": "x" * 2001}, "the limit is 2,000"),
        ({"question": ["a", "b"], "budget": "many"}, "The budget must be a whole number."),
        ({"budget": 0}, "The budget must be at least 1"),
        ({"budget": 2.5}, "The budget must be a whole number"),
        ({"tau": "high"}, "tau must be a number from 0 to 1"),
        ({"gamma": -1}, "gamma must lie between 0 and 10"),
        ({"answer_tokens": 100_000}, "between 1 and 256"),
        ({"method": "magic"}, "The method must be one of script"),
        ({"scope": "galaxy"}, "The scope must be one of crop, global"),
        ({"model": "llava-hf/llava-1.5-7b-hf"}, "the models that can be asked are stickers"),
        ({"model": "../../etc"}, "There is no such model here"),
        ({"image": "no-such-example"}, "the examples are breakfast"),
        ({"image": ""}, "Give a picture"),
        ({"image": None}, "Give a picture"),
        ({"image": 7}, "Give a picture"),
        ({"image": "data:image/png,abc"}, "must hold base64"),
        ({"image": "data:image/png;base64,@@@"}, "damaged"),
        ({"image": "data:image/png;base64," + base64.b64encode(b"no picture").decode()}, "no picture that can be read"),
        ({"image": "data:image/png;base64," + "A" * 30_000_000}, "more than 20 MB"),
        ({"image": "http://127.0.0.1:1/x.png"}, "neither a data: URI nor an example's name"),
    ],
)
def test_every_refusal_is_a_sentence(given: dict[str, Any], words: str, server: SimpleNamespace) -> None:
    with pytest.raises(AppError) as raised:
        server.client.predict(**{**GOOD, **given}, api_name="/answer")
    said = str(raised.value)
    assert words in said and "Traceback" not in said and str(ROOT) not in said


def test_compare_wants_two_to_eight_methods(server: SimpleNamespace) -> None:
    for methods in ([], ["script"], ["script", "script"], list(PRUNERS)[:9], "script", ["script", "magic"]):
        with pytest.raises(AppError, match="Choose 2 to 8 methods|There is no method"):
            server.client.predict(**GOOD, methods=methods, api_name="/compare")


def test_a_failure_that_nobody_foresaw_is_one_sentence(
    server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: Any, **named: Any) -> None:
        raise KeyError("/srv/secret/path")

    monkeypatch.setattr(Engine, "ask", broken)
    with pytest.raises(AppError, match="Something went wrong on the server") as raised:
        server.client.predict(**GOOD, api_name="/answer")
    assert "secret" not in str(raised.value)


def test_calls_are_rationed_by_address() -> None:
    allowance = Allowance(3, addresses=2)
    assert [allowance.wait("a", now) for now in (0, 1, 2)] == [0, 0, 0]
    assert allowance.wait("a", 30) == 30 and allowance.wait("b", 30) == 0
    assert allowance.wait("a", 60.5) == 0  # the first call is a minute old
    allowance.wait("c", 61)  # more addresses than are remembered: the one that was quiet longest is forgotten
    assert allowance.wait("b", 61) == 0


def test_too_many_calls_are_told_when_to_come_back(server: SimpleNamespace) -> None:
    from ui.api import Endpoints

    calls = Endpoints(server.host, per_minute=1)
    assert calls.methods()
    with pytest.raises(NotReady, match="calls a minute are answered; the next one in 60 seconds"):
        calls.models()
