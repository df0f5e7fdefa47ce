"""Where and when something was measured: machine, versions, commit. No host names, no paths."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def describe(engine: Any) -> dict[str, Any]:
    """Date (UTC), commit (with "+" behind it if files had been changed since), and the machine."""
    return {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"), "commit": commit(), "machine": machine(engine)}


def commit() -> str:
    """The checkout's commit, "unknown" outside one."""
    name = _git("rev-parse", "--short=12", "HEAD")
    if not name:
        return "unknown"
    return name + ("+" if _git("status", "--porcelain", "--untracked-files=no", "--", "script_core", "assets") else "")


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def machine(engine: Any) -> dict[str, Any]:
    """Processor, cores, threads used and library versions; the GPU if the model is on one."""
    import torch
    import transformers

    device = torch.device(engine.info.device)
    threads = torch.get_num_threads()
    place = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    cores = _cores()
    return {
        "title": place if device.type == "cuda" else f"{place}, {threads} of {cores} cores",
        "device": str(device),
        "cores": cores,
        "threads": threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def processor() -> str:
    """The processor's name as the system tells it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
