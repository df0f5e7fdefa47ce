"""Repeated measurements, their medians, and the facts about the machine that belong beside them."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

LIBRARIES = ("torch", "transformers", "numpy", "triton", "gradio")


@dataclass(frozen=True)
class Timing:
    """Milliseconds: median, lower and upper quartile, best, and the number of runs behind them.

    processor: the least processor time of a run, over all threads. Where other work shares the cores it says more than
    the clock; None where it was not taken.
    """

    median: float
    low: float
    high: float
    best: float
    runs: int
    processor: float | None = None

    @classmethod
    def of(cls, values: list[float], processor: list[float] | None = None) -> Timing:
        ordered = sorted(values)
        low, median, high = statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else ordered * 3
        return cls(median, low, high, ordered[0], len(ordered), min(processor) if processor else None)

    def __str__(self) -> str:
        return f"{_short(self.median)} ({_short(self.low)}-{_short(self.high)})"


@dataclass(frozen=True)
class Effort:
    """How often to measure: at least `least` runs after a warm-up, then up to `most` while `seconds` last."""

    least: int = 3
    most: int = 15
    seconds: float = 0.8


def timed(
    work: Callable[[], Any], effort: Effort, device: torch.device, before: Callable[[], Any] | None = None
) -> Timing:
    """Run `work` repeatedly, `before` untimed ahead of each. On a GPU the device's own events are read."""
    values: list[float] = []
    processor: list[float] = []
    started = time.perf_counter()
    for run in range(effort.most + 1):
        if before is not None:
            before()
        busy = time.process_time()
        spent = once(work, device)
        if run:  # the first one warms up
            values.append(spent)
            processor.append((time.process_time() - busy) * 1000)
        if len(values) >= effort.least and time.perf_counter() - started > effort.seconds:
            break
    return Timing.of(values, processor)


def once(work: Callable[[], Any], device: torch.device) -> float:
    """Milliseconds of one call."""
    if device.type != "cuda":
        started = time.perf_counter()
        work()
        return (time.perf_counter() - started) * 1000
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize(device)
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize(device)
    return begin.elapsed_time(end)


def facts(device: torch.device) -> dict[str, Any]:
    """The machine, its load, the libraries and the commit: what a figure is worth nothing without."""
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "load": [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None,
            "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
            "system": platform.platform(terse=True),
            "python": platform.python_version(),
        },
        "libraries": {name: _version(name) for name in LIBRARIES},
        "commit": _git("rev-parse", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    if described.is_file():
        for line in described.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip() or None


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"
