"""Careful defaults, and paths, addresses and markup that strangers may try. Every answer is text or a sentence."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from tests.browser import free_port
from tests.wire import XSS, call, rest
from ui import guard
from ui.limits import LIMITS

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests call faster than one visitor may."""
    monkeypatch.setattr(guard.Allowance, "wait", lambda self, address, now=None: 0.0)


# ---- defaults ----------------------------------------------------------------------------------------------------


def test_defaults_are_the_careful_ones(served: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    import app

    monkeypatch.delenv("GRADIO_SERVER_NAME", raising=False)
    options = app.arguments([])
    assert options.host == "127.0.0.1" and not options.share and not options.mcp and options.profile == "local"
    demo = served.demo
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False" and not demo.analytics_enabled
    assert (
        not demo.show_error and not demo.allowed_paths and demo.app.strict_cors
        if hasattr(demo.app, "strict_cors")
        else True
    )
    assert demo.delete_cache == (600, LIMITS.upload_ttl_s) and demo.max_file_size == LIMITS.max_file_mb << 20
    assert demo._queue.max_size == LIMITS.queue_max
    status, _ = rest(served.address, "/gradio_api/monitoring")
    assert status in (403, 404, 405)


def test_only_our_own_machine_is_listened_to(served: SimpleNamespace) -> None:
    port = urlsplit(served.address).port
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    for address in others:
        with pytest.raises(OSError):
            socket.create_connection((address, port), timeout=3)


def test_starting_asks_no_other_machine(tmp_path: Path) -> None:
    """Every name that the server's process looks up or connects to, from the import to an answered question."""
    code = """
import sys
asked = []
def watch(event, given):
    if event == "socket.getaddrinfo":
        asked.append(str(given[0]))
    elif event == "socket.connect" and isinstance(given[1], tuple):
        asked.append(str(given[1][0]))
sys.addaudithook(watch)
import app
from gradio_client import Client
address = app.serve(app.demo, app.host, app.arguments(["--port", sys.argv[1]]), block=False)
app.host.wait()
Client(address, verbose=False).predict(image="balloons", question="is it ?", answer_tokens=1, api_name="/answer")
here = {"127.0.0.1", "localhost", "None", "::1", "0.0.0.0", "b'127.0.0.1'", "b'localhost'"}
print("ASKED", sorted(set(asked) - here), flush=True)
import os
os._exit(0)
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRADIO")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(free_port())], cwd=ROOT, env={**environment, "HF_HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert "ASKED []" in done.stdout, done.stdout + done.stderr


def test_account_from_the_secret() -> None:
    assert guard.account({}) is None and guard.account({"SCRIPT_AUTH": ""}) is None
    assert guard.account({"SCRIPT_AUTH": "me:a:b"}) == ("me", "a:b")
    for broken in ("me", ":x", "me:"):
        with pytest.raises(ValueError, match="name:password"):
            guard.account({"SCRIPT_AUTH": broken})


# ---- paths and addresses -----------------------------------------------------------------------------------------

PATHS = (
    "/etc/passwd",
    "../../../../etc/passwd",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "//etc/passwd",
)


@pytest.mark.parametrize(
    "route", ["/gradio_api/file=", "/gradio_api/file/", "/static/", "/assets/", "/gradio_api/stream/"]
)
def test_no_route_leads_to_other_files(route: str, served: SimpleNamespace) -> None:
    targets = [
        *PATHS,
        str(ROOT / "app.py"),
        "app.py",
        "Spacefile",
        str(ROOT / ".git" / "config"),
        quote(str(ROOT / "app.py")),
    ]
    for target in targets:
        status, told = rest(served.address, route + target)
        assert b"root:" not in told and b"[core]" not in told and b"import argparse" not in told, (route, target)
        assert b"[limits]" not in told and status in (400, 403, 404, 405, 422), (route, target, status)


@pytest.mark.parametrize("path", ["/etc/passwd", str(ROOT / "assets" / "favicon.svg"), "../../etc/hostname", "app.py"])
def test_a_call_cannot_name_a_file_of_the_server(path: str, served: SimpleNamespace) -> None:
    given = {"image": {"path": path, "meta": {"_type": "gradio.FileData"}}, "question": "is it ?"}
    kind, told = call(served.address, "answer", given)
    assert kind == "error" and "root:" not in json.dumps(told) and str(ROOT) not in json.dumps(told)
    plain = {"image": {"path": path}, "question": "is it ?"}  # without the mark of a file, Gradio looks at nothing
    kind, told = call(served.address, "answer", plain)
    assert kind == "error" and "root:" not in json.dumps(told)


def test_a_call_cannot_read_a_picture_that_was_not_uploaded(tmp_path: Path, served: SimpleNamespace) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "another visitor's.png")
    example = next((ROOT / "assets" / "examples").glob("*.png"))
    for path in (tmp_path / "another visitor's.png", example, tmp_path / "not there.png", Path("x" * 5000)):
        given = {"image": {"path": str(path)}, "question": "is there an apple ?"}
        kind, told = call(served.address, "answer", given)
        assert kind == "error" and told["error"] == guard.NOT_UPLOADED, (path, told)


class Trap:
    """A server that counts who comes."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.settimeout(0.2)
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}/picture.png"

    def visited(self) -> bool:
        try:
            self.socket.accept()[0].close()
        except TimeoutError:
            return False
        return True


def test_no_address_is_ever_fetched(served: SimpleNamespace) -> None:
    trap = Trap()
    mark = {"meta": {"_type": "gradio.FileData"}}
    for url in (
        trap.address,
        "https://example.com/x.png",
        "http://169.254.169.254/latest/meta-data",
        "ftp://127.0.0.1/x",
    ):
        for image in ({"path": url, **mark}, {"path": "x", "url": url, **mark}, url, {"deep": [{"path": url, **mark}]}):
            kind, told = call(served.address, "answer", {"image": image, "question": "is it ?"})
            assert kind == "error", (image, told)
        for route in ("/gradio_api/file=", "/file=", "/gradio_api/proxy=", "/proxy="):
            status, _ = rest(served.address, route + url)
            assert status in (403, 404), (route, url, status)
            status, _ = rest(served.address, route + quote(url, safe=""))
            assert status in (403, 404), (route, url, status)
    assert not trap.visited()


def test_events_of_the_page_fetch_nothing_either(served: SimpleNamespace) -> None:
    trap = Trap()
    mark = {"path": trap.address, "url": trap.address, "meta": {"_type": "gradio.FileData"}}
    for fn in served.demo.fns.values():
        if not fn.inputs:
            continue
        body = {"fn_index": fn._id, "session_hash": "trap", "data": [mark for _ in fn.inputs]}
        rest(served.address, "/gradio_api/queue/join?", body)
        rest(served.address, "/gradio_api/run/predict", body)
    stream = http.client.HTTPConnection(urlsplit(served.address).netloc, timeout=20)
    stream.request("GET", "/gradio_api/queue/data?session_hash=trap")
    answer = stream.getresponse()
    give_up = time.monotonic() + 15
    while time.monotonic() < give_up:
        line = answer.fp.readline()
        if not line or b"close_stream" in line:
            break
    stream.close()
    assert not trap.visited()


# ---- markup ------------------------------------------------------------------------------------------------------


def test_markup_in_a_question_and_a_file_name_is_shown_as_text(visit: Any, tmp_path: Path) -> None:
    see = visit()
    page = see.open()
    path = tmp_path / "<img src=x onerror=window.hacked=1>.png"
    Image.fromarray(np.full((80, 90, 3), 80, dtype=np.uint8)).save(path)
    page.fill("#ask-question textarea", XSS)
    page.click("#ask-run")
    see.until("document.querySelector('#ask-answers .ans').dataset.state !== 'running'", timeout=90_000)
    remove = page.locator("#ask-media button[aria-label='Clear'], #ask-media button[title='Clear']")
    if remove.count():
        remove.first.click()
    before = see.data("media")
    page.set_input_files("#ask-media input[type=file]", str(path))
    see.until(f"document.querySelector('#ask-grid .tg').dataset.media !== '{before}'")
    page.click("#ask-share button")
    see.until("document.querySelector('#ask-share-text textarea')?.value.length > 10")
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[onerror], svg[onload]").count() == 0


def test_markup_in_a_models_answer_is_shown_as_text(
    visit: Any,
    served: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = served.host.engine("stickers")
    monkeypatch.setattr(type(engine.backend), "decode", lambda self, ids: XSS)
    see = visit()
    page = see.open()
    page.click("#ask-run")
    see.until("document.querySelector('#ask-answers .ans').innerText.includes('onerror')", timeout=90_000)
    see.until("document.querySelector('#ask-answers .ans').dataset.state === 'done'", timeout=90_000)
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[onerror], svg[onload]").count() == 0
    assert "49" not in page.inner_text("#ask-answers [data-card=pruned] [data-part=text]")


def test_markup_in_a_link_is_shown_as_text(visit: Any) -> None:
    see = visit()
    page = see.open(f"?question={quote(XSS)}&tau=%3Cscript%3E&example={quote(XSS)}&model={quote(XSS)}")
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[onerror], svg[onload]").count() == 0
    assert page.input_value("#ask-question textarea").startswith("<img")


# ---- the log -----------------------------------------------------------------------------------------------------


def test_questions_and_file_names_are_not_logged(
    served: SimpleNamespace,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    client = Client(served.address, verbose=False)
    client.predict(image="balloons", question="is my secret here ?", answer_tokens=1, api_name="/answer")
    with pytest.raises(AppError):
        client.predict(image="my-secret-picture", question="is my secret here ?", api_name="/answer")
    out = capfd.readouterr()
    assert "secret" not in caplog.text + out.out + out.err
