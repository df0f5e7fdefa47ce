"""A served page and a real Chromium, for tests that import these fixtures. A missing browser is a failure."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ui.screenshots import browser, settle

DONE = "document.querySelector('#ask-answers .ans').dataset.state === 'done'"


def text(page: Any, selector: str) -> str:
    return str(page.inner_text(selector)).strip()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def served() -> Iterator[SimpleNamespace]:
    """The real page on a free port, with the embedded model."""
    import app
    from ui import page
    from ui.runtime import Host

    host = Host()
    demo = page.build(host)
    address = app.serve(demo, host, app.arguments(["--port", str(free_port())]), block=False)
    yield SimpleNamespace(address=address, host=host, demo=demo)
    demo.close()


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    with browser() as started:
        yield started


class Visit:
    """One page with what went wrong on it."""

    def __init__(self, chrome: Any, address: str, *, width: int = 1366, height: int = 768, look: str = "light") -> None:
        self.context = chrome.new_context(viewport={"width": width, "height": height}, color_scheme=look)
        self.page = self.context.new_page()
        self.outside: list[str] = []
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.route("**/*", self._guard)
        self.address = address

    def _guard(self, route: Any) -> None:
        url = route.request.url
        if url.startswith((self.address.rstrip("/"), "data:", "blob:")):
            route.continue_()
        else:
            self.outside.append(url)
            route.abort()

    def open(self, query: str = "") -> Any:
        self.page.goto(self.address + query)
        settle(self.page)
        return self.page

    def data(self, name: str, host: str = "#ask-grid .tg") -> str:
        return str(self.page.get_attribute(host, f"data-{name}"))

    def until(self, condition: str, timeout: int = 30_000) -> None:
        self.page.wait_for_function(condition, timeout=timeout)

    def close(self) -> None:
        self.context.close()
        assert self.outside == [], "the page asked another server for something"
        assert self.errors == [], "the page reported errors"


@pytest.fixture
def visit(chrome: Any, served: SimpleNamespace) -> Iterator[Any]:
    """Call it to get a `Visit`; all are closed and checked at the end."""
    made: list[Visit] = []

    def make(**size: Any) -> Visit:
        made.append(Visit(chrome, served.address, **size))
        return made[-1]

    yield make
    for one in made:
        one.close()
