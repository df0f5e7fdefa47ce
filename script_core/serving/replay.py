"""What happens when a worker dies: the call is made again elsewhere, and nobody reads anything twice.

Answers are greedy, so a second worker says what the first one said. What has been handed on is skipped; should the two
differ after all (other hardware can round otherwise), the second one's text replaces the first one's from there on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from script_core.backends.base import CannotLoad
from script_core.report import Finished, Text
from script_core.serving.messages import Sent

T = TypeVar("T")
TRIES = 3  # few: a question that itself kills workers would take one with each try

BEGAN_AGAIN = "A model worker failed during this answer and another one gave it again; the times are the second one's."


class Lost(ConnectionError):
    """The worker went away before it had finished; the call can be made again."""


class Busy(CannotLoad):
    """As many calls wait as may wait."""


class Unreachable(CannotLoad):
    """No worker can be asked."""


def again(call: Callable[[], T], tries: int = TRIES) -> T:
    """What `call` returns, made anew while workers are lost under it. Raises `Unreachable` after so many tries."""
    for _ in range(tries):
        try:
            return call()
        except Lost:
            continue
    raise Unreachable(_gone(tries))


def once(begin: Callable[[], Iterator[Sent]], tries: int = TRIES) -> Iterator[Sent]:
    """The events of one answer, each once, however often the answer has to be begun.

    begin: starts an attempt; it is closed before the next one. Raises `Unreachable` after so many tries.
    """
    heard = Heard()
    for attempt in range(tries):
        events = begin()
        try:
            for event in events:
                if heard.is_new(event):
                    if attempt and isinstance(event, Finished):
                        event = _remark(event)
                    yield event
            return
        except Lost:
            continue
        finally:
            close = getattr(events, "close", None)
            if close is not None:
                close()
    raise Unreachable(_gone(tries))


class Heard:
    """What of one answer has been handed on."""

    def __init__(self) -> None:
        self._kinds: set[type] = set()
        self._ids: list[int] = []

    def is_new(self, event: Sent) -> bool:
        """Whether to hand the event on; if so it counts as handed on."""
        if isinstance(event, Text):
            at = event.count - 1
            if at < len(self._ids) and self._ids[at] == event.token_id:
                return False
            self._ids[at:] = [event.token_id]
            return True
        known = type(event) in self._kinds
        self._kinds.add(type(event))
        return not known


def _remark(event: Finished) -> Finished:
    notice = f"{event.result.notice} {BEGAN_AGAIN}" if event.result.notice else BEGAN_AGAIN
    return Finished(replace(event.result, notice=notice))


def _gone(tries: int) -> str:
    return f"The model workers failed {tries} times in a row on this question; try again in a minute."
