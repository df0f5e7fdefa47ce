"""The stream that a page is being told now. The next one of that page, or Stop, ends it here, on the server.

The browser ends a stream, too, but Gradio's client forgets which one is running when it is told of several in quick
succession, and a forgotten stream would keep the model busy to its end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from typing import Any

View = dict[str, Any]


class Current:
    """One stream per page. `stopped`: from the last "answers" of a stream that was ended, its last view."""

    def __init__(self, stopped: Callable[[Mapping[str, Any] | None], View]) -> None:
        self._stopped = stopped
        self._ends: dict[str, threading.Event] = {}
        self._guard = threading.Lock()

    def told(self, page: str, views: Generator[View, None, None]) -> Iterator[View]:
        """The views of a new stream, until they end or `end` is called for the page, or another stream begins there."""
        self.end(page)
        end, answers = threading.Event(), None
        with self._guard:
            self._ends[page] = end
        try:
            with closing(views):
                for view in views:
                    if end.is_set():
                        if not self._busy(page):  # else the next stream says what there is to say
                            yield self._stopped(answers)
                        return
                    answers = view.get("answers", answers)
                    yield view
        finally:
            with self._guard:
                if self._ends.get(page) is end:
                    del self._ends[page]

    def _busy(self, page: str) -> bool:
        with self._guard:
            return page in self._ends

    def ending(self, say: Callable[[Mapping[str, Any] | None], View], page: str, answers: Mapping[str, Any]) -> View:
        """`end`, and what `say` makes of the answers that the page shows."""
        self.end(page)
        return say(answers)

    def end(self, page: str) -> None:
        """End the page's stream, if there is one, at its next word."""
        with self._guard:
            end = self._ends.pop(page, None)
        if end is not None:
            end.set()
