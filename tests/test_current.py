"""One stream per page: what ends it, what it says then, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ui.current import Current
from ui.pair import ended, stopped


class Stream:
    """Counts words until it is closed."""

    def __init__(self) -> None:
        self.closed = False

    def views(self) -> Iterator[dict[str, Any]]:
        try:
            for count in range(1000):
                yield {"answers": {"state": "running", "count": count}}
        finally:
            self.closed = True


def test_stop_ends_the_stream_of_its_page_and_no_other() -> None:
    current, mine, theirs = Current(stopped), Stream(), Stream()
    one, other = current.told("a", mine.views()), current.told("b", theirs.views())
    assert next(one)["answers"]["count"] == 0 == next(other)["answers"]["count"]
    said = current.ending(stopped, "a", {"state": "running", "count": 0})
    assert said["answers"]["state"] == "stopped" and not said["stop"]["interactive"]
    assert [view["answers"]["state"] for view in one] == ["stopped"] and mine.closed
    assert next(other)["answers"]["count"] == 1 and not theirs.closed


def test_the_next_stream_of_a_page_ends_the_one_before_without_a_word() -> None:
    current, first, second = Current(stopped), Stream(), Stream()
    old = current.told("a", first.views())
    next(old)
    new = current.told("a", second.views())
    assert next(new)["answers"]["count"] == 0
    assert list(old) == [] and first.closed
    assert next(new)["answers"]["count"] == 1
    current.end("a")
    assert [view["answers"]["state"] for view in new] == ["stopped"] and second.closed


def test_a_stream_that_came_to_its_end_or_was_left_leaves_nothing() -> None:
    current, left = Current(stopped), Stream()
    assert list(current.told("a", (view for view in [{"answers": {"state": "done"}}]))) == [
        {"answers": {"state": "done"}}
    ]
    going = current.told("b", left.views())
    next(going)
    going.close()
    assert left.closed and not current._ends
    assert current.ending(ended, "a", {"state": "done"}) == ended({"state": "done"})
