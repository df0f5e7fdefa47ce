"""A worker dies or a reader leaves in the middle of an answer: nothing is lost, repeated, or left running."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from script_core.backends.base import CannotLoad
from script_core.engine import Engine
from script_core.report import Finished, FirstToken, Text
from script_core.serving import Busy, Lost, Unreachable, replay
from tests.tiny import picture
from tests.workers import QUESTION, InProcess, said


@pytest.mark.parametrize("method", ["script", "fastv"])  # known before, and only after, the prefill
def test_a_death_at_any_point_of_an_answer_is_not_seen_by_its_reader(llava: Engine, method: str) -> None:
    image, asked = picture(90, 90), {"pruner": method, "budget": 16, "max_new_tokens": 4}
    whole = said(list(InProcess(llava).engine().stream(image, QUESTION, **asked)))  # type: ignore[arg-type]
    for cut in range(len(whole) - 1):
        cluster = InProcess(llava, count=2, cuts=(cut,))
        events = list(cluster.engine().stream(image, QUESTION, **asked))  # type: ignore[arg-type]
        assert said(events) == whole
        assert events[-1].result.notice.endswith(replay.BEGAN_AGAIN)
        assert cluster.methods["stream"] == 3 and cluster.sent_pixels == 2  # the second worker had to be sent it


def test_two_deaths_in_one_answer(llava: Engine) -> None:
    whole = said(list(InProcess(llava).engine().stream(picture(90, 90), QUESTION, max_new_tokens=5)))
    cluster = InProcess(llava, count=3, cuts=(3, 1))
    assert said(list(cluster.engine().stream(picture(90, 90), QUESTION, max_new_tokens=5))) == whole


def test_if_all_workers_fail_the_reader_gets_a_sentence(llava: Engine) -> None:
    cluster = InProcess(llava, count=2, cuts=(1,) * 9)
    with pytest.raises(Unreachable, match="try again in a minute"):
        list(cluster.engine().stream(picture(90, 90), QUESTION, max_new_tokens=3))
    assert issubclass(Unreachable, CannotLoad) and issubclass(Busy, CannotLoad)  # which the page shows as they are


def test_a_call_is_made_again_only_if_its_worker_was_lost() -> None:
    calls: list[str] = []

    def fails(*problems: Exception | str) -> Callable[[], str]:
        left = list(problems)

        def call() -> str:
            calls.append("call")
            outcome = left.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        return call

    assert replay.again(fails(Lost("1"), Lost("2"), "answer")) == "answer" and len(calls) == 3
    for final in (Busy("full"), RuntimeError("bug")):
        calls.clear()
        with pytest.raises(type(final)):
            replay.again(fails(final, "answer"))
        assert len(calls) == 1
    with pytest.raises(Unreachable):
        replay.again(fails(*[Lost("gone")] * replay.TRIES))


def test_a_second_worker_that_rounds_otherwise_replaces_the_text_from_there_on() -> None:
    first = [FirstToken(5, 1.0, 2.0), Text("a", 5, 1), Text("a b", 6, 2), Text("a b c", 7, 3)]
    second = [FirstToken(5, 9.0, 9.0), Text("a", 5, 1), Text("a x", 8, 2), Text("a x c", 7, 3), Text("a x c d", 9, 4)]
    attempts = iter([first, second])

    def begin() -> Iterator[Any]:
        attempt = next(attempts)
        yield from attempt
        if attempt is first:
            raise Lost("killed")

    texts = [event.text for event in replay.once(begin) if isinstance(event, Text)]
    assert texts == ["a", "a b", "a b c", "a x", "a x c", "a x c d"]


def test_stop_ends_the_worker_within_a_token_and_the_answer_says_so(llava: Engine) -> None:
    cluster, stop, counts = InProcess(llava), threading.Event(), []
    for event in cluster.engine().stream(picture(90, 90), QUESTION, max_new_tokens=200, stop=stop):
        if isinstance(event, Text):
            counts.append(event.count)
            if event.count == 3:
                stop.set()
    assert counts[-1] <= 5 and isinstance(event, Finished) and event.result.stopped
    assert cluster.workers[0].streams == 0


def test_a_reader_who_leaves_takes_the_work_along(llava: Engine) -> None:
    cluster = InProcess(llava)
    events = cluster.engine().stream(picture(90, 90), QUESTION, max_new_tokens=200)
    while not isinstance(next(events), Text):
        assert cluster.workers[0].streams <= 1
    assert cluster.workers[0].streams == 1
    events.close()  # type: ignore[attr-defined]
    assert cluster.workers[0].streams == 0
    cluster.stop("nobody's")  # a stop that comes late is no error
