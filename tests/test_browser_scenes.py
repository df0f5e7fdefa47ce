"""Scenes in a real browser: a new one, one composed by mouse, keyboard and touch, and a word that is not known."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser import DONE, text
from tests.test_axe import serious

CHIPS = "#ask-examples .exs-chip"
ITEMS = ".cps-stage .cps-item"
FRESH = f"{DONE} && document.querySelector('#ask-answers [data-part=stale]').hidden"


def opened(page: Any) -> None:
    """Filled, and scrolled to: then its stage has the focus."""
    page.click("#ask-compose")
    page.wait_for_selector(".cps-palette [data-sticker=dog]", timeout=60_000)
    page.wait_for_selector(".cps-stage:focus", timeout=60_000)


def another(see: Any, before: str) -> None:
    """Until the canvas shows another picture than before, with its three questions."""
    see.until(f"document.querySelector('#ask-grid .tg').dataset.media !== '{before}'", 60_000)
    see.until(f"document.querySelectorAll('{CHIPS}').length === 3")


def percent(page: Any, number: int, side: str) -> float:
    return float(page.eval_on_selector(f"{ITEMS} >> nth={number}", f"(node) => node.style.{side}")[:-1])


def test_a_new_scene_brings_questions_that_are_answered(visit: Any) -> None:
    see = visit()
    page = see.open()
    before = see.data("media")
    page.click("#ask-new-scene")
    another(see, before)
    assert "another picture" in text(page, "#ask-answers [data-part=stale]")
    assert page.locator("#ask-examples [aria-pressed=true]").count() == 0
    question = page.inner_text(f"{CHIPS} >> nth=1")
    page.click(f"{CHIPS} >> nth=1")
    see.until(FRESH)
    assert page.input_value("#ask-question textarea") == question
    assert text(page, "#ask-answers [data-card=full] [data-part=text]")
    assert "only knows sticker scenes" not in text(page, "#ask-answers [data-part=notices]")
    page.click("#ask-examples [data-example=penguins]")
    see.until(f"{FRESH} && document.querySelector('{CHIPS}').textContent.includes('fish')")


def test_two_stickers_are_composed_used_and_asked_about(visit: Any) -> None:
    see = visit()
    page = see.open()
    before = see.data("media")
    opened(page)
    assert page.is_disabled(".cps-use") and "Nothing here yet" in text(page, ".cps-hint")
    page.click(".cps-palette [data-sticker=dog]")
    page.click(".cps-colours label >> text=green")
    page.fill(".cps [data-part=find]", "automob")
    assert page.locator(".cps-palette button:visible").count() == 1
    page.click(".cps-palette button:visible")
    assert page.locator(ITEMS).count() == 2
    assert "green car" in page.get_attribute(f"{ITEMS} >> nth=1", "aria-label")
    page.select_option(".cps [data-part=background]", "meadow")
    page.click(".cps-use")
    another(see, before)
    page.fill("#ask-question textarea", "What color is the automobile?")
    page.press("#ask-question textarea", "Enter")
    see.until(FRESH)
    assert text(page, "#ask-answers [data-card=full] [data-part=text]") == "green"


def test_the_keyboard_moves_sizes_and_removes(visit: Any) -> None:
    see = visit()
    page = see.open()
    opened(page)
    page.focus(".cps-palette [data-sticker=bee]")
    page.keyboard.press("Enter")
    page.focus(f"{ITEMS} >> nth=0")
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowLeft"):
        page.keyboard.press(key)
    assert (percent(page, 0, "left"), percent(page, 0, "top")) == pytest.approx((44, 48), abs=0.01)
    wide = percent(page, 0, "width")
    page.keyboard.press("+")
    assert percent(page, 0, "width") > wide
    page.keyboard.press("-")
    assert percent(page, 0, "width") == pytest.approx(wide, abs=0.01)
    assert "44 % from the left" in page.get_attribute(f"{ITEMS} >> nth=0", "aria-label")
    page.keyboard.press("Delete")
    assert page.locator(ITEMS).count() == 0 and text(page, ".cps-status") == "Removed bee."
    assert page.is_disabled(".cps-use")


def test_a_mouse_drags_and_a_click_places_another(visit: Any) -> None:
    see = visit()
    page = see.open()
    opened(page)
    page.click(".cps-palette [data-sticker=egg]")
    page.locator(".cps-stage").scroll_into_view_if_needed()
    box = page.locator(".cps-stage").bounding_box()
    at = lambda x, y: (box["x"] + box["width"] * x, box["y"] + box["height"] * y)  # noqa: E731
    page.mouse.move(*at(0.5, 0.5))
    page.mouse.down()
    for step in range(1, 11):
        page.mouse.move(*at(0.5 + 0.03 * step, 0.5 - 0.02 * step))
    page.mouse.up()
    assert (percent(page, 0, "left"), percent(page, 0, "top")) == pytest.approx((80, 30), abs=1)
    page.mouse.click(*at(0.25, 0.75))
    assert page.locator(ITEMS).count() == 2
    assert (percent(page, 1, "left"), percent(page, 1, "top")) == pytest.approx((25, 75), abs=1)
    for _ in range(16):
        page.click(".cps-palette [data-sticker=egg]")
    assert page.locator(ITEMS).count() == 16 and "holds 16" in text(page, ".cps-status")


@pytest.mark.parametrize("look", ["light", "dark"])
def test_a_phone_composes_by_touch(visit: Any, look: str) -> None:
    see = visit(width=390, height=844, look=look)
    page = see.open(f"?__theme={look}")
    opened(page)
    page.click(".cps-palette [data-sticker=key]")
    page.locator(".cps-stage").scroll_into_view_if_needed()
    box = page.locator(".cps-stage").bounding_box()
    touch = page.context.new_cdp_session(page)

    def finger(kind: str, *place: float) -> None:
        points = [{"x": box["x"] + box["width"] * place[0], "y": box["y"] + box["height"] * place[1]}] if place else []
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    finger("touchStart", 0.5, 0.5)
    for step in range(1, 6):
        finger("touchMove", 0.5 - 0.05 * step, 0.5 + 0.05 * step)
    finger("touchEnd")
    assert (percent(page, 0, "left"), percent(page, 0, "top")) == pytest.approx((25, 75), abs=2)
    page.click("#ask-knows button")
    page.wait_for_selector(".knows dl", state="visible")
    page.wait_for_timeout(900)  # the fade of Gradio's blocks, during which contrast is not what it will be
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert serious(page) == []


def test_an_unknown_word_is_answered_by_the_page(visit: Any) -> None:
    see = visit()
    page = see.open()
    page.fill("#ask-question textarea", "is there a giraffe?")
    page.click("#ask-run")
    see.until("document.querySelector('#ask-answers .ans').dataset.declined === 'true'")
    assert text(page, "#ask-answers [data-card=pruned] [data-part=text]") == 'I do not know the word "giraffe".'
    assert not page.is_visible("#ask-answers [data-card=full]")
    assert "no tokens were generated" in text(page, "#ask-answers [data-part=status]")
    page.click("#ask-answers [data-part=notices] summary")
    assert "penguin" in text(page, "#ask-answers [data-part=notices] p")
    page.fill("#ask-question textarea", "is there an apple?")
    page.click("#ask-run")
    see.until(f"{FRESH} && document.querySelector('#ask-answers .ans').dataset.declined === 'false'")
    assert page.is_visible("#ask-answers [data-card=full]")


def test_scenes_are_gone_with_another_model(visit: Any) -> None:
    see = visit()
    page = see.open()
    assert page.is_visible("#ask-new-scene") and page.is_visible("#ask-knows")
    page.click("#ask-model input")
    page.click("[role=option] >> text=LLaVA-NeXT >> nth=0")
    page.wait_for_selector("#ask-new-scene", state="hidden")
    assert not page.is_visible("#ask-composer-panel") and not page.is_visible("#ask-knows")
