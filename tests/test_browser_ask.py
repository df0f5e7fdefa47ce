"""The Ask tab in a real browser, from an open page to a stopped stream: questions, uploads, phones, and links."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.browser import DONE, text
from ui.examples import examples


def upload(page: Any, path: Path) -> None:
    remove = page.locator("#ask-media button[aria-label='Clear'], #ask-media button[title='Clear']")
    if remove.count():
        remove.first.click()
    page.set_input_files("#ask-media input[type=file]", str(path))


def test_opens_on_an_answered_example(visit: Any) -> None:
    see = visit()
    page = see.open()
    assert page.title() == "Script: visual token pruning"
    assert text(page, "#ask-answers [data-card=pruned] [data-part=text]")
    assert text(page, "#ask-answers [data-card=full] [data-part=text]")
    assert see.data("kept") == "64" and see.data("total") == "576"
    assert "64 of 576 tokens kept" in text(page, "#ask-grid [data-part=summary]")
    assert "live at server start" in text(page, "#ask-answers [data-part=status]")
    assert page.locator("#ask-counters .cnt-row").count() == 5
    assert page.input_value("#ask-question textarea") == examples()[0].question
    answers = page.locator("#ask-answers").bounding_box()
    assert answers["y"] + answers["height"] < 768, "the answers are below the fold"


def test_uploads_a_picture_and_asks(visit: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    picture = tmp_path / "mine.png"
    Image.fromarray(rng.integers(0, 255, (200, 320, 3), dtype=np.uint8)).save(picture)
    see = visit()
    page = see.open()
    before = see.data("media")
    upload(page, picture)
    see.until(f"document.querySelector('#ask-grid .tg').dataset.media !== '{before}'")
    see.until("!document.querySelector('#ask-answers [data-part=stale]').hidden")
    assert "another picture" in text(page, "#ask-answers [data-part=stale]")
    page.fill("#ask-question textarea", "how many stars are there ?")
    page.press("#ask-question textarea", "Enter")
    see.until(f"{DONE} && document.querySelector('#ask-answers [data-part=stale]').hidden")
    assert text(page, "#ask-answers [data-card=pruned] [data-part=text]")
    assert text(page, "#ask-answers [data-card=full] [data-part=text]")
    assert "only knows sticker scenes" in text(page, "#ask-answers [data-part=notices]")
    assert text(page, "#ask-answers [data-part=verdict]") in ("\u2713 same answer", "\u2260 different answer")


def test_an_example_is_one_click(visit: Any) -> None:
    see = visit()
    page = see.open()
    page.click("#ask-examples [data-example=penguins]")
    see.until(f"{DONE} && document.querySelector('#ask-question textarea').value.includes('fish')")
    see.until("document.querySelector('[data-example=penguins]').getAttribute('aria-pressed') === 'true'")
    page.click("#ask-examples .exs-chip >> text=where is the fish ?")
    see.until(f"{DONE} && document.querySelector('#ask-question textarea').value === 'where is the fish ?'")


def test_stop_ends_a_stream(visit: Any, served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from script_core.engine import Engine
    from script_core.report import Text

    real = Engine.stream

    def slow(self: Any, *args: Any, **options: Any) -> Any:
        import threading

        for event in real(self, *args, **options):
            if isinstance(event, Text):
                for count in range(200):
                    threading.Event().wait(0.05)
                    yield Text("word " * (count + 1), event.token_id, count + 1)
            yield event

    see = visit()
    page = see.open()
    monkeypatch.setattr(Engine, "stream", slow)
    page.click("#ask-run")
    see.until("document.querySelector('[data-card=pruned] [data-part=text]').textContent.includes('word word')")
    page.click("#ask-stop")
    see.until("document.querySelector('#ask-answers .ans').dataset.state === 'stopped'")
    said = text(page, "#ask-answers [data-card=pruned] [data-part=text]")
    page.wait_for_timeout(500)
    assert text(page, "#ask-answers [data-card=pruned] [data-part=text]") == said
    assert page.is_disabled("#ask-stop")
    monkeypatch.undo()
    page.click("#ask-run")
    see.until(DONE)


def _broken(folder: Path) -> dict[str, tuple[Path, str]]:
    words = folder / "words.png"
    words.write_text("this is not a picture")
    whole = folder / "whole.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(whole)
    cut = folder / "cut.png"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    dot = folder / "dot.png"
    Image.new("RGB", (1, 1)).save(dot)
    return {"words": (words, "PNG, JPEG, WebP"), "cut": (cut, "damaged or cut short"), "dot": (dot, "1x1")}


@pytest.mark.parametrize("kind", ["words", "cut", "dot"])
def test_a_bad_upload_gets_a_sentence_and_loses_nothing(visit: Any, tmp_path: Path, kind: str) -> None:
    path, expected = _broken(tmp_path)[kind]
    see = visit()
    page = see.open()
    page.fill("#ask-question textarea", "is there a dog ?")
    upload(page, path)
    see.until("document.querySelector('#ask-media-note .note')")
    assert expected in text(page, "#ask-media-note .note")
    assert page.input_value("#ask-question textarea") == "is there a dog ?"
    page.click("#ask-run")
    see.until("document.querySelector('#ask-answers .ans').dataset.state === 'failed'")
    assert expected in text(page, "#ask-media-note .note")
    assert "Traceback" not in page.content()
    page.click("#ask-examples [data-example=street]")
    see.until(DONE)
    see.errors = [error for error in see.errors if "Failed to load resource" not in error]


@pytest.mark.parametrize(("question", "expected"), [
    ("   ", "Type a question"), ("why?" * 25_000, "100,000 characters"),
])  # fmt: skip
def test_a_bad_question_gets_a_sentence_beside_it(visit: Any, question: str, expected: str) -> None:
    see = visit()
    page = see.open()
    page.fill("#ask-question textarea", question)
    page.click("#ask-run")
    see.until("document.querySelector('#ask-question-note .note')")
    assert expected in text(page, "#ask-question-note .note")
    assert page.input_value("#ask-question textarea") == question


def test_other_scripts_and_emoji_are_answered(visit: Any) -> None:
    see = visit()
    page = see.open()
    page.fill("#ask-question textarea", "\u00bfd\u00f3nde est\u00e1 \u732b \U0001f600 <img src=x onerror=alert(1)> ?")
    page.click("#ask-run")
    see.until(DONE)
    assert page.locator("#ask-answers img").count() == 0


@pytest.mark.parametrize("look", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(visit: Any, look: str) -> None:
    see = visit(width=390, height=844, look=look)
    page = see.open()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    names = ("media", "question", "run", "grid", "budget", "answers")
    order = [page.locator(f"#ask-{name}").bounding_box()["y"] for name in names]
    assert order == sorted(order)
    page.goto(see.address + "?tab=about")
    page.wait_for_selector(".about h2")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_link_restores_settings(visit: Any) -> None:
    see = visit()
    page = see.open("?example=night&budget=40&tau=0.33&gamma=2.5")
    see.until("document.querySelector('#ask-grid .tg').dataset.budget === '40'")
    assert see.data("tau") == "0.33" and see.data("gamma") == "2.5" and see.data("kept") == "40"
    assert page.input_value("#ask-question textarea") == "what colour is the gift ?"
