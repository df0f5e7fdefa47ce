"""What going through the cluster costs, and what its processes weigh."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from script_core.engine import Engine
from script_core.report import Encoded
from script_core.serving.cluster import RayCluster
from tests.cluster.model_workers import QUESTION, pids
from ui.examples import examples


def ms(seconds: list[float]) -> float:
    return round(statistics.median(seconds) * 1e3, 1)


def memory(pid: int) -> int:
    """Resident megabytes of a process."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) >> 10


def timed(call: Callable[[int], Any], times: int) -> float:
    spent = []
    for turn in range(times + 2):
        began = time.perf_counter()
        call(turn)
        spent.append(time.perf_counter() - began)
    return ms(spent[2:])


def select(engine: Engine, encoded: Encoded, turn: int) -> None:
    engine.select(encoded, QUESTION, budget=32 + turn)


def ask(engine: Engine, encoded: Encoded, turn: int) -> None:
    engine.ask(encoded, QUESTION, budget=64)


def figures(cluster: RayCluster, local: Engine) -> dict[str, Any]:
    """What going through the cluster costs, one caller at a time, and what a worker weighs."""
    remote, path = cluster.engine("stickers"), examples()[0].path
    out: dict[str, Any] = {"load average": os.getloadavg()[0]}
    for name, encoded in (("here", local.encode(path)), ("by a worker", remote.encode(path))):
        engine = local if name == "here" else remote
        out[f"select {name}, ms"] = timed(partial(select, engine, encoded), 40)
        out[f"ask {name}, ms"] = timed(partial(ask, engine, encoded), 20)
    out["a call that does nothing, ms"] = timed(lambda _: cluster.handle.where.remote().result(), 40)
    out["worker, resident MB"] = [memory(pid) for pid in pids(cluster)]
    return out
