"""What must hold of front ends: two behind one address, visitors stick, and a death is not an error."""

from __future__ import annotations

import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from script_core.media import read_image
from script_core.serving.cluster import RayCluster
from tests.cluster.figures import memory
from tests.cluster.model_workers import QUESTION, worker_of
from tests.cluster.processes import ROOT, Processes, free_port, get, haproxy, until
from ui.examples import examples


def page(processes: Processes, folder: Path, cluster: RayCluster, address: str) -> dict[str, Any]:
    """Two front ends behind one address: visitors stick, a killed worker or front end is not an error."""
    ports = {name: free_port() for name in ("page", "a", "b")}
    fronts = {
        name: processes.start(name, sys.executable, "app.py", "--engine", address, "--port", str(ports[name]))
        for name in ("a", "b")
    }
    for name in fronts:
        until(f"front end {name}", lambda name=name: get(f"http://127.0.0.1:{ports[name]}/readyz").status == 200)
    text = (ROOT / "docs" / "haproxy.cfg").read_text()
    for shown, name in (("0.0.0.0:8080", "page"), ("127.0.0.1:7860", "a"), ("127.0.0.1:7861", "b")):
        assert shown in text
        text = text.replace(shown, f"127.0.0.1:{ports[name]}")
    (folder / "haproxy.cfg").write_text(text)
    processes.start("haproxy", haproxy(), "-db", "-f", str(folder / "haproxy.cfg"))
    front = f"http://127.0.0.1:{ports['page']}"
    until("HAProxy", lambda: get(f"{front}/readyz").status == 200)
    first = get(f"{front}/readyz").headers["Set-Cookie"].split("=")[1].split(";")[0]
    for name in ("a", "b"):  # a cookie wins over the address; whoever is sent elsewhere is told by a new one
        assert get(f"{front}/readyz", Cookie=f"FRONT={name}").headers["Set-Cookie"] is None
    assert answer(front) == answer(front)
    asked = ThreadPoolExecutor(4)
    answers = [asked.submit(answer, front) for _ in range(12)]
    os.kill(worker_of(cluster, read_image(examples()[0].path).key), signal.SIGKILL)
    assert len({one.result(timeout=300) for one in answers}) == 1, "an answer failed or changed"
    os.killpg(fronts[first].pid, signal.SIGKILL)
    left = time.perf_counter()
    until("the other front end", lambda: get(f"{front}/readyz", Cookie=f"FRONT={first}").status == 200, 30)
    pause = time.perf_counter() - left
    other = get(f"{front}/readyz", Cookie=f"FRONT={first}").headers["Set-Cookie"]
    assert other and f"FRONT={first}" not in other
    assert answer(front)
    return {
        "calls while a worker was killed": len(answers), "failed": 0,
        "visitors of a killed front end go on after, s": round(pause, 1),
        "front end, resident MB": memory(fronts["b" if first == "a" else "a"].pid),
    }  # fmt: skip


def answer(address: str) -> str:
    from gradio_client import Client, handle_file

    client = Client(address, verbose=False)
    told = client.predict(
        image=handle_file(examples()[0].path), question=QUESTION, method="script", budget=64, api_name="/answer"
    )
    return str(told["answer"])
