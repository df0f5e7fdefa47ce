"""What must hold of workers: a second one comes with load, answers are the same, stream, and survive a death."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from script_core.engine import Engine
from script_core.report import Finished, FirstToken, Text
from script_core.serving.cluster import RayCluster
from script_core.serving.replay import BEGAN_AGAIN
from tests import tiny
from tests.cluster.processes import until
from ui.examples import examples

QUESTION = "is there a dog ?"
LONG = 300  # tokens of an answer that is long enough to be killed in


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
