"""The Compare tab in a real browser: cells fill, one token is marked in all of them, files hold what is shown."""

from __future__ import annotations

import csv
import io
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

HOST = "#compare-grid .cmp"
DONE = f"document.querySelector('{HOST}')?.dataset.state === 'done'"


def show(see: Any, query: str = "") -> Any:
    """The page with the Compare tab open and filled."""
    see.page.goto(f"{see.address}?tab=compare&{query}")
    see.until(DONE, timeout=120_000)
    return see.page


def names(page: Any) -> list[str]:
    cells = page.locator(f"{HOST} .cmp-cell:visible")
    return [str(cells.nth(i).get_attribute("data-method")) for i in range(cells.count())]


def compare(see: Any, page: Any, button: str, method: str) -> None:
    """Press, and wait for a finished comparison that has this method in it."""
    page.click(button)
    see.until(f"document.querySelector('{HOST} .cmp-cell[data-method={method}]:not([hidden])')", timeout=120_000)
    see.until(DONE, timeout=120_000)


def choose(page: Any, *titles: str) -> None:
    """Check these methods and no others."""
    boxes = page.locator("#compare-methods label")
    for i in range(boxes.count()):
        box = boxes.nth(i).locator("input")
        if box.is_checked() != (boxes.nth(i).inner_text().strip() in titles):
            box.click()


def download(page: Any, part: str) -> Path:
    with page.expect_download() as waiting:
        page.click(f"{HOST} [data-part={part}]")
    return Path(waiting.value.path())


def test_a_comparison_fills_links_its_tokens_and_downloads(visit: Any) -> None:
    see = visit()
    page = show(see)
    assert names(page) == ["script", "cdpruner", "divprune", "visionzip", "fastv", "random"]

    choose(page, "Script", "CDPruner", "Random", "Full (no pruning)")
    compare(see, page, "#compare-run", "full")
    assert names(page) == ["script", "cdpruner", "random", "full"]
    cells = page.locator(f"{HOST} .cmp-cell:visible")
    full = page.inner_text(f"{HOST} [data-part=full]")
    assert full and full == page.inner_text(f"{HOST} [data-method=full] .cmp-answer")
    for i, kept in enumerate(("192", "192", "192", "576")):
        cell = cells.nth(i)
        assert cell.get_attribute("data-state") == "done"
        assert cell.locator(".tg").get_attribute("data-kept") == kept
        assert cell.locator(".cmp-figures > div").count() == 10
        assert "same answer" in cell.inner_text() or "different answer" in cell.inner_text()
    drawn = """(cells) => cells.map((cell) => { const c = cell.querySelector('[data-part=canvas]');
        return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.reduce((a, b) => a + b, 0); })"""
    sums = page.locator(f"{HOST} .cmp-cell:visible").evaluate_all(drawn)
    assert len(set(sums)) == 4, "each cell should show its own tokens"

    # Pointing at a token in one cell marks it in all; leaving marks none.
    canvas = cells.nth(1).locator("[data-part=canvas]")
    canvas.scroll_into_view_if_needed()
    canvas.hover(position={"x": 40, "y": 55})
    token = cells.nth(1).locator(".tg").get_attribute("data-cur")
    assert token is not None and int(token) > 24
    marked = page.locator(f"{HOST} .cmp-cell:visible .tg").evaluate_all("all => all.map((one) => one.dataset.cur)")
    assert marked == [token] * 4
    assert f"Token {token}," in page.inner_text(f"{HOST} [data-part=readout]")
    assert "Full (no pruning)" in page.inner_text(f"{HOST} [data-part=readout]").split("Dropped by")[0]
    page.mouse.move(2, 2)
    see.until(
        f"[...document.querySelectorAll('{HOST} .cmp-cell:not([hidden]) .tg')].every((t) => t.dataset.cur === '-1')"
    )
    # The same from the keyboard.
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    marked = page.locator(f"{HOST} .cmp-cell:visible .tg").evaluate_all("all => all.map((one) => one.dataset.cur)")
    assert marked == ["24"] * 4

    # The CSV holds what the cells show.
    rows = list(csv.DictReader(io.StringIO(download(page, "csv").read_text(encoding="utf-8-sig"))))
    assert [row["method"] for row in rows] == ["script", "cdpruner", "random", "full"]
    assert all(row["question"] == "is there an apple ?" and row["budget"] == "192" for row in rows)
    assert [len(row["kept_tokens"].split()) for row in rows] == [192, 192, 192, 576]
    assert rows[3]["kl_first"] == "0" and rows[3]["text"] == full and float(rows[0]["kl_answer"]) >= 0
    with Image.open(download(page, "png")) as picture:
        assert picture.format == "PNG" and picture.width > 2000 and len(picture.getcolors(1 << 24) or ()) > 500

    # Any figure sorts cells and table alike.
    page.click(f"{HOST} [data-sort=kl_first]")
    wanted = [row["method"] for row in sorted(rows, key=lambda row: float(row["kl_first"]))]
    assert names(page) == wanted
    assert page.get_attribute(f"{HOST} th:has([data-sort=kl_first])", "aria-sort") == "ascending"
    page.click(f"{HOST} [data-sort=kl_first]")
    ranked = page.locator(f"{HOST} [data-part=table] tbody tr").evaluate_all(
        "all => all.map((row) => row.dataset.method)"
    )
    assert ranked == names(page) and ranked[-1] == "full"


def test_a_link_restores_the_comparison(visit: Any) -> None:
    see = visit()
    page = show(
        see, "c_methods=fastv,random&c_budget=64&c_example=penguins&c_question=is+there+a+fish&c_answer_tokens=5"
    )
    assert page.get_by_role("tab", name="Compare").get_attribute("aria-selected") == "true"
    assert names(page) == ["fastv", "random"]
    assert page.input_value("#compare-question textarea") == "is there a fish"
    assert page.input_value("#compare-budget input[type=number]") == "64"
    reason = page.inner_text(f"{HOST} [data-method=fastv] .cmp-reason")
    assert reason.startswith("FastV cannot average 64 visual tokens")
    page.click(f"{HOST} [data-part=link]")
    see.until(f"document.querySelector('{HOST} [data-part=url]').value.includes('c_budget=64')")
    again = page.input_value(f"{HOST} [data-part=url]")
    assert "c_methods=fastv%2Crandom" in again and "c_example=penguins" in again and "tab=compare" in again


def test_the_preset_speaks_about_the_graph(visit: Any) -> None:
    see = visit()
    page = show(see)
    compare(see, page, "#compare-preset", "script_released")
    assert names(page) == ["script", "script_released", "qcsp", "cdpruner"]
    assert "0 of 192 tokens differ from the picks without GSP" in page.inner_text(f"{HOST} [data-part=verdict]")
    assert page.locator(f"{HOST} [data-part=jaccard] td").count() == 4 * 4 + 1


def test_the_calculator_follows_its_fields(visit: Any) -> None:
    see = visit()
    page = show(see)
    page.click("#compare-calc button")
    see.until("document.querySelector('#calc-result')?.innerText?.includes('166.4 before rounding')")
    page.fill("#calc-budget input", "32")
    see.until("document.querySelector('#calc-result')?.innerText?.includes('alone makes an average of 36')")


@pytest.mark.parametrize("look", ["light", "dark"])
def test_a_phone_sees_everything_without_scrolling_sideways(visit: Any, look: str) -> None:
    see = visit(width=390, height=844, look=look)
    page = show(see, "c_methods=script,random&c_budget=64&c_answer_tokens=3")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(f"{HOST} .cmp-cell:visible .tg").evaluate_all("all => all.map((t) => t.dataset.kept)") == [
        "64",
        "64",
    ]


def test_stop_leaves_what_is_filled(visit: Any, served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    see = visit()
    page = show(see)
    engine = served.host.engine("stickers")
    stream, hold = engine.stream, threading.Event()

    def held(*args: Any, **options: Any) -> Any:
        for event in stream(*args, **options):
            yield event
            if options["pruner"].name == "uniform":
                hold.wait(60)

    monkeypatch.setattr(engine, "stream", held)
    choose(page, "Random", "Uniform", "Full (no pruning)")
    page.click("#compare-run")
    try:
        see.until(
            f"document.querySelector('{HOST} [data-method=uniform]')?.dataset.state === 'running'", timeout=60_000
        )
        page.click("#compare-stop")
        see.until(f"document.querySelector('{HOST}').dataset.state === 'stopped'", timeout=60_000)
    finally:
        hold.set()
    states = page.locator(f"{HOST} .cmp-cell:visible").evaluate_all("all => all.map((cell) => cell.dataset.state)")
    assert dict(zip(names(page), states, strict=True)) == {"random": "done", "uniform": "stopped", "full": "stopped"}
