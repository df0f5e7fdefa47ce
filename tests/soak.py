"""Many visitors at once against the running app: `python -m tests.soak` (part of `make soak`; minutes, not seconds).

For `--seconds`, `--clients` callers ask the embedded model by REST; then `--visits` visitors come one after another.
Last, the server is killed while callers ask, and started again. What must hold: with fewer callers than the queue has
places no call fails, with more every refusal is the sentence that the queue is full, a slider goes on being answered,
resident memory stays where it was, and callers of the killed server are told, and answered again by the next one.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from script_core.media import read_image
from tests.browser import free_port
from ui.examples import examples
from ui.state import DEFAULTS

ROOT = Path(__file__).parent.parent
PAUSE = 0.5  # seconds until a caller who found the queue full comes again
PROGRAM = """
import sys
import app
from ui import guard
guard.Allowance.wait = lambda self, address, now=None: 0.0  # one address plays all visitors
app.main(["--port", sys.argv[1]])
"""


class Running:
    """The app in a process of its own."""

    def __init__(self) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start, and wait until a model answers."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(self.port)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        while True:
            try:
                urllib.request.urlopen(f"{self.address}/readyz", timeout=5).close()
                return
            except (urllib.error.URLError, TimeoutError):
                if self.process.poll() is not None:
                    raise RuntimeError("the app did not start") from None
                time.sleep(0.5)

    def stop(self) -> str:
        """Stop; returns what it wrote into its log."""
        self.process.terminate()
        return self.process.communicate(timeout=60)[1].decode()

    def memory_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def post(self, path: str, body: dict[str, object]) -> urllib.request.Request:
        data, kind = json.dumps(body).encode(), {"Content-Type": "application/json"}
        return urllib.request.Request(f"{self.address}/gradio_api/{path}", data, kind)

    def call(self, name: str, body: dict[str, object]) -> str:
        """ "ok", "busy" for a full queue, or what went wrong."""
        try:
            with urllib.request.urlopen(self.post(f"call/v2/{name}", body), timeout=120) as answer:
                event = json.load(answer)["event_id"]
            with urllib.request.urlopen(f"{self.address}/gradio_api/call/{name}/{event}", timeout=300) as answer:
                told = answer.read().decode()
        except urllib.error.HTTPError as error:
            told = error.read().decode()
            return "busy" if error.code == 503 and "Queue is full" in told else f"{error.code}: {told[:80]}"
        except (OSError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}"
        return "ok" if "event: complete" in told else told[-120:]


def crowd(app: Running, clients: int, seconds: float) -> Counter[str]:
    """What callers were told who all ask at once, again and again."""
    told: Counter[str] = Counter()
    finish = time.monotonic() + seconds

    def ask(place: int) -> None:
        names = ("balloons", "street", "farm", "music")
        while time.monotonic() < finish:
            body = {"image": names[place % 4], "question": "is there a dog ?", "budget": 16, "answer_tokens": 2}
            said = app.call("answer", body)
            told[said] += 1
            if said == "busy":
                time.sleep(PAUSE)

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def slider(app: Running, stop: threading.Event) -> list[float]:
    """Milliseconds of what the canvas asks while a slider moves, one after another until told to stop."""
    with urllib.request.urlopen(f"{app.address}/config", timeout=60) as answer:
        parts = json.load(answer)["components"]
    grid = next(part["id"] for part in parts if part["props"].get("elem_id") == "ask-grid")
    ticket = {"model": "stickers", "media": read_image(examples()[0].path).key}
    asked = {**asdict(DEFAULTS), "question": "is there a dog ?"}
    times: list[float] = []
    while not stop.is_set():
        wish = {"ticket": ticket, "settings": {**asked, "tau": round(0.3 + 0.001 * (len(times) % 400), 3)}}
        body = {"component_id": grid, "fn_name": "redraw", "session_hash": "soak", "data": wish}
        started = time.perf_counter()
        with urllib.request.urlopen(app.post("component_server", body), timeout=60) as answer:
            if json.load(answer) is None:
                raise RuntimeError("the slider was not answered")
        times.append(1000 * (time.perf_counter() - started))
        stop.wait(0.1)
    return times


def visits(app: Running, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds of the page's own settings for each visitor, and the memory every fiftieth visit."""
    times, memory = [], []
    for place in range(count):
        started = time.perf_counter()
        with urllib.request.urlopen(f"{app.address}/config", timeout=60) as answer:
            answer.read()
        times.append(1000 * (time.perf_counter() - started))
        app.call("explain", {"image": "balloons", "question": "is there a dog ?", "budget": 1 + place % 500})
        if place % 50 == 49:
            memory.append(app.memory_mb())
    return times, memory


def killed(app: Running, clients: int) -> tuple[Counter[str], float, str]:
    """Kill the server while callers ask, and start it again: what they were told meanwhile, the longest that one had to
    wait to be told, and the first answer of the new server."""
    told: Counter[str] = Counter()
    waits: list[float] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            started = time.monotonic()
            said = app.call("explain", {"image": "balloons", "question": "is there a dog ?", "budget": 16})
            waits.append(time.monotonic() - started)
            told[said if said in ("ok", "busy") else "gone"] += 1
            over.wait(PAUSE)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(3)
    app.process.kill()
    app.process.communicate(timeout=60)
    app.start()
    first = app.call("answer", {"image": "balloons", "question": "is there a dog ?", "answer_tokens": 2})
    over.set()
    for thread in threads:
        thread.join()
    return told, max(waits), first


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--visits", type=int, default=500)
    parser.add_argument("--slider-ms", type=float, default=250, help="within which 95 %% of slider moves are answered")
    options = parser.parse_args()
    app = Running()
    try:
        app.call("answer", {"image": "balloons", "question": "is there a dog ?", "answer_tokens": 2})
        few = crowd(app, 10, min(options.seconds, 20))
        stop, moved = threading.Event(), []
        hand = threading.Thread(target=lambda: moved.extend(slider(app, stop)))
        hand.start()
        many = crowd(app, options.clients, options.seconds)
        stop.set()
        hand.join()
        times, memory = visits(app, options.visits)
        trace = app.stop()
        app.start()
        gone, longest, first = killed(app, 10)
    finally:
        app.stop()
    print(f"10 callers: {dict(few)}\n{options.clients} callers: {dict(many)}")
    print(f"{options.visits} visits: settings in {statistics.median(times):.0f} ms, memory {memory[0]:.0f} MB at 50, "
          f"{memory[-1]:.0f} MB at the end")  # fmt: skip
    print(f"killed and started again: {dict(gone)}, nobody waited more than {longest:.0f} s, first answer: {first}")
    late = sorted(moved)[int(0.95 * len(moved))] if moved else float("inf")
    print(f"{len(moved)} slider moves meanwhile, 95 % within {late:.0f} ms")
    problems = ["the slider was slow or not answered"] if late > options.slider_ms else []
    if set(few) != {"ok"}:
        problems.append("callers fewer than the queue's places were refused")
    if set(many) - {"ok", "busy"}:
        problems.append("a caller was told something else than an answer or that the queue is full")
    if memory[-1] > memory[0] + 60:
        problems.append("memory grew")
    if first not in ("ok", "busy") or not gone["ok"] or longest > 120:
        problems.append("callers did not get over the death of the server")
    if "Traceback" in trace:
        problems.append(f"the log holds a traceback: {trace[-400:]}")
    print("\n".join(problems) or "all held")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
