"""axe-core over every tab, both themes and widths, after an answer and with a toast open: nothing serious of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest

from ui import page as pages

AXE = next(Path(axe_playwright_python.__file__).parent.rglob("axe.min.js")).read_text(encoding="utf-8")
SIZES = {"desktop": (1366, 768), "phone": (390, 844)}
TABS = [tab.TITLE for tab in pages.TABS]

# Gradio's own markup, which a page cannot change: (rule, what the element looks like).
UPSTREAM = (
    ("aria-prohibited-attr", 'aria-label="Empty value"'),  # an empty plot or table
    ("scrollable-region-focusable", 'class="virtual-table-viewport'),  # gr.Dataframe; its cells take the focus
    ("nested-interactive", 'class="toast-header'),  # a toast that can be clicked and closed
)


def serious(page: Any) -> list[str]:
    """Serious and critical violations outside the allow-list, one line each."""
    if not page.evaluate("typeof window.axe === 'object'"):
        page.evaluate(AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{one['id']} ({one['impact']}): {node['target']} {node['html'][:160]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
        if not any(rule == one["id"] and mark in node["html"] for rule, mark in UPSTREAM)
    ]


def show(page: Any, title: str) -> None:
    """Open a tab; on a narrow page it may be in the overflow menu."""
    tab = page.get_by_role("tab", name=title, exact=True)
    if not tab.count() or not tab.first.is_visible():
        page.locator(".overflow-menu > button").first.click()
        tab = page.locator(".overflow-dropdown button", has_text=title)
    tab.first.click()
    page.wait_for_timeout(900)  # the fade of Gradio's blocks, during which contrast is not what it will be


@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_nothing_serious_in_any_tab(size: str, look: str, visit: Any) -> None:
    width, height = SIZES[size]
    see = visit(width=width, height=height, look=look)
    page = see.open(f"?__theme={look}")
    problems = {}
    for title in TABS:
        if title != TABS[0]:
            show(page, title)
        else:
            page.click("#ask-share button")
            see.until("document.querySelector('#ask-share-text textarea')?.value.length > 10")
        problems[title] = serious(page)
        over = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert over <= 0, f"{title} scrolls sideways by {over} pixels"
    assert problems == {title: [] for title in TABS}


@pytest.mark.parametrize("look", ["light", "dark"])
def test_nothing_serious_with_a_toast_open(look: str, visit: Any) -> None:
    see = visit(look=look)
    page = see.open(f"?__theme={look}")
    page.fill("#ask-question textarea", "")
    page.click("#ask-share button")
    page.click("#ask-save-csv")
    page.wait_for_selector(".toast-body", timeout=30_000)
    page.wait_for_timeout(600)
    assert "Type a question" in page.inner_text(".toast-body")
    assert serious(page) == []


def test_axe_would_notice(visit: Any) -> None:
    page = visit().open()
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<button></button><img src=\"data:,\">')")
    assert {line.split(" ")[0] for line in serious(page)} >= {"button-name", "image-alt"}


def test_the_share_row_saves_a_file(visit: Any, tmp_path: Path) -> None:
    page = visit().open()
    page.click("#ask-share button")
    with page.expect_download(timeout=90_000) as waiting:
        page.click("#ask-save-png")
    saved = tmp_path / "saved.png"
    waiting.value.save_as(saved)
    assert waiting.value.suggested_filename == "script-script-64.png"
    assert saved.read_bytes().startswith(b"\x89PNG")


def test_the_copied_link_opens_the_same_page(visit: Any) -> None:
    see = visit()
    page = see.open()
    page.fill("#ask-question textarea", "where is the cup ?")
    page.click("#ask-share button")
    see.until("document.querySelector('#ask-share-text textarea')?.value.includes('where')")
    link = page.input_value("#ask-share-text textarea")
    assert link.startswith(see.address)
    again = visit()
    other = again.open(link.removeprefix(see.address))
    assert other.input_value("#ask-question textarea") == "where is the cup ?"
