"""The token canvas in a real browser: sliders, budgets kept as Python keeps them, hover and keys, layers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser import text
from ui.examples import examples


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


def test_a_mark_goes_with_the_tokens_that_it_was_on(visit: Any, served: Any) -> None:
    from script_core.pruners import PRUNERS
    from ui.tokengrid import payload

    page = visit().open()
    pruner = PRUNERS["script"]()
    values = [
        payload(
            engine.select(str(examples()[0].path), "is there an egg ?", pruner=pruner, budget=9), pruner, [], asked={}
        )
        for engine in map(served.host.engine, ("stickers-anyres", "stickers"))
    ]
    marks = page.evaluate(
        """([fine, coarse]) => {
            const grid = ScriptGrid.get('ask-grid');
            return [fine, fine, coarse].map((value, at) => {
                grid.receive(value);
                const found = grid.token;
                if (at === 0) grid.mark(value.n - 1, 'key');
                return found;
            });
        }""",
        values,
    )
    assert marks == [-1, 2879, -1]


@pytest.mark.parametrize("method", ["trim", "visionzip"])
def test_a_method_may_keep_no_token_that_has_a_place(visit: Any, served: Any, method: str) -> None:
    from script_core.pruners import PRUNERS
    from ui.tokengrid import payload

    page = visit().open()
    pruner = PRUNERS[method]()
    selected = served.host.engine().select(str(examples()[0].path), "is there an egg ?", pruner=pruner, budget=1)
    assert len(selected.selection.kept) == 0
    told = page.evaluate(
        """(value) => {
            ScriptGrid.get('ask-grid').receive(value);
            return document.querySelector('#ask-grid [data-part=summary]').textContent;
        }""",
        payload(selected, pruner, [], asked={}, set_budget=True),
    )
    assert told == "0 of 576 tokens kept (0 %)"


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
