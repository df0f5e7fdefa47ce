"""What is too large, too long or too much: refused by what can be seen of it, in a sentence."""

from __future__ import annotations

import base64
import http.client
import json
import struct
import threading
import time
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import gradio as gr
import pytest

from script_core.media import MediaError
from script_core.spacefile.manifest import load
from tests import clips
from tests.browser import free_port
from tests.wire import call, rest
from ui import limits
from ui.limits import LIMITS, read_either, read_picture


def bomb(side: int) -> bytes:
    """A PNG whose header promises side x side pixels, in a few kilobytes."""

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


def test_a_bomb_sent_to_the_server_gets_a_sentence(served: SimpleNamespace) -> None:
    uri = "data:image/png;base64," + base64.b64encode(bomb(12_000)).decode()
    kind, told = call(served.address, "answer", {"image": uri, "question": "is it ?"})
    assert kind == "error" and "144 million pixels; the limit is 40 million" in json.dumps(told)


def test_uploads_above_the_limit_are_refused(served: SimpleNamespace) -> None:
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


def test_a_video_longer_than_the_spacefile_allows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = clips.write(tmp_path / "three-seconds.mp4", frames=30)
    assert len(read_either(clip, 4).frames) == 4
    monkeypatch.setattr(limits, "LIMITS", replace(LIMITS, max_video_s=2))
    with pytest.raises(MediaError, match="lasts 0:00:03 by its header, and at most 0:00:02"):
        read_either(clip, 4)
    monkeypatch.setattr(limits, "LIMITS", replace(LIMITS, max_frames=3))
    assert len(read_either(clip, 64).frames) == 3


def test_limits_come_from_the_spacefile() -> None:
    from ui.state import ANSWER_LIMIT, QUESTION_LIMIT

    limits = load().limits
    assert (ANSWER_LIMIT, QUESTION_LIMIT) == (limits.max_new_tokens, limits.max_question_chars)
    assert limits == LIMITS
