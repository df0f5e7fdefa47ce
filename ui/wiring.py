"""Between a tab's handlers and Gradio's events: a handler gives views by the parts' names, an event wants components.

A `View` is a dict from a part's name to its new value. A dict value is an update of that part's properties, except for
the parts whose value itself is a dict.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

View = dict[str, Any]
Parts = dict[str, Any]
Placed = dict[Any, Any]

VALUED_BY_DICT = ("grid", "answers", "examples", "composer")
SETTLED = 0.25  # seconds: many frames of a browser, and short beside a hand on a slider; chosen, not measured


def placed(view: View, parts: Parts) -> Placed:
    """What Gradio takes: components -> values or updates."""
    return {
        parts[name]: gr.update(**value) if isinstance(value, dict) and name not in VALUED_BY_DICT else value
        for name, value in view.items()
    }


def once(handler: Callable[..., View], parts: Parts) -> Callable[..., Placed]:
    """For a handler that returns one view."""

    def run(*given: Any) -> Placed:
        return placed(handler(*given), parts)

    return run


def stream(handler: Callable[..., Iterator[View]], parts: Parts) -> Callable[..., Iterator[Placed]]:
    """For a handler that yields views."""

    def run(*given: Any) -> Iterator[Placed]:
        for view in lasting(handler(*given)):
            yield placed(view, parts)

    return run


def lasting(views: Iterator[View], seconds: float = SETTLED) -> Iterator[View]:
    """Each view with what was new within the last `seconds`, so that nothing is lost between two frames of the page.

    Gradio's client keeps one object for each part of a stream and turns it into the next view's: what comes before the
    browser has drawn is drawn as the view after it, where a part that is not mentioned is empty.
    """
    recent: dict[str, tuple[Any, float]] = {}
    for view in views:
        now = time.monotonic()
        recent = {name: (value, since) for name, (value, since) in recent.items() if now - since < seconds}
        recent |= {name: (value, now) for name, value in view.items()}
        yield {name: value for name, (value, _) in recent.items()}


def linked(handler: Callable[..., View], parts: Parts) -> Callable[..., Placed]:
    """As `once`, for a handler whose first argument is what stands behind the "?" of the page's address."""
    return _once_of(query, handler, parts)


def linked_stream(handler: Callable[..., Iterator[View]], parts: Parts) -> Callable[..., Iterator[Placed]]:
    """As `stream`, for a handler whose first argument is what stands behind the "?" of the page's address."""
    return _stream_of(query, handler, parts)


def page_once(handler: Callable[..., View], parts: Parts) -> Callable[..., Placed]:
    """As `once`, for a handler whose first argument names the page that asks."""
    return _once_of(page, handler, parts)


def page_stream(handler: Callable[..., Iterator[View]], parts: Parts) -> Callable[..., Iterator[Placed]]:
    """As `stream`, for a handler whose first argument names the page that asks."""
    return _stream_of(page, handler, parts)


def _once_of(read: Callable[[gr.Request], Any], handler: Callable[..., View], parts: Parts) -> Callable[..., Placed]:
    def run(request: gr.Request, *given: Any) -> Placed:
        return placed(handler(read(request), *given), parts)

    return run


def _stream_of(
    read: Callable[[gr.Request], Any], handler: Callable[..., Iterator[View]], parts: Parts
) -> Callable[..., Iterator[Placed]]:
    def run(request: gr.Request, *given: Any) -> Iterator[Placed]:
        for view in lasting(handler(read(request), *given)):
            yield placed(view, parts)

    return run


def picked(handler: Callable[[Any, int], View], parts: Parts) -> Callable[..., Placed]:
    """For a click in a strip of examples: the handler gets what was picked, and which of its questions."""

    def run(event: gr.SelectData) -> Placed:
        return placed(handler(event.value, int(event.index)), parts)

    return run


def query(request: gr.Request | None) -> dict[str, str]:
    """What stands behind the "?" of the page's address."""
    return dict(request.query_params) if request else {}


def page(request: gr.Request) -> str:
    """The page that asks: one for each time that the address was opened."""
    return str(request.session_hash)
