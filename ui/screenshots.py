"""Pictures of the page as people see it: `python -m ui.screenshots --out DIR` (needs Playwright and Chromium)."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from ui.launched import launched

TABS = ("ask", "compare", "video", "analyse", "benchmark", "about")

SIZES = {"desktop": (1366, 768), "phone": (390, 844)}
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
]


def chromium() -> str | None:
    """The system's browser, or None for the one that Playwright may have installed itself."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for path in map(shutil.which, names) if path), None)


@contextmanager
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=chromium(), args=CHROMIUM_FLAGS)
        try:
            yield started
        finally:
            started.close()


def settle(page: Any, tab: str = "ask") -> None:
    """Until the tab shows something: on Ask the opening example, answered and drawn; elsewhere what fills by itself."""
    if tab == "ask":
        page.wait_for_selector('.ans[data-state="done"]', timeout=120_000)
        page.wait_for_function("Number(document.querySelector('#ask-grid .tg')?.dataset.kept) > 0", timeout=30_000)
    elif tab == "video":
        page.wait_for_selector('#video-answers .ans[data-state="done"]', timeout=120_000)
    else:
        page.get_by_role("tabpanel").first.wait_for(timeout=60_000)
        page.wait_for_timeout(15_000 if tab == "analyse" else 3_000)
    page.wait_for_timeout(700)  # the picture under the tokens and the fade of Gradio's own blocks


def take(address: str, out: Path) -> list[Path]:
    """Every tab in both sizes and both themes, above the fold and full length."""
    out.mkdir(parents=True, exist_ok=True)
    taken = []
    with browser() as chrome:
        for size, (width, height) in SIZES.items():
            for look in ("light", "dark"):
                for tab in TABS:
                    page = chrome.new_page(viewport={"width": width, "height": height}, color_scheme=look)
                    page.goto(f"{address}?__theme={look}&tab={tab}")
                    settle(page, tab)
                    for part, full in (("fold", False), ("page", True)):
                        path = out / f"{tab}-{size}-{look}-{part}.png"
                        page.screenshot(path=str(path), full_page=full)
                        taken.append(path)
                    page.close()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("screenshots"))
    parser.add_argument("--address", help="a running page; by default one is started on a free port")
    options = parser.parse_args()
    with nullcontext(options.address) if options.address else launched() as address:
        for path in take(address, options.out):
            print(path)


if __name__ == "__main__":
    main()
