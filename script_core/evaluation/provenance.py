"""Where and when something was measured: machine, versions, commit. No host names, no paths."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
UNKNOWN = "unknown"
CODE = ("script_core", "assets", ":(exclude)assets/results")  # results are written here, and no answer depends on them


def describe(engine: Any) -> dict[str, Any]:
    """Date (UTC), commit (with "+" behind it if files had been changed since), and the machine."""
    return {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"), "commit": commit(), "machine": machine(engine)}


def together(sessions: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The same for answers from several runs, given each answer's: every commit and machine, and the latest date.

    `sessions` lists them one by one with their numbers of answers. What a session does not tell is "unknown".
    """
    merged: list[dict[str, Any]] = []
    for session in sessions:
        given = {"date": UNKNOWN, "commit": UNKNOWN, "machine": {"title": UNKNOWN}} | dict(session)
        same = next((m for m in merged if (m["commit"], m["machine"]) == (given["commit"], given["machine"])), None)
        if same is None:
            merged.append({**given, "answers": 1})
        else:
            same.update(date=max(same["date"], given["date"]), answers=same["answers"] + 1)
    merged.sort(key=lambda session: (session["date"] != UNKNOWN, session["date"]))
    return {
        "date": merged[-1]["date"] if merged else UNKNOWN,
        "commit": _every(session["commit"] for session in merged),
        "machine": _machines([session["machine"] for session in merged]),
        "sessions": merged,
    }


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """What is not the same in two descriptions, the date apart."""
    flat = [
        {"commit": found["commit"], "machine": found["machine"]["title"], **found["machine"]} for found in (one, other)
    ]
    names = [name for name in dict.fromkeys([*flat[0], *flat[1]]) if name != "title"]
    return [name for name in names if flat[0].get(name) != flat[1].get(name)]


def _machines(found: list[Mapping[str, Any]]) -> dict[str, Any]:
    """One machine as it is; of several, every value that any of them has."""
    names = dict.fromkeys(name for machine in found for name in machine)
    return {name: _every(machine.get(name, UNKNOWN) for machine in found) for name in names}


def _every(values: Iterable[Any]) -> Any:
    """The value if all are the same, else all of them as text."""
    different = list(dict.fromkeys(values))
    return different[0] if len(different) == 1 else "; ".join(str(value) for value in different)


def commit() -> str:
    """The checkout's commit, "unknown" outside one."""
    name = _git("rev-parse", "--short=12", "HEAD")
    if not name:
        return UNKNOWN
    return name + ("+" if _git("status", "--porcelain", "--untracked-files=no", "--", *CODE) else "")


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
