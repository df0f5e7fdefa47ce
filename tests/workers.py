"""Workers without Ray: a cluster that calls workers in this process, through pickled messages."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Generator
from typing import Any

from script_core.engine import Engine
from script_core.report import Encoded, Finished, FirstToken, Selected, Text
from script_core.serving import Lost, RemoteEngine, Worker, messages
from script_core.serving.messages import Missing, Reply, Request

QUESTION = "is there a red apple?"


class InProcess:
    """Workers over their own engines of one model; `current` takes the calls. What passes is pickled both ways.

    cuts: for each stream in turn, after how many events its worker dies (-1: not at all); the next one then takes over.
    """

    def __init__(self, engine: Engine, count: int = 1, cuts: tuple[int, ...] = ()) -> None:
        self.workers = [Worker({"tiny": Engine(engine.backend)}) for _ in range(count)]
        self.current = 0
        self.cuts = list(cuts)
        self.methods: Counter[str] = Counter()
        self.sent_pixels = 0

    def engine(self, model: str = "tiny", **options: Any) -> RemoteEngine:
        return RemoteEngine(self, model, wire(self.workers[0].describe())[model], **options)

    def describe(self) -> dict[str, messages.Facts]:
        return self.workers[0].describe()

    def call(self, request: Request, affinity: str) -> Reply:
        self._count(request)
        return wire(self.workers[self.current].call(wire(request)))

    def stream(self, request: Request, affinity: str) -> Generator[Reply, None, None]:
        self._count(request)
        left = self.cuts[0] if self.cuts else -1
        events = self.workers[self.current].stream(wire(request))
        try:
            for event in events:
                if left == 0 and not isinstance(event, Missing):
                    self.cuts.pop(0)
                    self.current = (self.current + 1) % len(self.workers)
                    raise Lost("killed")
                left -= not isinstance(event, Missing)
                yield wire(event)
        finally:
            events.close()  # type: ignore[attr-defined]

    def stop(self, run: str) -> None:
        for worker in self.workers:
            worker.stop(run)

    def _count(self, request: Request) -> None:
        self.methods[request.method] += 1
        self.sent_pixels += request.media is not None


def wire(message: Any) -> Any:
    return pickle.loads(pickle.dumps(message))


def said(events: list[Any]) -> list[tuple[Any, ...]]:
    """The events without their times."""
    out: list[tuple[Any, ...]] = []
    for event in events:
        match event:
            case Encoded():
                out.append(("encoded", event.media.key, len(event.tokens)))
            case Selected():
                out.append(("selected", event.selection.kept.tolist(), event.method, event.budget))
            case FirstToken():
                out.append(("first", event.token_id))
            case Text():
                out.append(("text", event.text, event.token_id, event.count))
            case Finished():
                out.append(("finished", event.result.answer, event.result.token_ids))
    return out
