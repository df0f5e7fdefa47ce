"""What a link, a question or an operator's slip must not do: break the page, plant markup, or end in a traceback."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from script_core.analysis.plane import plane
from script_core.engine import Engine
from tests.handling import started
from ui import analyse_answers, compare_state, mcp, state, video_state
from ui.compare import CompareHandlers
from ui.examples import examples
from ui.loading import title
from ui.pictures import Pictures
from ui.runtime import Host
from ui.share import Sharing

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def host() -> Host:
    return started()


@pytest.mark.parametrize("number", ["1e30", "1000001", "inf", "-1e30"])
def test_a_link_with_a_huge_number_is_left_at_the_default_and_said(number: str) -> None:
    for read, name, defaults in (
        (state.from_query, "budget", state.DEFAULTS),
        (compare_state.from_query, "c_budget", compare_state.DEFAULTS),
        (video_state.from_query, "v_each", video_state.DEFAULTS),
    ):
        found: Any = read({name: number})
        settings, notes = found
        assert settings == defaults and len(notes) == 1 and "ignored" in notes[0], name


@pytest.mark.parametrize("model", ["/etc", "/nonexistent", "x" * 5000])
def test_a_link_cannot_ask_what_is_on_the_servers_disk(model: str, host: Host) -> None:
    view: dict[str, Any] = {}
    for part in CompareHandlers(host).started({"c_model": model, "c_methods": "random,uniform", "c_budget": "9"}, None):
        view |= part
    assert view["model"] == host.first and "does not offer it" in view["note"] and view["grid"]["state"] == "done"
    assert len(title(model)) <= 80 and "/" not in title(model)


def test_a_link_for_a_model_that_is_not_loaded_is_a_sentence(host: Host) -> None:
    sharing = Sharing(SimpleNamespace(host=host), Pictures())  # type: ignore[arg-type]
    values = tuple(getattr(state.DEFAULTS.but(flip=True), name) for name in state.NAMES)
    text, note = sharing.text("Link", "http://here/", "llava-hf/llava-1.5-7b-hf", str(examples()[0].path), values)
    assert text == "" and "not loaded" in note
    text, note = sharing.text("Link", "http://here/", "stickers", "/nowhere/of/mine.png", values)
    assert text == "" and "no longer on the server" in note and "mine.png" not in note


def test_a_question_is_no_markup_in_a_chart() -> None:
    asked = "<a href='http://x.co'>apple</a>"
    engine = Engine.load()
    encoded = engine.encode(examples()[0].path)
    selection = engine.select(encoded, "is there an apple ?", budget=9).selection
    chart = analyse_answers.questions(plane(encoded.tokens), [(asked, selection)], np.zeros((8, 8, 3), np.uint8))
    titles = [note.text for note in chart.figure.layout.annotations]
    assert any("&lt;a href" in text for text in titles) and not any("<a" in text for text in titles)


def test_agents_are_not_promised_what_a_login_keeps_from_them() -> None:
    with pytest.raises(mcp.NoAgents, match="agents cannot log in"):
        mcp.prepare(closed=True)


@pytest.mark.parametrize("slip", ["account", "port"])
def test_a_slip_at_the_start_is_one_sentence(slip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        if slip == "account":
            monkeypatch.setenv("SCRIPT_AUTH", "nobody")
        done = subprocess.run(
            [sys.executable, "app.py", "--port", port], cwd=ROOT, capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and ("name:password" if slip == "account" else port) in last


def test_the_page_states_the_limits_that_hold() -> None:
    from ui.limits import LIMITS

    about = (ROOT / "assets" / "about.md").read_text()
    assert f"{LIMITS.max_file_mb} MB and {LIMITS.max_pixels // 10**6} million pixels" in about
