"""What goes wrong around the page: clients that leave, memory and disk that run out. The page goes on."""

from __future__ import annotations

import asyncio
import errno
import http.client
import json
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import gradio
import numpy as np
import pytest
import torch
from PIL import Image

from script_core.engine import Engine
from script_core.prefill import Decoding
from tests.handling import started
from ui import shortage, tokengrid, video_state
from ui.compare import CompareHandlers
from ui.examples import examples
from ui.handlers import AskHandlers
from ui.runtime import Host
from ui.state import NAMES, Settings
from ui.video import VideoHandlers
from ui.video_examples import clips

QUESTION = "is there a dog ?"
FIRST = examples()[0].path
PATIENCE = 30.0  # seconds for what takes milliseconds on an idle machine


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that another thread does."""
    give_up, pause = time.monotonic() + PATIENCE, threading.Event()
    while not condition():
        assert time.monotonic() < give_up, f"waited in vain until {what}"
        pause.wait(0.01)


class Steps:
    """Decoding steps that wait to be allowed, counted when they begin."""

    def __init__(self) -> None:
        self.begun = 0
        self.allowed = threading.Semaphore(3)

    def gate(self, push: Callable[..., Any]) -> Callable[..., Any]:
        def step(*given: Any) -> Any:
            self.begun += 1
            if not self.allowed.acquire(timeout=PATIENCE):
                raise RuntimeError("a step was not allowed in time")
            return push(*given)

        return step

    def stop_for(self, stream: http.client.HTTPConnection, served: SimpleNamespace) -> None:
        """In the fourth step the listener hangs up; then all are allowed, and at most one more may begin."""
        queue = served.demo._queue
        until(lambda: self.begun == 4, "the fourth step waits to be allowed")
        stream.sock.close()
        stream.close()
        until(lambda: not any(job.alive for jobs in queue.active_jobs for job in jobs or ()), "the server has noticed")
        for _ in range(200):
            self.allowed.release()
        until(lambda: all(jobs is None for jobs in queue.active_jobs), "the lane is free")
        assert self.begun <= 5, "the step that had begun may end, and one more"


class Browser:
    """What a page's event is over the wire: a post, then one connection that hears of everything."""

    def __init__(self, served: SimpleNamespace, part: str) -> None:
        self.place = urlsplit(served.address).netloc
        wanted = next(block._id for block in served.demo.blocks.values() if getattr(block, "elem_id", None) == part)
        self.fn = next(fn for fn in served.demo.fns.values() if any(block == wanted for block, _ in fn.targets))
        self.shown = {c["props"].get("elem_id"): c["props"].get("value") for c in served.demo.config["components"]}
        self.stream = http.client.HTTPConnection(self.place, timeout=PATIENCE)

    def ask(self, values: list[Any]) -> Iterator[dict[str, Any]]:
        body = {"fn_index": self.fn._id, "session_hash": "leaves", "data": values, "event_data": None}
        post = http.client.HTTPConnection(self.place, timeout=PATIENCE)
        post.request("POST", "/gradio_api/queue/join?", json.dumps(body), {"Content-Type": "application/json"})
        assert post.getresponse().status == 200
        self.stream.request("GET", "/gradio_api/queue/data?session_hash=leaves")
        answer = self.stream.getresponse()
        while line := answer.fp.readline():
            if line.startswith(b"data: "):
                yield json.loads(line[6:])


def test_work_stops_within_one_token_of_a_client_who_leaves(
    served: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.demo.script_context.shared["Ask"].prepare()  # the server's own first answer is not what is counted
    engine = served.host.engine("stickers")
    steps = Steps()
    monkeypatch.setattr(engine.backend, "eos_ids", frozenset())  # answers go on to their limit
    monkeypatch.setattr(Decoding, "push", steps.gate(Decoding.push))
    browser = Browser(served, "ask-run")
    settings = Settings(question=QUESTION, answer_tokens=60)
    values = ["stickers", browser.shown["ask-media"], *(getattr(settings, name) for name in NAMES)]
    for _ in browser.ask(values):
        if steps.begun:
            break
    steps.stop_for(browser.stream, served)


@pytest.mark.parametrize("name", ["answer", "compare"])
def test_work_stops_within_one_token_of_a_caller_who_hangs_up(
    name: str, served: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.demo.script_context.shared["Ask"].prepare()
    steps = Steps()
    monkeypatch.setattr(served.host.engine("stickers").backend, "eos_ids", frozenset())
    monkeypatch.setattr(Decoding, "push", steps.gate(Decoding.push))
    place = urlsplit(served.address).netloc
    post, stream = (http.client.HTTPConnection(place, timeout=PATIENCE) for _ in range(2))
    body = {"image": "balloons", "question": QUESTION, "answer_tokens": 60}
    post.request("POST", f"/gradio_api/call/v2/{name}", json.dumps(body), {"Content-Type": "application/json"})
    event = json.load(post.getresponse())["event_id"]
    stream.request("GET", f"/gradio_api/call/{name}/{event}")
    steps.stop_for(stream, served)


# ---- memory ------------------------------------------------------------------------------------------------------


class Hungry:
    """An engine's own `stream`, except that it runs out of memory once, with a tensor in its hands."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, of: str) -> None:
        self.stream, self.of, self.held = Engine.stream, of, [weakref.ref(torch.zeros(1))]
        self.failed = False
        hungry = self

        def stream(engine: Engine, *given: Any, **named: Any) -> Any:
            is_full = named["pruner"] == "full"
            if not hungry.failed and is_full == (hungry.of == "all"):
                return hungry.fail()
            return hungry.stream(engine, *given, **named)

        monkeypatch.setattr(Engine, "stream", stream)

    def fail(self) -> Iterator[Any]:
        self.failed = True
        large = torch.zeros(1000)
        self.held = [weakref.ref(large)]
        yield from ()
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has /secret")


@pytest.fixture(scope="module")
def host() -> Host:
    return started()


def asked(handlers: AskHandlers, path: Path = FIRST, **changes: Any) -> dict[str, Any]:
    settings = Settings(question=QUESTION, answer_tokens=2, budget=64).but(**changes)
    values = [getattr(settings, name) for name in NAMES]
    merged: dict[str, Any] = {}
    for view in handlers.ask("", str(path), *values):
        merged |= view
    return merged


def test_out_of_memory_is_cleared_said_and_answered_by_half(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    handlers, hungry = AskHandlers(host), Hungry(monkeypatch, "kept")
    view = asked(handlers)
    assert "not enough memory" in view["question_note"] and "secret" not in str(view)
    assert 'data-dial="ask-budget" data-value="32" data-run="ask-run"' in view["question_note"]
    assert view["answers"]["state"] == "failed" and view["stop"] == {"interactive": False}
    assert hungry.held[0]() is None, "what the failed run held is gone"
    assert len(host.engine()._encoded) == 0
    assert asked(handlers, budget=32)["answers"]["state"] == "done"
    assert shortage.offer("ask-budget", "ask-run", 1, "tokens") == ""


def test_the_kept_tokens_answer_stands_where_all_tokens_do_not_fit(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    Hungry(monkeypatch, "all")
    answers = asked(AskHandlers(host))["answers"]
    assert answers["state"] == "done" and answers["pruned"]["text"] and answers["full"]["state"] == "failed"
    assert any("not enough memory for all 576 tokens" in said for said in answers["notices"])
    assert "same" not in answers and "kl" not in answers


def test_the_kept_tokens_answer_about_a_video_stands_too(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    Hungry(monkeypatch, "all")
    settings = video_state.DEFAULTS.but(question="does a rocket appear ?", answer_tokens=2)
    values = [getattr(settings, name) for name in video_state.NAMES]
    merged: dict[str, Any] = {}
    for view in VideoHandlers(host).ask("", str(clips()[0].path), *values):
        merged |= view
    answers = merged["answers"]
    assert answers["state"] == "done" and answers["pruned"]["text"] and answers["full"]["state"] == "failed"
    assert any("not enough memory for all 1,152 tokens" in said for said in answers["notices"])


def test_a_method_that_does_not_fit_is_marked_in_its_cell(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    handlers, stream = CompareHandlers(host), Engine.stream

    def hungry(engine: Engine, *given: Any, **named: Any) -> Any:
        if named["pruner"].name == "uniform":
            raise MemoryError
        return stream(engine, *given, **named)

    monkeypatch.setattr(Engine, "stream", hungry)
    last: dict[str, Any] = {}
    for view in handlers.run("", str(examples()[0].path), QUESTION, 64, ["uniform", "random"], 2):
        last |= view
    cells = {cell["method"]: cell for cell in last["grid"]["cells"]}
    assert cells["uniform"]["state"] == "failed" and "not enough memory" in cells["uniform"]["reason"]
    assert cells["random"]["state"] == "done"


def test_a_comparison_whose_reference_does_not_fit_offers_less(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(engine: Engine, *given: Any, **named: Any) -> Any:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(Engine, "stream", hungry)
    views = list(CompareHandlers(host).run("", str(examples()[0].path), QUESTION, 64, ["uniform", "random"], 2))
    note = next(view["note"] for view in views if view.get("note"))
    assert "not enough memory" in note and 'data-dial="compare-budget" data-value="32"' in note


def test_only_shortages_are_taken_for_shortages() -> None:
    assert shortage.said(RuntimeError("CUDA error: device-side assert")) == shortage.said(OSError(2, "no file")) == ""
    assert shortage.said(torch.OutOfMemoryError("x")) == shortage.NO_MEMORY
    assert shortage.said(OSError(errno.EDQUOT, "quota")) == shortage.NO_ROOM


# ---- disk --------------------------------------------------------------------------------------------------------


def upload(address: str) -> tuple[int, str]:
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nabc\r\n--x--\r\n'
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=PATIENCE)
    connection.request("POST", "/gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=x"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def full(*given: Any, **named: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device", "/secret/place")


def test_an_upload_to_a_full_disk_gets_a_sentence_and_the_page_lives(
    served: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert upload(served.address)[0] == 200
    with monkeypatch.context() as patched:
        patched.setattr(gradio.route_utils, "NamedTemporaryFile", full)
        assert upload(served.address) == (507, shortage.NO_ROOM)
    assert upload(served.address)[0] == 200


def test_a_picture_that_cannot_be_shown_for_want_of_room_gets_a_sentence(
    host: Host, served: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    handlers, new = AskHandlers(host), tmp_path / "new.png"
    Image.fromarray(np.random.default_rng(8).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(new)
    with monkeypatch.context() as patched:
        patched.setattr(tokengrid.processing_utils, "save_pil_to_cache", full)
        view = asked(handlers, new)
        assert "disk is full" in view["question_note"] and "secret" not in str(view)
    assert asked(handlers, new)["answers"]["state"] == "done"

    async def out(*given: Any, **named: Any) -> None:
        full()

    monkeypatch.setattr(gradio.Blocks, "postprocess_data", out)
    with pytest.raises(gradio.Error, match="disk is full"):
        asyncio.run(served.demo.postprocess_data(None, [], None))
