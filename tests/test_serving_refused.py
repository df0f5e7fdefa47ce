"""What a worker refuses: in the engine's own words, with nothing of its log, and when it asks to be replaced."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from script_core.backends.base import CannotLoad
from script_core.engine import Engine, QuestionError
from script_core.media import MediaError
from script_core.pruners.base import CannotPrune
from script_core.serving import RemoteEngine, Worker
from script_core.serving.messages import Refused, Request
from script_core.serving.worker import Broken
from tests.tiny import picture
from tests.workers import QUESTION, InProcess


def test_a_refusal_is_the_engine_s_own(llava: Engine) -> None:
    cluster = InProcess(llava)
    engine = cluster.engine()
    with pytest.raises(CannotPrune, match="There is no method"):
        engine.ask(picture(90, 90), QUESTION, pruner="nonsense")
    with pytest.raises(CannotPrune, match="at least 1"):
        list(engine.stream(picture(90, 90), QUESTION, budget=0))
    with pytest.raises(QuestionError):
        engine.stream(picture(90, 90), " ")
    with pytest.raises(QuestionError):
        engine.stream(picture(90, 90), QUESTION, max_new_tokens=0)
    with pytest.raises(MediaError):
        engine.encode(b"no picture")
    with pytest.raises(CannotLoad, match="they serve tiny"):
        RemoteEngine(cluster, "other", cluster.describe()["tiny"]).encode(picture(90, 90))


def test_what_only_the_worker_s_log_should_say_stays_there(llava: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = InProcess(llava)
    engine = cluster.engine()
    engine.encode(picture(90, 90))

    def fail(*_: Any, **__: Any) -> Any:
        raise KeyError("/secret/path")

    monkeypatch.setattr(cluster.workers[0]._engines["tiny"], "select", fail)
    with pytest.raises(RuntimeError) as caught:
        engine.select(picture(90, 90), QUESTION)
    assert "secret" not in str(caught.value) and "KeyError" in str(caught.value)
    reply = cluster.call(Request("tiny", "__class__"), "")
    assert isinstance(reply, Refused)  # a request cannot name just any method


def test_a_worker_whose_gpu_has_failed_asks_to_be_replaced(llava: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker({"tiny": Engine(llava.backend)})
    request = Request("tiny", "query", arguments={"question": QUESTION})
    problems: list[Exception] = [
        torch.OutOfMemoryError("CUDA out of memory"),
        torch.AcceleratorError("illegal address"),
    ]

    def fail(question: str) -> Any:
        raise problems[0]

    monkeypatch.setattr(worker._engines["tiny"], "query", fail)
    reply = worker.call(request)
    assert isinstance(reply, Refused) and isinstance(reply.problem, torch.OutOfMemoryError)
    worker.check()  # memory can be had again
    problems.pop(0)
    with pytest.raises(Broken):
        worker.call(request)
    with pytest.raises(Broken):
        worker.check()
