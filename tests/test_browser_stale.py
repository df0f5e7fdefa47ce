"""When answers call themselves out of date in a real browser: another question, model or budget, and when not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from script_core.engine import Engine
from script_core.report import Text
from tests.browser import DONE

STALE = "document.querySelector('#ask-answers [data-part=stale]')"
GRID = "document.querySelector('#ask-grid .tg')"


def choose(page: Any, part: str, title: str) -> None:
    page.click(f"{part} input")
    page.click(f"[role=option] >> text={title}")


def slide(page: Any, part: str, value: int) -> None:
    page.eval_on_selector(
        f"{part} input[type=range]",
        "(input, value) => { input.value = value; input.dispatchEvent(new Event('input', { bubbles: true })); }",
        value,
    )


def test_a_question_edited_while_it_is_answered_is_another_one(visit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    see = visit()
    page = see.open()
    real, edited = Engine.stream, threading.Event()

    def patient(self: Any, *given: Any, **options: Any) -> Iterator[Any]:
        for event in real(self, *given, **options):
            yield event
            if isinstance(event, Text):
                assert edited.wait(60)

    monkeypatch.setattr(Engine, "stream", patient)
    page.click("#ask-run")
    see.until("document.querySelector('#ask-answers .ans').dataset.state === 'running'")
    page.fill("#ask-question textarea", "is there a dog ?")
    edited.set()
    see.until(DONE)
    see.until(f"{STALE}.textContent.includes('another question')")
    page.fill("#ask-question textarea", " is there  an apple ? ")
    see.until(f"{STALE}.hidden")


def test_answers_of_another_model_say_so(visit: Any) -> None:
    see = visit()
    page = see.open()
    choose(page, "#ask-model", "Stickers, 2,880 tokens")
    see.until(f"{GRID}.dataset.total === '2880'", timeout=60_000)
    see.until(f"{STALE}.textContent.includes('another model')")
    page.click("#ask-run")
    see.until(f"{DONE} && {STALE}.hidden", timeout=120_000)
    choose(page, "#ask-model", "Stickers, 576 tokens")
    see.until(f"{GRID}.dataset.total === '576' && {STALE}.textContent.includes('another model')", timeout=60_000)


def test_without_pruning_no_budget_is_another_one(visit: Any) -> None:
    see = visit()
    page = see.open()
    choose(page, "#ask-method", "Full (no pruning)")
    see.until(f"{GRID}.dataset.method === 'full'")
    page.click("#ask-run")
    see.until(f"{DONE} && document.querySelector('#ask-answers [data-part=title]').textContent.includes('576')")
    assert page.evaluate(f"{STALE}.hidden"), page.evaluate(f"{STALE}.textContent")
    slide(page, "#ask-budget", 65)
    see.until(f"{GRID}.dataset.version !== ''")
    assert page.evaluate(f"{STALE}.hidden"), page.evaluate(f"{STALE}.textContent")


def test_without_pruning_a_videos_budget_asks_for_nothing(visit: Any) -> None:
    see = visit()
    page = see.page
    page.goto(f"{see.address}?tab=video&v_method=full")
    answers = "document.querySelector('#video-answers .ans')"
    see.until(f"{answers}?.dataset.state === 'done'", timeout=240_000)
    assert page.evaluate(f"{answers}.dataset.stale") == "false"
    page.evaluate("""() => {
        const grid = ScriptGrid.get('video-grid');
        window.asked = 0;
        grid.recompute = () => { window.asked++; };
    }""")
    slide(page, "#video-each", 33)
    assert page.evaluate(f"[window.asked, {answers}.dataset.stale]") == [0, "false"]


def test_the_canvas_follows_the_model_there_and_back(visit: Any) -> None:
    see = visit()
    page = see.open()
    for title, total in (("Stickers, 2,880 tokens", 2880), ("Stickers, 576 tokens", 576)) * 2:
        choose(page, "#ask-model", title)
        see.until(
            f"{GRID}.dataset.total === '{total}' && document.querySelector('#ask-budget input').max === '{total}'"
        )
