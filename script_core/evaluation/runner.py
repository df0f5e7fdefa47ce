"""Ask everything: scene after scene, so that a picture is encoded once and every budget reuses a method's walk.

The full model is always asked as well, as everything is compared with it. A method that cannot reach a budget is
noted once, with its reason, and not asked again; so is one that needs what the model does not offer.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from script_core.evaluation.journal import Journal
from script_core.evaluation.methods import Method, parse
from script_core.evaluation.questions import VERSION, Item, digest, sheets
from script_core.pruners.base import CannotPrune
from script_core.report import Result

LONGEST = 4  # tokens of an answer, its end included; the longest that is right has three
FULL = "full"


@dataclass(frozen=True)
class Cell:
    """One column of the experiment. budget 0 means every token, which only the full model has."""

    method: Method
    budget: int
    seed: int

    @property
    def key(self) -> str:
        return f"{self.method.key}|{self.budget}|{self.seed}"


@dataclass(frozen=True)
class Job:
    """What to ask. kind: "image", "video" or "tiles" questions. seeds: runs of methods that are random."""

    methods: tuple[Method, ...]
    budgets: tuple[int, ...]
    questions: int = 200
    kind: str = "image"
    seeds: int = 3

    def __post_init__(self) -> None:
        if not self.budgets or min(self.budgets) < 1:
            raise ValueError("Budgets are whole numbers of visual tokens, at least 1, such as 64,16.")
        if self.seeds < 1:
            raise ValueError("At least one seed is needed.")
        next(sheets(self.kind, self.questions))  # says so now if there are not as many

    def cells(self) -> tuple[Cell, ...]:
        """The full model first, then every method at every budget, largest first, once per seed."""
        found = [Cell(parse(FULL), 0, 0)]
        for method in self.methods:
            if method.pruner.name != FULL:
                for budget in sorted(set(self.budgets), reverse=True):
                    found += [Cell(method, budget, s) for s in range(self.seeds if method.is_random else 1)]
        return tuple(found)


@dataclass(frozen=True)
class Progress:
    """answered: of `total` answers, those from an earlier run included. seconds: of this run; left: expected, or None
    before anything was answered."""

    answered: int
    total: int
    seconds: float
    left: float | None


@dataclass
class _Meter:
    total: int
    answered: int = 0
    fresh: int = 0
    started: float = field(default_factory=time.perf_counter)

    def step(self, fresh: bool) -> Progress:
        self.answered += 1
        self.fresh += fresh
        spent = time.perf_counter() - self.started
        left = (self.total - self.answered) * spent / self.fresh if self.fresh else None
        return Progress(self.answered, self.total, spent, left)


def header(engine: Any, kind: str) -> dict[str, Any]:
    """What answers depend on besides method, budget and question; stands in a journal's first line."""
    return {
        "journal": 1,
        "set": VERSION,
        "kind": kind,
        "digest": digest(kind),
        "model": engine.info.name,
        "weights": fingerprint(engine),
        "dtype": engine.info.dtype,
        "newlines": engine.newlines,
        "positions": engine.positions,
        "longest": LONGEST,
    }


def fingerprint(engine: Any) -> str:
    """A short hash over the sums of the language model's weights: another checkpoint is another one."""
    found = hashlib.sha256()
    for name, weight in engine.backend.language_model.named_parameters():
        found.update(f"{name}|{tuple(weight.shape)}|{float(weight.detach().double().sum()):.9e}\n".encode())
    return found.hexdigest()[:16]


def run(
    engine: Any,
    job: Job,
    journal: Journal,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> bool:
    """Answer whatever the journal does not hold yet. False if `stop` was set before all was answered.

    Raises ValueError if the questions are about videos and the model takes none.
    """
    for at in answers(engine, job, journal):
        if progress is not None:
            progress(at)
        if stop is not None and stop.is_set() and at.answered < at.total:
            return False
    return True


def answers(engine: Any, job: Job, journal: Journal) -> Iterator[Progress]:
    """The same step by step: every step is an answer that the journal holds now. Raises what `run` raises."""
    if job.kind == "video" and not engine.info.frames:
        raise ValueError(f"{engine.info.name} takes pictures only; choose a model that reads videos.")
    cells = job.cells()
    meter = _Meter(job.questions * len(cells))
    for sheet in sheets(job.kind, job.questions):
        missing = any(_unanswered(journal, cell, item) for cell in cells for item in sheet.items)
        encoded = engine.encode(sheet.media()) if missing else None
        for item, cell in _pairs(sheet.items, cells):
            fresh = encoded is not None and _unanswered(journal, cell, item)
            if fresh:
                _answer(engine, journal, cell, item, encoded)
            yield meter.step(fresh)


def _pairs(items: tuple[Item, ...], cells: tuple[Cell, ...]) -> Iterator[tuple[Item, Cell]]:
    return ((item, cell) for item in items for cell in cells)


def _unanswered(journal: Journal, cell: Cell, item: Item) -> bool:
    return f"{cell.key}|{item.key}" not in journal and cell.key not in journal


def _answer(engine: Any, journal: Journal, cell: Cell, item: Item, encoded: Any) -> None:
    budget = cell.budget or len(encoded.tokens)
    pruner = cell.method.seeded(cell.seed)
    try:
        result = engine.ask(encoded, item.text, pruner=pruner, budget=budget, max_new_tokens=LONGEST)
    except CannotPrune as reason:
        journal.add(cell.key, {"impossible": str(reason)})
        return
    journal.add(f"{cell.key}|{item.key}", {"right": result.answer == item.answer, **_record(result)})


def _record(result: Result) -> dict[str, Any]:
    counters = result.counters
    measured, computed = counters.measured, counters.computed
    decoding = (measured.decode_ms or 0.0) * (counters.generated - 1)
    return {
        "answer": result.answer,
        "kept": counters.kept,
        "tokens": round(sum(counters.entering) / len(counters.entering), 3),
        "paper_flops": computed.paper_flops,
        "flops": computed.flops,
        "kv_bytes": computed.kv_bytes,
        "select_ms": round(measured.select_ms, 3),
        "prefill_ms": round(measured.prefill_ms, 3),
        "decode_ms": round(decoding, 3),
    }
