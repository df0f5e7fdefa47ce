"""A running copy of the demo, for commands that look at it from outside as a visitor does."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from ui.assets import ASSETS

APP = ASSETS.parent / "app.py"


@contextmanager
def launched(wait_s: float = 180.0) -> Iterator[str]:
    """The address of a fresh `python app.py` whose model is ready; it ends with the block.

    Raises RuntimeError if it exits or is not ready in time.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(APP), "--port", str(port)], stdout=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}/"
        deadline = time.monotonic() + wait_s
        while not _ready(f"{address}readyz"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("The demo did not start; run `python app.py` to see why.")
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(10)


def _ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False
