"""The page by keyboard alone, without motion, and asked again with one click where memory ran out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from script_core.engine import Engine

PATIENCE = 240_000  # milliseconds; a comparison on a busy machine takes its time
FOCUS = """() => {
    const el = document.activeElement;
    const box = el.getBoundingClientRect();
    const style = getComputedStyle(el);
    return {
        ids: [...document.querySelectorAll('[id]')].filter((one) => one.contains(el)).map((one) => one.id),
        tag: el.tagName.toLowerCase(), type: el.type || '', role: el.getAttribute('role') || '',
        text: el.innerText || '', label: el.closest('label')?.innerText.trim() || '', area: box.width * box.height,
        ring: style.outlineStyle === 'none' ? 0 : parseFloat(style.outlineWidth),
    };
}"""
RUNNING = "document.getAnimations().filter((one) => one.playState === 'running').length"


def reach(page: Any, wanted: Callable[[dict[str, Any]], bool], most: int = 90) -> dict[str, Any]:
    """Press Tab until the focus is there; every stop on the way must be visible and have a ring."""
    for _ in range(most):
        page.keyboard.press("Tab")
        at: dict[str, Any] = page.evaluate(FOCUS)
        if at["tag"] != "body":
            assert at["ring"] >= 2 and at["area"] > 0, f"the focus cannot be seen: {at}"
        if wanted(at):
            return at
    raise AssertionError("Tab does not lead there")


def inside(part: str, **more: str) -> Callable[[dict[str, Any]], bool]:
    return lambda at: part in at["ids"] and all(at[name] == value for name, value in more.items())


def test_a_question_is_asked_and_explored_by_keyboard(visit: Any) -> None:
    see = visit()
    page = see.open()
    reach(page, inside("ask-question"))
    page.keyboard.press("Control+A")
    page.keyboard.type("is there a dog ?")
    page.keyboard.press("Enter")
    asked = "document.querySelector('#ask-answers .ans')"
    see.until(f"{asked}.dataset.state === 'running'", timeout=PATIENCE)
    see.until(f"{asked}.dataset.state === 'done' && {asked}.dataset.stale !== 'true'", timeout=PATIENCE)
    reach(page, inside("ask-method", role="combobox"))
    page.wait_for_selector("#ask-method ul[role=listbox] li")
    for key in ("ArrowDown", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    see.until("!['', 'Script'].includes(document.querySelector('#ask-method input').value)")
    see.until("document.querySelector('#ask-grid .tg').dataset.method !== 'script'", timeout=PATIENCE)
    reach(page, inside("ask-grid", role="radio"))
    before = see.data("layer")
    page.keyboard.press("ArrowRight")
    assert see.data("layer") != before
    reach(page, inside("ask-grid", tag="canvas"))
    assert "tg-empty" in str(page.get_attribute("#ask-grid .tg-card", "class"))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert "tg-empty" not in str(page.get_attribute("#ask-grid .tg-card", "class"))
    reach(page, inside("ask-budget", type="range"))
    page.keyboard.press("ArrowRight")
    see.until("document.querySelector('#ask-budget input[type=number]').value === '65'")
    reach(page, inside("ask-advanced", tag="button"))
    page.keyboard.press("Enter")
    page.wait_for_selector("#ask-flip", state="visible")


def test_a_comparison_is_run_and_explored_by_keyboard(visit: Any) -> None:
    see = visit()
    page = see.open()
    reach(page, lambda at: at["role"] == "tab" and at["text"] == "Compare")
    page.keyboard.press("Enter")
    table = "document.querySelector('#compare-grid .cmp')"
    see.until(f"{table}?.dataset.state === 'done'", timeout=PATIENCE)
    for title in ("CDPruner", "VisionZip", "FastV"):
        reach(page, inside("compare-methods", type="checkbox", label=title))
        page.keyboard.press("Space")
    reach(page, inside("compare-run", tag="button"))
    page.keyboard.press("Enter")
    cells = "[...document.querySelectorAll('#compare-grid .cmp-cell')].filter((one) => !one.hidden)"
    see.until(f"{table}.dataset.state === 'done' && {cells}.length === 3", timeout=PATIENCE)
    reach(page, inside("compare-grid", tag="canvas"))
    page.keyboard.press("ArrowRight")
    readout = "document.querySelector('#compare-grid .cmp-readout').textContent"
    see.until(f"{readout}.startsWith('Token') && {readout}.includes('Kept by')")
    sort = reach(page, lambda at: "compare-grid" in at["ids"] and at["tag"] == "button" and at["text"] == "Method")
    page.keyboard.press("Enter")
    assert sort["role"] == "" and page.get_attribute("#compare-grid th[aria-sort=ascending]", "scope") == "col"


def test_nothing_moves_for_people_who_asked_for_that(visit: Any) -> None:
    see = visit()
    page = see.open()
    page.evaluate("document.querySelector('#badge .badge').className = 'badge badge-loading'")
    assert page.evaluate(RUNNING) > 0, "otherwise nothing would be tested"
    page.emulate_media(reduced_motion="reduce")
    page.wait_for_function(f"{RUNNING} === 0")
    page.evaluate("document.querySelector('#ask-answers .ans-card').dataset.state = 'streaming'")
    after = "getComputedStyle(document.querySelector('#ask-answers .ans-text'), '::after').animationName"
    assert page.evaluate(after) == "none" and page.evaluate(RUNNING) == 0


@pytest.mark.parametrize("look", ["light", "dark"])
def test_out_of_memory_is_answered_by_one_click(
    look: str, visit: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    see = visit(look=look)
    page = see.open(f"?__theme={look}")
    stream, failures = Engine.stream, iter([torch.OutOfMemoryError("CUDA out of memory.")])

    def hungry(engine: Engine, *given: Any, **named: Any) -> Any:
        for problem in failures:
            raise problem
        return stream(engine, *given, **named)

    monkeypatch.setattr(Engine, "stream", hungry)
    page.click("#ask-run")
    again = page.wait_for_selector("#ask-question-note .note-again", timeout=PATIENCE)
    assert "not enough memory" in page.inner_text("#ask-question-note")
    assert again.inner_text() == "Ask again with 32 tokens"
    page.screenshot(path=tmp_path / f"memory-{look}.png")
    box = again.bounding_box()
    assert box and box["y"] + box["height"] < 768, "above the fold"
    again.click()
    shown = "document.querySelector('#ask-answers [data-card=pruned]').innerText"
    see.until(f"{shown}.includes('32 tokens')", timeout=PATIENCE)
    see.until("document.querySelector('#ask-answers .ans').dataset.state === 'done'", timeout=PATIENCE)
    assert page.input_value("#ask-budget input[type=number]") == "32"
    assert page.inner_text("#ask-question-note").strip() == ""
    # The Video tab's frames are a choice instead of a slider.
    page.evaluate(
        'document.body.insertAdjacentHTML(\'beforeend\', \'<button class="note-again" data-dial="video-frames" '
        'data-value="16" data-run="video-stop">less</button>\')'
    )
    page.evaluate("document.querySelector('body > .note-again').click()")
    checked = "document.querySelector('#video-frames input:checked')?.closest('label').innerText.trim()"
    assert page.evaluate(f"!document.querySelector('#video-frames') || {checked} === '16'")
