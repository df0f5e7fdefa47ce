"""One comparison while it fills: the reference from all tokens, then cell after cell."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from script_core.engine import Engine, find_pruner
from script_core.pruners.base import CannotPrune
from script_core.report import Encoded, Finished, Result, Selected, Text
from script_core.tokens import Selection
from ui import shortage
from ui.compare_cells import Value, blank, distance, drawn, figures, graph_verdict, jaccard
from ui.compare_state import CompareSettings, to_query
from ui.runtime import title
from ui.tokengrid import payload, shown_pictures

log = logging.getLogger("script")

FAILED = "This method failed on the server, whose log says why. The other methods are not affected."
TOO_LARGE = "There was not enough memory for this method at this budget. The other methods are not affected."
PAUSE = 0.04  # seconds between two looks at a growing answer


class Table:
    """The comparison while it fills: a reference, the cells, and what is said about them together."""

    def __init__(self, engine: Engine, settings: CompareSettings, remarks: list[str]) -> None:
        self.engine, self.settings, self.remarks = engine, settings, remarks
        self.pruners = {name: find_pruner(name) for name in settings.methods}
        self.cells = [blank(pruner) for pruner in self.pruners.values()]
        self.selections: dict[str, Selection] = {}
        self.overlap = jaccard({})
        self.status = ""
        self._base: Value | None = None
        self._full: Value = {"state": "waiting", "text": ""}
        self._result: Result | None = None
        self._logits: list[Tensor] = []
        self._state = "running"

    def value(self, status: str) -> Value:
        """All of it, for the browser."""
        done = sum(cell["state"] not in ("waiting", "running") for cell in self.cells)
        return {
            "state": self._state,
            "status": status,
            "progress": [done, len(self.cells)],
            "base": self._base,
            "full": dict(self._full),
            "cells": [dict(cell) for cell in self.cells],
            "overlap": self.overlap,
            "verdict": self._verdict(),
            "remarks": self.remarks,
            "question": self.settings.question,
            "budget": self.settings.budget,
            "model": f"{title(self.settings.model or 'stickers')}, {self.engine.info.device}, {self.engine.info.dtype}",
            "link": to_query(self.settings),
            "linkable": bool(self.settings.example),
        }

    def _verdict(self) -> str:
        if self._state != "done" or self._base is None:
            return ""
        return graph_verdict(self.selections, self._encoded, self.settings.budget)

    def reference(self, encoded: Encoded) -> Iterator[str]:
        """The answer from all tokens, and its logits at every step, which everything is measured against."""
        self._encoded = encoded
        status = "Answering from all tokens, the reference ..."
        pruner = find_pruner("full")
        for event in self._events(pruner, len(encoded.tokens)):
            if isinstance(event, Selected):
                base = payload(event, pruner, shown_pictures(encoded.media), asked={})
                self._base = {name: held for name, held in base.items() if name not in ("kept", "walk", "groups")}
            elif isinstance(event, Text):
                self._full |= {"state": "running", "text": event.text}
            elif isinstance(event, Finished):
                self._result = event.result
                self._full = {"state": "done", "text": event.result.answer or "(nothing)"}
                if event.result.notice and event.result.notice not in self.remarks:
                    self.remarks = [*self.remarks, event.result.notice]
            yield status
        assert self._result is not None
        self._logits = self.engine.forced_logits(
            encoded, self.settings.question, self._result.token_ids, pruner=pruner, budget=len(encoded.tokens)
        )

    def fill(self, cell: Value) -> Iterator[str]:
        """One method. Whatever happens to it stays in its cell."""
        status = f"Answering with {cell['title']} ..."
        try:
            yield from self._fill(cell, status)
        except CannotPrune as refusal:
            cell |= {"state": "unavailable", "reason": str(refusal)}
        except Exception as problem:
            if shortage.relieved(problem):
                cell |= {"state": "failed", "reason": TOO_LARGE}
            else:
                log.error("comparing %s", cell["method"], exc_info=problem)
                cell |= {"state": "failed", "reason": FAILED}
        yield status

    def _fill(self, cell: Value, status: str) -> Iterator[str]:
        pruner, full = self.pruners[cell["method"]], self._result
        assert full is not None
        cell["state"] = "running"
        yield status
        budget = len(self._encoded.tokens) if pruner.name == "full" else self.settings.budget
        last = 0.0
        for event in self._events(pruner, budget):
            if isinstance(event, Selected):
                cell |= drawn(event)
                self.selections[pruner.name] = event.selection
                self.overlap = jaccard({name: selection.kept for name, selection in self.selections.items()})
                yield status
            elif isinstance(event, Text):
                cell["text"] = event.text
                if time.perf_counter() - last > PAUSE:
                    last = time.perf_counter()
                    yield status
            elif isinstance(event, Finished):
                cell |= figures(self.engine, self._encoded, pruner, event.result, full)
        ours = self._logits
        if pruner.name != "full":
            ours = self.engine.forced_logits(
                self._encoded, self.settings.question, full.token_ids, pruner=pruner, budget=budget
            )
        cell |= distance(self._logits, ours) | {"state": "done"}

    def _events(self, pruner: Any, budget: int) -> Iterator[Any]:
        """The engine's events; leaving early (Stop, a closed page) ends the run at the next token."""
        stop = threading.Event()
        asked, longest = self.settings.question, self.settings.answer_tokens
        try:
            yield from self.engine.stream(
                self._encoded, asked, pruner=pruner, budget=budget, max_new_tokens=longest, stop=stop
            )
        finally:
            stop.set()

    def finish(self, spent: float) -> None:
        count = sum(cell["state"] == "done" for cell in self.cells)
        self._state = "done"
        self.status = f"{count} of {len(self.cells)} methods answered live in {spent:.1f} s"
