"""ZeroGPU's seam, with a stand-in for the `spaces` package; and which profile runs where."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from ui import gpu
from ui.handlers import AskHandlers
from ui.runtime import Host
from ui.state import DEFAULTS, NAMES

ON_ZERO = {"SPACES_ZERO_GPU": "true", "SPACE_ID": "me/script"}


class Spaces(ModuleType):
    """What `spaces.GPU` does, as far as the seam can tell: it asks for a duration, then runs the function."""

    def __init__(self) -> None:
        super().__init__("spaces")
        self.asked: list[int] = []

    def GPU(self, duration: Callable[..., int]) -> Callable[..., Any]:
        def decorate(call: Callable[..., Any]) -> Callable[..., Any]:
            def run(*given: Any) -> Iterator[Any]:
                self.asked.append(duration(*given))
                yield from call(*given)

            return run

        return decorate


@pytest.fixture
def spaces(monkeypatch: pytest.MonkeyPatch) -> Spaces:
    made = Spaces()
    monkeypatch.setitem(sys.modules, "spaces", made)
    return made


def test_elsewhere_the_function_itself_comes_back() -> None:
    def call() -> None: ...

    for environment in ({}, {"SPACES_ZERO_GPU": ""}, {"SPACES_ZERO_GPU": "0"}, {"SPACE_ID": "me/script"}):
        assert gpu.on_gpu(call, environment, lambda: 5) is call


def test_on_zero_each_call_asks_for_its_own_seconds(spaces: Spaces) -> None:
    def call(length: int) -> Iterator[int]:
        yield length

    lent = gpu.on_gpu(call, ON_ZERO, lambda length: gpu.seconds(length))
    assert list(lent(1)) == [1] and list(lent(256)) == [256]
    assert spaces.asked == [11, 37]  # 8 + 5 * 0.6 + 2 * 0.05 * tokens, rounded


def test_without_its_package_a_zero_gpu_space_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spaces", None)
    with pytest.raises(RuntimeError, match="needs the package `spaces`"):
        gpu.on_gpu(print, ON_ZERO, lambda: 5)


@pytest.mark.parametrize("given", ["x", None, -5, float("nan"), 10**9])
def test_seconds_are_bounded_whatever_is_asked(given: Any) -> None:
    assert 8 <= gpu.seconds(given, longest=60) <= 60


def test_which_profile_runs_where(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert gpu.profile_of({}) == "local"
    assert gpu.profile_of(ON_ZERO) == "zerogpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.profile_of({"SPACE_ID": "me/script"}) == "preview"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert gpu.profile_of({"SPACE_ID": "me/script"}) == "cuda"


def test_a_question_is_one_call_and_sliders_are_none(spaces: Spaces) -> None:
    from ui.examples import examples

    host = Host(gpu_seconds=60)
    host.start()
    handlers = AskHandlers(host)
    ask = gpu.lent_question(handlers.ask, host, ON_ZERO)
    settings = DEFAULTS.but(question="is there a dog ?", answer_tokens=2)
    values = tuple(getattr(settings, name) for name in NAMES)
    path = str(examples()[0].path)
    last = {}
    for view in ask("", path, *values):
        last |= view
    assert last["answers"]["state"] == "done" and spaces.asked == [11]
    handlers.looked("", path, *values)
    assert spaces.asked == [11]
