"""What strangers may try: markup, paths, addresses, bombs, floods and nonsense. Every answer is text or a sentence."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlsplit

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from script_core.media import Media, MediaError
from script_core.spacefile.manifest import load
from tests.browser import chrome, free_port, served, visit  # noqa: F401
from ui import guard
from ui.api import KNOWN_TROUBLE, Endpoints
from ui.limits import LIMITS, read_either, read_picture
from ui.runtime import Host

ROOT = Path(__file__).parent.parent
# The quick suite's share; `make soak` raises it.
ROUNDS = int(os.environ.get("SOAK_ROUNDS", "60"))
FUZZ = settings(
    max_examples=ROUNDS,
    deadline=None,
    derandomize=ROUNDS < 1000,
    suppress_health_check=list(HealthCheck),
    database=None,
)


def rest(address: str, path: str, body: Any = None, *, method: str = "", raw: bytes | None = None) -> tuple[int, bytes]:
    """A request whose path goes over the wire as it is, dots and all."""
    host = urlsplit(address).netloc
    connection = http.client.HTTPConnection(host, timeout=60)
    data = raw if raw is not None else None if body is None else json.dumps(body).encode()
    connection.request(method or ("POST" if data else "GET"), path, data, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def call(address: str, name: str, body: dict[str, Any]) -> tuple[str, Any]:
    """("complete" or "error", value or sentence) of one endpoint, by REST."""
    status, told = rest(address, f"/gradio_api/call/v2/{name}", body)
    if status != 200:
        return "error", told.decode()
    _, stream = rest(address, f"/gradio_api/call/{name}/{json.loads(told)['event_id']}")
    lines = stream.decode().splitlines()
    kind = [line[7:] for line in lines if line.startswith("event: ")][-1]
    data = [line[6:] for line in lines if line.startswith("data: ")][-1]
    return kind, json.loads(data)


# ---- defaults ----------------------------------------------------------------------------------------------------


def test_defaults_are_the_careful_ones(served: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
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


def test_only_our_own_machine_is_listened_to(served: SimpleNamespace) -> None:  # noqa: F811
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
def test_no_route_leads_to_other_files(route: str, served: SimpleNamespace) -> None:  # noqa: F811
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
def test_a_call_cannot_name_a_file_of_the_server(path: str, served: SimpleNamespace) -> None:  # noqa: F811
    given = {"image": {"path": path, "meta": {"_type": "gradio.FileData"}}, "question": "is it ?"}
    kind, told = call(served.address, "answer", given)
    assert kind == "error" and "root:" not in json.dumps(told) and str(ROOT) not in json.dumps(told)
    plain = {"image": {"path": path}, "question": "is it ?"}  # without the mark of a file, Gradio looks at nothing
    kind, told = call(served.address, "answer", plain)
    assert kind == "error" and "root:" not in json.dumps(told)


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


def test_no_address_is_ever_fetched(served: SimpleNamespace) -> None:  # noqa: F811
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


def test_events_of_the_page_fetch_nothing_either(served: SimpleNamespace) -> None:  # noqa: F811
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

XSS = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>"\'><svg onload=window.hacked=1>{{7*7}}${1}'


def test_markup_in_a_question_and_a_file_name_is_shown_as_text(visit: Any, tmp_path: Path) -> None:  # noqa: F811
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
    see.until("document.querySelector('#ask-share-text textarea').value.length > 10")
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[onerror], svg[onload]").count() == 0


def test_markup_in_a_models_answer_is_shown_as_text(
    visit: Any,  # noqa: F811
    served: SimpleNamespace,  # noqa: F811
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


def test_markup_in_a_link_is_shown_as_text(visit: Any) -> None:  # noqa: F811
    see = visit()
    page = see.open(f"?question={quote(XSS)}&tau=%3Cscript%3E&example={quote(XSS)}&model={quote(XSS)}")
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[onerror], svg[onload]").count() == 0
    assert page.input_value("#ask-question textarea").startswith("<img")


# ---- limits ------------------------------------------------------------------------------------------------------


def bomb(side: int) -> bytes:
    """A PNG whose header promises side x side pixels, in a few kilobytes."""
    import struct

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 4096))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [7000, 12_000, 30_000, 2**31 - 1])
def test_bombs_are_refused_by_their_header(side: int) -> None:
    started = time.monotonic()
    with pytest.raises(MediaError):
        read_picture(bomb(side))
    assert time.monotonic() - started < 10


def test_a_bomb_sent_to_the_server_gets_a_sentence(served: SimpleNamespace) -> None:  # noqa: F811
    uri = "data:image/png;base64," + base64.b64encode(bomb(12_000)).decode()
    kind, told = call(served.address, "answer", {"image": uri, "question": "is it ?"})
    assert kind == "error" and "144 million pixels; the limit is 40 million" in json.dumps(told)


def test_uploads_above_the_limit_are_refused(served: SimpleNamespace) -> None:  # noqa: F811
    size = (LIMITS.max_file_mb << 20) + 1000
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        + b"0" * size
        + b"\r\n--x--\r\n"
    )
    connection = http.client.HTTPConnection(urlsplit(served.address).netloc, timeout=60)
    try:
        connection.request("POST", "/gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=x"})
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # the server hung up before it had heard everything, which is a refusal, too


def test_a_full_queue_says_so() -> None:
    """With one lane and room for two, the others are told at once, and the server goes on."""
    go = threading.Event()
    with gr.Blocks(analytics_enabled=False) as demo:

        def slow(x: int) -> int:
            go.wait(30)
            return x

        gr.api(slow, api_name="slow", concurrency_limit=1)
    demo.queue(max_size=2)
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, server_port=free_port())
    try:
        told = [rest(address, "/gradio_api/call/v2/slow", {"x": i}) for i in range(2)]
        give_up = time.monotonic() + 20
        while time.monotonic() < give_up and all(status == 200 for status, _ in told):
            told.append(rest(address, "/gradio_api/call/v2/slow", {"x": 9}))
        assert told[-1][0] == 503 and b"Queue is full" in told[-1][1]
        go.set()
        event = json.loads(told[0][1])["event_id"]
        assert b"event: complete" in rest(address, f"/gradio_api/call/slow/{event}")[1]
    finally:
        go.set()
        demo.close()


# ---- nonsense ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seeds() -> list[bytes]:
    """Small valid files of many kinds, to be mutated."""
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8))
    held = []
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "ICO", "PCX"):
        out = io.BytesIO()
        picture.save(out, kind)
        held.append(out.getvalue())
    moving = io.BytesIO()
    frames = [picture.rotate(90 * turn).resize((32, 24)) for turn in range(3)]
    frames[0].save(moving, "GIF", save_all=True, append_images=frames[1:])
    return [*held, moving.getvalue(), b"\0\0\0\x18ftypmp42" + bytes(64), b"\x1aE\xdf\xa3" + bytes(64), b"<svg/>", b""]


class Files:
    """Held in an object so that a failure's report does not print every byte."""

    def __init__(self, seeds: list[bytes], folder: Path) -> None:
        self.seeds, self.folder = seeds, folder


def mutated(data: bytes, draw: random.Random) -> bytes:
    """Bytes flipped, cut, doubled, inserted or overwritten, a few times."""
    held = bytearray(data)
    for _ in range(draw.randint(1, 6)):
        place = draw.randrange(len(held) + 1)
        how = draw.randrange(5)
        if how == 0 and held:
            held[place % len(held)] = draw.randrange(256)
        elif how == 1:
            del held[place:]
        elif how == 2:
            held[place:place] = held[place : place + draw.randrange(64)]
        elif how == 3:
            held[place:place] = draw.randbytes(draw.randrange(16))
        else:
            held[place : place + 4] = draw.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"])
    return bytes(held)


@pytest.fixture(scope="module")
def seeds_and_folder(seeds: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(seeds, tmp_path_factory.mktemp("mutated"))


@FUZZ
@given(seed=st.integers(0, 2**31))
def test_mutated_files_are_read_or_refused(seed: int, seeds_and_folder: Files) -> None:
    seeds, folder = seeds_and_folder.seeds, seeds_and_folder.folder
    draw = random.Random(seed)
    path = folder / "upload.png"
    path.write_bytes(mutated(draw.choice(seeds), draw))
    before = len(os.listdir(tempfile.gettempdir()))
    started = time.monotonic()
    # Videos are decoded in a process of their own, which takes half a second each: one in ten.
    read = read_either if draw.random() < 0.1 else lambda given, frames: read_picture(given)
    try:
        assert isinstance(read(path, 4), Media)
    except MediaError as refusal:
        assert str(refusal).endswith(".") and str(folder) not in str(refusal)
    assert time.monotonic() - started < 10
    assert len(os.listdir(tempfile.gettempdir())) <= before + 1


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
    | st.sampled_from(["script", XSS, "\ud800", "\0"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)
NAMES = (
    "image",
    "question",
    "method",
    "budget",
    "tau",
    "gamma",
    "p",
    "scope",
    "flip",
    "newlines",
    "answer_tokens",
    "model",
)


@pytest.fixture(scope="module")
def endpoints() -> Endpoints:
    host = Host()
    host.start()
    host.wait()
    return Endpoints(host, per_minute=10**9)


GOOD = {"image": "balloons", "question": "is it ?", "budget": 8, "answer_tokens": 1}


@FUZZ
@given(wrong=st.dictionaries(st.sampled_from(NAMES), ANYTHING, min_size=1, max_size=4), which=st.integers(0, 9))
def test_nonsense_in_calls_gets_a_sentence(wrong: dict[str, Any], which: int, endpoints: Endpoints) -> None:
    name = ("answer", "explain", "compare")[0 if which < 3 else 1 if which < 8 else 2]
    takes = set(Endpoints.__dict__[name].__code__.co_varnames)
    arguments = {key: value for key, value in {**GOOD, **wrong}.items() if key in takes}
    if name == "compare":
        arguments["methods"] = wrong.get("method", ["uniform", "random"])
    started = time.monotonic()
    try:
        told = getattr(endpoints, name)(**arguments)
        json.dumps(told, allow_nan=False)
    except KNOWN_TROUBLE as refusal:
        assert str(refusal).strip()
    except gr.Error:
        pass
    assert time.monotonic() - started < 30


@FUZZ
@given(value=ANYTHING)
def test_whatever_is_posted_the_server_stays_up(value: Any, served: SimpleNamespace) -> None:  # noqa: F811
    try:
        body = json.dumps({"image": "balloons", "question": value, "budget": value, "answer_tokens": 1}).encode()
    except ValueError:
        return
    for path in (
        "/gradio_api/call/v2/methods",
        "/gradio_api/call/v2/nothing",
        "/gradio_api/queue/join",
        "/gradio_api/upload",
    ):
        status, told = rest(served.address, path, raw=body)
        assert b"Traceback" not in told and str(ROOT).encode() not in told
    assert rest(served.address, "/healthz")[0] == 200


# ---- the log -----------------------------------------------------------------------------------------------------


def test_questions_and_file_names_are_not_logged(
    served: SimpleNamespace,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    client = Client(served.address, verbose=False)
    client.predict(image="balloons", question="is my secret here ?", answer_tokens=1, api_name="/answer")
    with pytest.raises(AppError):
        client.predict(image="my-secret-picture", question="is my secret here ?", api_name="/answer")
    out = capfd.readouterr()
    assert "secret" not in caplog.text + out.out + out.err


@pytest.fixture(autouse=True)
def unlimited(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """These tests call faster than one visitor may."""
    monkeypatch.setattr(guard.Allowance, "wait", lambda self, address, now=None: 0.0)
    yield


def test_limits_come_from_the_spacefile() -> None:
    from ui.state import ANSWER_LIMIT, QUESTION_LIMIT

    limits = load().limits
    assert (ANSWER_LIMIT, QUESTION_LIMIT) == (limits.max_new_tokens, limits.max_question_chars)
    assert limits == LIMITS
