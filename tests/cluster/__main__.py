"""Starts the cluster, makes every check on it, prints their figures as JSON lines, and ends what it started."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
import torch

from script_core.engine import Engine
from script_core.serving.cluster import connect
from tests import tiny
from tests.cluster.figures import figures
from tests.cluster.front_ends import page
from tests.cluster.model_workers import grows, killed_worker, no_worker_left, same_answers, streams
from tests.cluster.processes import Processes, start_workers, until


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        processes = Processes(folder)
        try:
            checkpoint = str(tiny.save_llava(folder / "tiny"))
            began = time.perf_counter()
            address = start_workers(processes, folder / "r", f"stickers,{checkpoint}")
            cluster = until("the workers", lambda: connect(address, 300))
            out: dict[str, Any] = {"until a worker served, s": round(time.perf_counter() - began, 1)}
            print(json.dumps(out), flush=True)
            local, small = Engine.load("stickers", device="cpu"), Engine.load(checkpoint, device="cpu")
            for check in (
                lambda: grows(cluster, checkpoint),
                lambda: same_answers(cluster, local),
                lambda: streams(cluster, checkpoint, tiny.picture(90, 90)),
                lambda: figures(cluster, local),
                lambda: killed_worker(cluster, checkpoint, small),
                lambda: no_worker_left(cluster, local),
                lambda: page(processes, folder, cluster, address),
            ):
                print(json.dumps(check()), flush=True)
            cluster.close()
            print("passed", flush=True)
        except BaseException:
            for log in sorted(folder.glob("*.log")):
                print(f"---- {log.name}\n{log.read_text(errors='replace')[-3000:]}", file=sys.stderr)
            raise
        finally:
            if ray.is_initialized():
                ray.shutdown()
            processes.end()


if __name__ == "__main__":
    main()
