"""A tab's handlers called as functions: over a server that has started, with a visitor's fields, to the last view."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from ui.runtime import Host


def started() -> Host:
    """A server without a page, its embedded model ready."""
    host = Host()
    host.start()
    host.wait()
    return host


def handlers_of(kind: Callable[[Host], Any]) -> Any:
    """A fixture with the handlers of one tab, for a module to bind to the name that its tests ask for."""

    @pytest.fixture(scope="module")
    def handlers() -> Any:
        return kind(started())

    return handlers


def fields(settings: Any, names: Sequence[str]) -> Callable[..., list[Any]]:
    """A function that lists a tab's fields in the order of `names`, as `settings` has them but for what it is told."""

    def values(**changes: Any) -> list[Any]:
        return [changes.get(name, getattr(settings, name)) for name in names]

    return values


def merged(views: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The parts as they stand at the end of a stream."""
    last: dict[str, Any] = {}
    for view in views:
        last |= view
    return last
