"""How long a slider move takes until the exact overlay is painted, in a real browser: `python -m ui.latency`.

Single moves, each waited for; then a drag, a move per frame for five seconds, after which the overlay must show the
last value soon and go on showing it. `--busy` keeps one core occupied meanwhile.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
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


# Moves a slider once per frame, to and fro, and waits until the canvas shows the value at which it was let go.
DRAG = """([slider, attribute, low, high, step, seconds]) => new Promise((done) => {
    const grid = document.querySelector('#ask-grid .tg');
    const input = document.querySelector(slider + ' input[type=range]');
    const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set;
    const shown = () => Number(grid.dataset[attribute]);
    const painted = Number(grid.dataset.paints), began = performance.now();
    const turn = 2 * Math.round((high - low) / step);
    let moves = 0, value;
    const drag = () => {
        if (performance.now() - began >= 1000 * seconds) { wait(performance.now()); return; }
        const place = ++moves % turn;
        value = Math.round(100 * (low + step * Math.min(place, turn - place))) / 100;
        set.call(input, value);
        input.dispatchEvent(new Event('input', { bubbles: true }));
        requestAnimationFrame(drag);
    };
    const wait = (released) => {
        const after = performance.now() - released;
        if (shown() !== value && after < 30000) { requestAnimationFrame(() => wait(released)); return; }
        const paints = Number(grid.dataset.paints) - painted, reached = shown() === value;
        setTimeout(() => done({ moves, paints, after, kept: reached && shown() === value }), 1000);
    };
    requestAnimationFrame(drag);
})"""
DRAGGED = 5.0  # seconds


def measure(page: Any, slider: str, attribute: str, values: list[float]) -> list[float]:
    """Milliseconds from the slider's event to the repainted canvas, one per value."""
    return [page.evaluate(MOVE, [slider, attribute, value]) for value in values]


def dragged(
    page: Any, attribute: str, low: float, high: float, step: float, seconds: float = DRAGGED
) -> dict[str, Any]:
    """moves of the slider, paints of the canvas, milliseconds from the last move until it was shown (`after`), and
    whether it was and still is a second later (`kept`)."""
    return page.evaluate(DRAG, [f"#ask-{attribute}", attribute, low, high, step, seconds])


@contextmanager
def occupied(wanted: bool) -> Iterator[None]:
    """One core busy with nothing."""
    if not wanted:
        yield
        return
    spinning = multiprocessing.get_context("spawn").Process(target=_spin, daemon=True)
    spinning.start()
    try:
        yield
    finally:
        spinning.terminate()
        spinning.join()


def _spin() -> None:
    while True:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moves", type=int, default=25)
    parser.add_argument("--address", help="a running page; by default one is started")
    parser.add_argument("--busy", action="store_true", help="keep one core occupied while measuring")
    options = parser.parse_args()
    with nullcontext(options.address) if options.address else launched() as address, occupied(options.busy):
        print(f"{'one core kept busy' if options.busy else 'nothing else started'}, moves waited for, then drags")
        report(address, options.moves)


def report(address: str, n: int) -> None:
    """Print a line per slider and size, for single moves and for a drag."""
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
            for name, low, high, step in (("budget", 8, total, 8), ("tau", 0.2, 0.8, 0.01)):
                found = dragged(page, name, low, high, step)
                kept = "and still a second later" if found["kept"] else "BUT NOT A SECOND LATER"
                print(
                    f"{total:>5} tokens  {name:<7} dragged for {DRAGGED:g} s: {found['moves']} moves, "
                    f"{found['paints']} paints; the last value shown after {found['after']:.1f} ms, {kept}",
                    flush=True,
                )
            page.close()


if __name__ == "__main__":
    main()
