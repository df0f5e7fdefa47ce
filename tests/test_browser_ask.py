# ruff: noqa: F811 (fixtures are imported and then named as arguments)
"""The Ask tab in a real browser, from an open page to a stopped stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.browser import chrome, served, visit  # noqa: F401
from ui.examples import examples

DONE = "document.querySelector('#ask-answers .ans').dataset.state === 'done'"


def text(page: Any, selector: str) -> str:
    return page.inner_text(selector).strip()


def set_range(page: Any, selector: str, value: float) -> None:
    page.eval_on_selector(
        f"{selector} input[type=range]",
        """(input, value) => {
            Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(input, value);
            input.dispatchEvent(new Event('input', { bubbles: true }));
        }""",
        value,
    )


def drag(page: Any, selector: str, start: float, end: float) -> float:
    """Drag a slider's thumb with the mouse, in many small moves; returns the slider's final value."""
    slider = page.locator(f"{selector} input[type=range]")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    at = lambda share: (box["x"] + 8 + (box["width"] - 16) * share, box["y"] + box["height"] / 2)  # noqa: E731
    page.mouse.move(*at(start))
    page.mouse.down()
    for step in range(25):
        page.mouse.move(*at(start + (end - start) * (step + 1) / 25))
    page.mouse.up()
    return float(slider.input_value())


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


@pytest.mark.parametrize(("slider", "attribute", "start", "end"), [
    ("#ask-budget", "budget", 0.11, 0.62), ("#ask-tau", "tau", 0.5, 0.83), ("#ask-gamma", "gamma", 0.1, 0.47),
])  # fmt: skip
def test_after_a_drag_the_overlay_is_for_the_final_value(
    visit: Any, slider: str, attribute: str, start: float, end: float
) -> None:
    see = visit()
    page = see.open()
    final = drag(page, slider, start, end)
    see.until(f"Number(document.querySelector('#ask-grid .tg').dataset.{attribute}) === {final}")
    page.wait_for_timeout(600)  # whatever was still on its way has arrived
    assert float(see.data(attribute)) == final
    if attribute == "budget":
        assert float(see.data("kept")) == final
    see.until("!document.querySelector('#ask-answers [data-part=stale]').hidden")
    assert "press Ask to update" in text(page, "#ask-answers [data-part=stale]")


KEPT = """([value, budgets]) => {
    const data = ScriptCore.decode(value);
    return budgets.map((budget) => {
        const { mask } = ScriptCore.keep(data, budget);
        return [...mask.keys()].filter((i) => mask[i]);
    });
}"""


@pytest.mark.parametrize(("model", "budgets"), [
    ("stickers", [1, 2, 31, 64, 288, 289, 400, 575, 576]), ("stickers-anyres", [1, 4, 7, 320, 1441, 2700, 2880]),
])  # fmt: skip
def test_the_browser_keeps_what_python_keeps(visit: Any, served: Any, model: str, budgets: list[int]) -> None:
    from script_core.pruners import PRUNERS
    from ui.tokengrid import payload

    page = visit().open()
    engine = served.host.engine(model)
    encoded = engine.encode(str(examples()[3].path))
    question = "is there a bus ?"
    cases = [("script", {"p": 0.5}), ("script", {"p": 0.3313}), ("qcsp", {}), ("gsp", {}), ("random", {})]
    if model == "stickers":
        cases += [(method, {**options, "scope": "global"}) for method, options in cases]
    for method, options in cases:
        pruner = PRUNERS[method](**options)
        value = payload(engine.select(encoded, question, pruner=pruner, budget=9), pruner, [], asked={})
        assert "walk" in value, f"{method} should let the browser move the budget"
        kept = page.evaluate(KEPT, [value, budgets])
        for budget, ours in zip(budgets, kept, strict=True):
            theirs = engine.select(encoded, question, pruner=pruner, budget=budget).selection.kept
            assert ours == theirs.tolist(), (method, options, budget)


def test_a_method_without_nested_budgets_asks_the_server(visit: Any) -> None:
    see = visit()
    page = see.open()
    page.click("#ask-method input")
    page.click("[role=option] >> text=Uniform")
    see.until("document.querySelector('#ask-grid .tg').dataset.method === 'uniform'")
    set_range(page, "#ask-budget", 100)
    see.until("document.querySelector('#ask-grid .tg').dataset.kept === '100'")


def test_hover_and_keys_explain_a_token(visit: Any) -> None:
    see = visit()
    page = see.open()
    canvas = page.locator("#ask-grid [data-part=canvas]")
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    see.until("Number(document.querySelector('#ask-grid .tg').dataset.cur) >= 0")
    hovered = int(see.data("cur"))
    place = f"Row {hovered // 24 + 1}, column {hovered % 24 + 1}"
    assert text(page, "#ask-grid [data-part=where]") == f"Token {hovered}: {place}"
    numbers = text(page, "#ask-grid [data-part=numbers]")
    assert "relevance" in numbers and "redundancy" in numbers and "pick" in numbers
    assert text(page, "#ask-grid [data-part=why]").startswith(("Kept", "Dropped"))
    page.mouse.move(5, 5)
    canvas.focus()
    page.keyboard.press("Home")
    assert see.data("cur") == "0"
    page.keyboard.press("ArrowDown")
    assert see.data("cur") == "24"
    page.keyboard.press("ArrowRight")
    assert see.data("cur") == "25"
    page.keyboard.press("End")
    assert see.data("cur") == "575"
    page.keyboard.press("ArrowRight")
    assert see.data("cur") == "575", "the edge is the edge"
    page.keyboard.press("r")
    assert see.data("layer") == "relevance"
    budget = int(see.data("budget"))
    page.keyboard.press("]")
    see.until(f"Number(document.querySelector('#ask-grid .tg').dataset.budget) > {budget}")
    page.keyboard.press("Escape")
    assert see.data("cur") == "-1"


def test_every_layer_paints_something_else(visit: Any) -> None:
    see = visit()
    page = see.open()
    shots = set()
    for layer in ("retained", "relevance", "redundancy", "original"):
        page.click(f"#ask-grid button[data-layer={layer}]")
        see.until(f"document.querySelector('#ask-grid .tg').dataset.layer === '{layer}'")
        page.wait_for_timeout(80)
        shots.add(page.eval_on_selector("#ask-grid [data-part=canvas]", "(c) => c.toDataURL()"))
    assert len(shots) == 4


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
    assert page.input_value("#ask-question textarea") == "what colour is the heart ?"
