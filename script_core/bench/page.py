"""The page in a real browser: how soon it is up, how soon it has answered, and what a move of a slider costs."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from script_core.bench.tables import Cell
from script_core.bench.timing import Timing

ROOT = Path(__file__).resolve().parents[2]
MOVES = 20
PATIENCE = 120  # seconds

# Move a slider as a hand does and wait until the overlay has been painted for the new value: milliseconds.
MOVE = """async ([slider, attribute, value]) => {
  const input = document.querySelector(`${slider} input[type=range]`);
  const grid = document.querySelector("#ask-grid .tg");
  const before = Number(grid.dataset.paints);
  const started = performance.now();
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(input, value);
  input.dispatchEvent(new Event("input", { bubbles: true }));
  const painted = () => Number(grid.dataset[attribute]) === value && Number(grid.dataset.paints) > before;
  while (!painted()) {
    if (performance.now() - started > 30000) throw new Error(`the overlay never showed ${attribute} = ${value}`);
    await new Promise(requestAnimationFrame);
  }
  return performance.now() - started;
}"""


def page(address: str | None) -> Iterator[dict[str, Cell]]:
    """Rows of what was measured; the app is started here unless the address of a running one is given."""
    if address:
        yield from _visit(address.rstrip("/") + "/")
        return
    with _app() as (started, begun):
        yield {"what": "server up", "ms": round(_until(started + "healthz", begun))}
        yield {"what": "model ready", "ms": round(_until(started + "readyz", begun))}
        yield from _visit(started)


def _visit(address: str) -> Iterator[dict[str, Cell]]:
    from playwright.sync_api import sync_playwright

    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if browser is None:
        raise RuntimeError("No Chromium was found; install it with `apt-get install chromium`.")
    with sync_playwright() as play:
        chrome = play.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        try:
            seen = chrome.new_page(viewport={"width": 1366, "height": 768})
            begun = time.perf_counter()
            seen.goto(address)
            seen.wait_for_selector("#ask-run", timeout=PATIENCE * 1000)
            yield {"what": "page interactive", "ms": round((time.perf_counter() - begun) * 1000)}
            seen.wait_for_selector('#ask-answers .ans[data-state="done"]', timeout=PATIENCE * 1000)
            yield {"what": "first answer", "ms": round((time.perf_counter() - begun) * 1000)}
            seen.wait_for_function("Number(document.querySelector('#ask-grid .tg')?.dataset.kept) > 0")
            tokens = seen.get_attribute("#ask-grid .tg", "data-total")
            moves = {
                "#ask-tau": ("tau", 0.3, 0.01),
                "#ask-gamma": ("gamma", 0.5, 0.1),
                "#ask-budget": ("budget", 60, 1),
            }
            for slider, (attribute, low, step) in moves.items():
                spent = [
                    seen.evaluate(MOVE, [slider, attribute, round(low + step * index, 2)]) for index in range(MOVES + 1)
                ]
                yield {"what": f"{attribute} moved, {tokens} tokens", "ms": Timing.of(spent[1:])}
        finally:
            chrome.close()


@contextmanager
def _app() -> Iterator[tuple[str, float]]:
    """The app on a free port; its address, and when it was started."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    begun = time.perf_counter()
    serving: Any = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield f"http://127.0.0.1:{port}/", begun
    finally:
        serving.terminate()
        serving.wait()


def _until(url: str, begun: float) -> float:
    """Milliseconds since `begun` when the address first answers with 200."""
    while time.perf_counter() - begun < PATIENCE:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return (time.perf_counter() - begun) * 1000
        except (urllib.error.URLError, OSError):
            time.sleep(0.02)
    raise RuntimeError(f"{url} did not answer within {PATIENCE} seconds; start the app by hand to see why.")
