"""The real page as programs and agents see it, for tests."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from script_core.engine import Engine
from tests.browser import free_port

QUESTION = "is there a dog ?"
SHORT = 3  # tokens of an answer


@pytest.fixture(scope="module")
def server() -> Iterator[SimpleNamespace]:
    """The real page with the embedded model, served to agents, too."""
    from gradio_client import Client

    import app
    from ui import page
    from ui.runtime import Host

    host = Host()
    demo = page.build(host)
    address = app.serve(demo, host, app.arguments(["--port", str(free_port()), "--mcp"]), block=False)
    host.wait()
    yield SimpleNamespace(address=address.rstrip("/"), host=host, demo=demo, client=Client(address, verbose=False))
    demo.close()


@pytest.fixture(scope="module")
def engine() -> Engine:
    """The embedded model, without a page."""
    return Engine.load()


def rest(server: SimpleNamespace, name: str, body: dict[str, Any]) -> Any:
    """POST, then read the stream of events to its end; the endpoint's value, or the error's sentence."""
    post = urllib.request.Request(
        f"{server.address}/gradio_api/call/v2/{name}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(post, timeout=60) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{server.address}/gradio_api/call/{name}/{event}", timeout=120) as answer:
        lines = [line.decode().strip() for line in answer]
    kind = [line[7:] for line in lines if line.startswith("event: ")][-1]
    data = json.loads([line[6:] for line in lines if line.startswith("data: ")][-1])
    return data[0] if kind == "complete" else data
