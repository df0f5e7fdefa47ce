"""Whether whoever called an endpoint is still there: work for nobody ends within one token."""

from __future__ import annotations

import threading

from gradio.context import LocalContext
from gradio.queueing import Event


class HungUp(Exception):
    """The caller has gone; what is left to work out would be for nobody."""


class Left(threading.Event):
    """Set once the caller of the queued call that this is made in has closed the connection.

    Made in the handler itself. Outside the queue (a test, a tool's server) it is an event like any other.
    """

    def __init__(self) -> None:
        super().__init__()
        self._call = _current()

    def is_set(self) -> bool:
        return super().is_set() or (self._call is not None and not self._call.alive)

    def check(self) -> None:
        """Raises `HungUp` once the caller has gone."""
        if self.is_set():
            raise HungUp("The caller has closed the connection.")


def _current() -> Event | None:
    page, name = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    return None if page is None or name is None else page._queue.event_ids_to_events.get(name)
