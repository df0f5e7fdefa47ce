"""What the server never does for a visitor: fetch an address, or answer one visitor more often than the others.

Gradio downloads `http(s)://` paths that arrive where a file is expected, and streams them through its file route. Both
are closed here: pictures are uploaded, or come inside the call.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ui import shortage

NO_ADDRESS = "Addresses are not fetched by this server; upload the picture itself."
NOT_UPLOADED = "This file was not uploaded here; upload the picture first, or send it inside the call."
_CLOSED = ("/file=", "/proxy=")


class GuardedBlocks(gr.Blocks):
    """Blocks whose events take uploaded files and no addresses.

    Gradio checks only what bears the mark of a file; a plain mapping with a path would be read wherever it points to.
    """

    def close(self, verbose: bool = True) -> None:
        """Gradio ends all streams from this thread, where the server's own may just have ended one; what is left to do
        then is to close the server."""
        try:
            super().close(verbose=verbose)
        except asyncio.InvalidStateError:
            self.server.close()

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *rest: Any, **more: Any) -> Any:
        for path in file_paths(inputs):
            if _is_address(path):
                raise gr.Error(NO_ADDRESS, print_exception=False)
            if not _was_uploaded(path):
                raise gr.Error(NOT_UPLOADED, print_exception=False)
        return await super().preprocess_data(block_fn, inputs, *rest, **more)

    async def postprocess_data(self, *given: Any, **more: Any) -> Any:
        """Pictures that are shown are written into the cache on the way out, where the disk may be full."""
        try:
            return await super().postprocess_data(*given, **more)
        except OSError as problem:
            if not shortage.of_room(problem):
                raise
            raise gr.Error(shortage.NO_ROOM, print_exception=False) from None


def file_paths(value: Any) -> Iterator[str]:
    """The `path` of every mapping within a value that has one: what Gradio may take for a file."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if isinstance(one.get("path"), str):
                yield one["path"]
            waiting += one.values()
        elif isinstance(one, list | tuple):
            waiting += one


def _is_address(path: str) -> bool:
    return "://" in path or path.lstrip().startswith("//")


def _was_uploaded(path: str) -> bool:
    try:
        return Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve())
    except (OSError, ValueError):  # too long, or no path at all
        return False


class NoFetching:
    """ASGI middleware: the routes that would fetch an address answer 403."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._fetches(scope["path"]):
            await JSONResponse({"detail": NO_ADDRESS}, status_code=403)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    @staticmethod
    def _fetches(path: str) -> bool:
        for mark in _CLOSED:
            if mark in path:
                target = path.split(mark, 1)[1]
                return mark == "/proxy=" or ":/" in target or target.startswith("//")
        return False


class FullDisk:
    """ASGI middleware: an upload that the disk has no room for gets a sentence, which the page shows as it is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except OSError as problem:
            if scope["type"] != "http" or not shortage.of_room(problem):
                raise
            await PlainTextResponse(shortage.NO_ROOM, status_code=507)(scope, receive, send)


def middleware() -> list[Middleware]:
    """What the served app is wrapped in."""
    return [Middleware(NoFetching), Middleware(FullDisk)]


class Allowance:
    """So many calls a minute by one address; the oldest addresses are forgotten first."""

    def __init__(self, per_minute: int, addresses: int = 10_000) -> None:
        self._limit, self._addresses = per_minute, addresses
        self._calls: OrderedDict[str, deque[float]] = OrderedDict()
        self._guard = threading.Lock()

    def wait(self, address: str, now: float | None = None) -> float:
        """Count one call; 0, or the seconds until the next one is allowed."""
        now = time.monotonic() if now is None else now
        with self._guard:
            calls = self._calls.setdefault(address, deque())
            self._calls.move_to_end(address)
            while len(self._calls) > self._addresses:
                self._calls.popitem(last=False)
            while calls and now - calls[0] >= 60:
                calls.popleft()
            if len(calls) >= self._limit:
                return 60 - (now - calls[0])
            calls.append(now)
            return 0.0


def address_of(request: gr.Request | None) -> str:
    """Who calls. Behind the hub's own proxy that is what the proxy says; elsewhere such a header could be made up."""
    if request is None:
        return ""
    told = request.headers.get("x-forwarded-for", "") if os.environ.get("SPACE_ID") else ""
    if told:
        return told.split(",")[0].strip()
    return request.client.host if request.client else ""


def account(environment: Mapping[str, str]) -> tuple[str, str] | None:
    """(name, password) that visitors have to give, from the secret SCRIPT_AUTH; None for an open page.

    Raises ValueError if it is set and has no colon: a page that was meant to be closed must not open.
    """
    secret = environment.get("SCRIPT_AUTH", "")
    if not secret:
        return None
    name, colon, password = secret.partition(":")
    if not (name and colon and password):
        raise ValueError("SCRIPT_AUTH must read name:password.")
    return name, password
