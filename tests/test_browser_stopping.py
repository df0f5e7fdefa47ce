"""Streams that are cut short in a real browser: by Stop, by another picture, scene or clip, and by another example."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from script_core.engine import Engine
from script_core.report import Text
from tests import clips as files
from tests.tiny import picture
from ui import benchmark_check

ASK = "document.querySelector('#ask-answers .ans')"
VIDEO = "document.querySelector('#video-answers .ans')"
COMPARE = "#compare-grid .cmp"
SAID = "[data-card=pruned] [data-part=text]"


class Talk:
    """Answers that go on, repeating their question, until somebody ends them."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.begun = 0
        self.closed = threading.Semaphore(0)

    def told(self, question: str) -> Iterator[Text]:
        self.begun += 1
        try:
            for count in itertools.takewhile(lambda _: not self.over.wait(0.02), itertools.count(1)):
                yield Text(f"{question} " * count, 0, count)
        finally:
            self.closed.release()


@pytest.fixture
def talk(visit: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Talk]:
    visit().open()  # on an answer that has come to its end
    talk, real = Talk(), Engine.stream

    def endless(self: Any, media: Any, question: str, **options: Any) -> Iterator[Any]:
        for event in real(self, media, question, **options):
            if isinstance(event, Text) and not talk.over.is_set():
                yield from talk.told(question)
            yield event

    monkeypatch.setattr(Engine, "stream", endless)
    yield talk
    talk.over.set()


def says(see: Any, word: str, tab: str = "ask") -> None:
    see.until(f"document.querySelector('#{tab}-answers {SAID}')?.textContent.includes('{word}')", timeout=120_000)


def halted(see: Any, talk: Talk, answers: str, stop: str) -> None:
    """The stream has ended, on the page and on the server, and the page goes on saying so."""
    see.until(f"{answers}.dataset.state === 'stopped' && document.querySelector('{stop}').disabled", timeout=60_000)
    assert talk.closed.acquire(timeout=60)
    assert see.page.evaluate(f"{answers}.dataset.state") == "stopped"
    assert see.page.evaluate(f"{answers}.querySelector('[data-part=status]').textContent") == "Stopped."


def upload(page: Any, folder: Path) -> None:
    Image.fromarray(picture(90, 70)).save(folder / "mine.png")
    page.set_input_files("#ask-media input[type=file]", str(folder / "mine.png"))


def clear(page: Any, _: Path) -> None:
    page.click("#ask-media button[aria-label='Remove Image']")


def new_scene(page: Any, _: Path) -> None:
    page.click("#ask-new-scene")


def composed(page: Any, _: Path) -> None:
    page.click(".cps-palette [data-sticker=dog]")
    page.click(".cps-use")


@pytest.mark.parametrize("replace", [upload, clear, new_scene, composed])
def test_another_picture_ends_an_answer_and_says_so(
    visit: Any, talk: Talk, tmp_path: Path, replace: Callable[[Any, Path], None]
) -> None:
    see = visit()
    page = see.open()
    if replace is composed:
        page.click("#ask-compose")
        page.wait_for_selector(".cps-palette [data-sticker=dog]", timeout=60_000)
        page.wait_for_selector(".cps-stage:focus", timeout=60_000)
    page.click("#ask-run")
    says(see, "apple ? is there")
    replace(page, tmp_path)
    halted(see, talk, ASK, "#ask-stop")
    if replace is not clear:
        see.until(f"{ASK}.querySelector('[data-part=stale]').textContent.includes('another picture')")


def test_another_picture_leaves_a_finished_answer_as_it_is(visit: Any, tmp_path: Path) -> None:
    see = visit()
    page = see.open()
    status = page.inner_text("#ask-answers [data-part=status]")
    upload(page, tmp_path)
    see.until(f"{ASK}.querySelector('[data-part=stale]').textContent.includes('another picture')")
    assert page.evaluate(f"{ASK}.dataset.state") == "done"
    assert page.inner_text("#ask-answers [data-part=status]") == status


def test_a_question_that_still_waits_is_not_waited_for_after_another_picture(
    visit: Any, talk: Talk, tmp_path: Path
) -> None:
    first, second = visit(), visit()
    first.open()
    second.open()
    first.page.click("#ask-run")
    says(first, "apple ? is there")
    second.page.click("#ask-run")
    assert second.page.evaluate(f"{ASK}.dataset.state") == "waiting"
    clear(second.page, tmp_path)
    second.until(f"{ASK}.dataset.state === 'stopped'")
    assert first.page.evaluate(f"{ASK}.dataset.state") == "running" and talk.begun == 1


def test_another_example_is_answered_instead_and_can_be_stopped(visit: Any, talk: Talk) -> None:
    see = visit()
    page = see.open()
    page.click("#ask-run")
    says(see, "apple ? is there")
    for example, word in (("penguins", "fish"), ("night", "gift")):
        page.click(f"#ask-examples [data-example={example}]")
        says(see, word)
        assert talk.closed.acquire(timeout=60), "the answer before has ended"
        see.until(f"{ASK}.dataset.state === 'running' && !document.querySelector('#ask-stop').disabled")
    page.click("#ask-stop")
    halted(see, talk, ASK, "#ask-stop")


@pytest.mark.parametrize("way", ["upload", "clear"])
def test_another_clip_ends_an_answer_and_says_so(visit: Any, talk: Talk, tmp_path: Path, way: str) -> None:
    see = visit()
    page = see.page
    page.goto(f"{see.address}?tab=video&v_example=drive")
    says(see, "?", "video")
    page.click("#video-media button[aria-label='Clear'], #video-media button[title='Clear']")
    if way == "upload":
        clip = files.write(tmp_path / "mine.webm", frames=12)
        page.set_input_files("#video-media input[type=file]", str(clip))
    halted(see, talk, VIDEO, "#video-stop")


def test_an_update_on_its_way_does_not_undo_the_stop_of_a_comparison(visit: Any, talk: Talk) -> None:
    see = visit()
    page = see.page
    page.goto(f"{see.address}?tab=compare&c_methods=random,uniform&c_budget=64&c_answer_tokens=3")
    see.until(f"document.querySelector('{COMPARE} [data-part=full]')?.textContent.includes('? is')", timeout=120_000)
    page.click("#compare-stop")
    see.until(f"document.querySelector('{COMPARE}').dataset.state === 'stopped'", timeout=60_000)
    assert talk.closed.acquire(timeout=60)
    assert page.get_attribute(COMPARE, "data-state") == "stopped" and page.is_disabled("#compare-stop")


def test_an_update_on_its_way_does_not_undo_the_stop_of_a_check(visit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real, over, closed = benchmark_check.answers, threading.Event(), threading.Event()

    def endless(*given: Any) -> Iterator[Any]:
        try:
            for at in real(*given):
                while not over.wait(0.02) and at.answered > 2:
                    yield at
                yield at
        finally:
            closed.set()

    monkeypatch.setattr(benchmark_check, "answers", endless)
    monkeypatch.setattr(benchmark_check, "REDRAW", -1.0)
    see = visit()
    page = see.page
    page.goto(f"{see.address}?tab=benchmark")
    page.click("#bench-quick button", timeout=120_000)
    page.click("#bench-run")
    try:
        page.wait_for_function("!document.querySelector('#bench-stop').disabled", timeout=120_000)
        see.until("document.querySelector('#bench-progress').innerText.includes('3 of')", timeout=120_000)
        page.click("#bench-stop")
        stopped = "document.querySelector('#bench-progress').innerText.includes('Stopped')"
        see.until(stopped, timeout=60_000)
        assert closed.wait(60)
        assert page.evaluate(stopped) and page.is_disabled("#bench-stop")
    finally:
        over.set()
