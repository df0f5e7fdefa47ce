"""The page without a browser: markup, examples, and what the server offers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest

from tests.handling import handlers_of
from ui import cards, page
from ui.examples import examples
from ui.guard import GuardedBlocks
from ui.handlers import AskHandlers
from ui.runtime import Host

handlers = handlers_of(AskHandlers)
FIRST = str(examples()[0].path)


def test_notes_escape_what_they_quote() -> None:
    assert cards.note("<img onerror=x>") == '<p class="note note-error" role="alert">&lt;img onerror=x&gt;</p>'
    assert cards.note("") == ""


@pytest.mark.parametrize(("value", "unit", "text"), [
    (576, "tokens", "576"), (2880, "tokens", "2,880"), (0.456, "ms", "0.46 ms"), (41.27, "ms", "41.3 ms"),
    (1500, "ms", "1.50 s"), (3.817e12, "FLOPs", "3.82 TFLOPs"), (1440 * 2**20, "bytes", "1.41 GiB"),
    (160 * 2**20, "bytes", "160 MiB"), (999, "bytes", "999 B"),
])  # fmt: skip
def test_quantities_read_well(value: float, unit: str, text: str) -> None:
    assert cards.quantity(value, unit) == text


def test_every_counter_says_what_it_is(handlers: AskHandlers) -> None:
    result = handlers.host.engine().ask(FIRST, "is there an apple ?", budget=64, max_new_tokens=4)
    full = handlers.host.engine().ask(FIRST, "is there an apple ?", pruner="full", budget=576, max_new_tokens=4)
    html = cards.counters_html(result.counters, full.counters, "cpu")
    assert html.count("How is this computed?") == html.count('class="cnt-row"') == 5
    assert html.count(">measured<") + html.count(">computed<") == 5
    waiting = cards.counters_html(result.counters, None)
    assert "..." in waiting, "what is not measured yet must not look measured"


def test_examples_cover_what_the_model_can_be_asked() -> None:
    kinds = " ".join(example.kind for example in examples())
    assert all(kind in kinds for kind in ("existence", "kind", "colour", "position", "where"))
    assert sum(example.is_scene for example in examples()) >= 8
    assert all(example.path.is_file() and example.alt for example in examples())
    credits = (examples()[0].path.parent / "CREDITS.md").read_text()
    assert all(example.path.name in credits for example in examples() if not example.is_scene)


def test_the_page_builds_and_offers_nothing_by_accident() -> None:
    import tomllib

    root = Path(__file__).resolve().parent.parent
    declared = tomllib.loads((root / "Spacefile").read_text(encoding="utf-8"))["api"]["endpoints"]
    demo = page.build(Host())
    config = demo.get_config_file()
    public = {d.get("api_name") for d in config["dependencies"] if d.get("api_visibility", "public") == "public"}
    assert public == set(declared)
    assert demo.analytics_enabled is False
    options = page.launch_options()
    assert options["enable_monitoring"] is False and options["run_history"] is False and options["show_error"] is False


def test_the_page_names_no_other_server() -> None:
    head = page.launch_options()["head"]
    assert "http://" not in head and "https://" not in head


def test_the_server_is_closed_even_if_a_stream_ends_at_that_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    def meets_an_ending_stream(self: gr.Blocks, verbose: bool = True) -> None:
        raise asyncio.InvalidStateError

    with GuardedBlocks() as demo:
        pass
    closed: list[bool] = []
    demo.server = SimpleNamespace(close=lambda: closed.append(True))
    monkeypatch.setattr(gr.Blocks, "close", meets_an_ending_stream)
    demo.close()
    assert closed == [True]
