"""How long a slider move takes until the exact overlay is painted, in a real browser: `python -m ui.latency`."""

from __future__ import annotations

import argparse
import statistics
from contextlib import nullcontext
from typing import Any

from ui.launched import launched
from ui.screenshots import browser, settle

# Moves a slider and waits, in the page, until the canvas says that it shows that value.
MOVE = """([slider, attribute, value]) => new Promise((done) => {
    const grid = document.querySelector('#ask-grid .tg');
    const input = document.querySelector(slider + ' input[type=range]');
    Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(input, value);
    const started = performance.now();
    const finish = () => {
        if (Number(grid.dataset[attribute]) !== value) return false;
        done(performance.now() - started);
        return true;
    };
    const observer = new MutationObserver(() => { if (finish()) observer.disconnect(); });
    observer.observe(grid, { attributes: true });
    input.dispatchEvent(new Event('input', { bubbles: true }));
    if (finish()) observer.disconnect();
})"""


def measure(page: Any, slider: str, attribute: str, values: list[float]) -> list[float]:
    """Milliseconds from the slider's event to the repainted canvas, one per value."""
    return [page.evaluate(MOVE, [slider, attribute, value]) for value in values]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moves", type=int, default=25)
    parser.add_argument("--address", help="a running page; by default one is started")
    options = parser.parse_args()
    with nullcontext(options.address) if options.address else launched() as address:
        report(address, options.moves)


def report(address: str, n: int) -> None:
    """Print a line per slider and size."""
    with browser() as chrome:
        for model, total in (("stickers", 576), ("stickers-anyres", 2880)):
            page = chrome.new_page(viewport={"width": 1366, "height": 768})
            page.goto(f"{address}?model={model}&example=street&answer_tokens=4")
            settle(page)
            moves = {
                "budget": [1 + i * (total - 1) // n for i in range(1, n + 1)],
                "tau": [round(0.2 + 0.02 * (i + 1), 2) for i in range(n)],
                "gamma": [round(0.2 * (i + 1), 1) for i in range(n)],
            }
            for name, values in moves.items():
                times = sorted(measure(page, f"#ask-{name}", name, values))
                print(
                    f"{total:>5} tokens  {name:<7} median {statistics.median(times):7.1f} ms   "
                    f"90 % {times[int(0.9 * len(times))]:7.1f} ms   of {len(times)} moves",
                    flush=True,
                )
            page.close()


if __name__ == "__main__":
    main()
