"""Pictures of the page as people see it: `python -m ui.screenshots --out DIR` (needs Playwright and Chromium)."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

SIZES = {"desktop": (1366, 768), "phone": (390, 844)}
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
]


def chromium() -> str:
    """The browser's path. Raises RuntimeError with the package to install where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        found = shutil.which(name)
        if found:
            return found
    raise RuntimeError("No Chromium was found; install it with `apt-get install chromium`.")


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


def settle(page: Any) -> None:
    """Until the opening example is answered and drawn."""
    page.wait_for_selector('.ans[data-state="done"]', timeout=120_000)
    page.wait_for_function("Number(document.querySelector('#ask-grid .tg')?.dataset.kept) > 0", timeout=30_000)
    page.wait_for_timeout(700)  # the picture under the tokens and the fade of Gradio's own blocks


def take(address: str, out: Path) -> list[Path]:
    """Screenshots in both sizes and both themes, above the fold and full length."""
    out.mkdir(parents=True, exist_ok=True)
    taken = []
    with browser() as chrome:
        for size, (width, height) in SIZES.items():
            for look in ("light", "dark"):
                page = chrome.new_page(viewport={"width": width, "height": height}, color_scheme=look)
                page.goto(f"{address}?__theme={look}")
                settle(page)
                for part, full in (("fold", False), ("page", True)):
                    path = out / f"{size}-{look}-{part}.png"
                    page.screenshot(path=str(path), full_page=full)
                    taken.append(path)
                page.close()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("screenshots"))
    parser.add_argument("--address", help="a running page; by default one is started on a free port")
    options = parser.parse_args()
    if options.address:
        address = options.address
    else:
        import app

        served = app.arguments(["--port", "0"])
        address = app.serve(app.demo, app.host, served, block=False)
    for path in take(address, options.out):
        print(path)


if __name__ == "__main__":
    main()
