"""Thousands of broken files and senseless calls (`make soak` raises the number): read, or refused in a sentence."""

from __future__ import annotations

import io
import json
import os
import random
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from script_core.media import Media, MediaError
from tests.wire import XSS, rest
from ui.api import KNOWN_TROUBLE, Endpoints
from ui.limits import read_either, read_picture
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
def test_whatever_is_posted_the_server_stays_up(value: Any, served: SimpleNamespace) -> None:
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
