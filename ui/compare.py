"""What happens on the Compare tab, as plain functions: raw values in, named parts of the page out (see `handlers`)."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from script_core.backends.base import CannotLoad
from script_core.engine import Engine, QuestionError, find_pruner
from script_core.media import Media, MediaError, read_image
from script_core.pruners.base import CannotPrune
from script_core.report import Encoded, Finished, Result, Selected, Text
from script_core.tokens import Selection
from ui import cards
from ui.compare_cells import Value, blank, distance, drawn, figures, graph_verdict, jaccard
from ui.compare_state import DEFAULTS, RELEASED_AGAINST_PAPER, CompareSettings, check, from_query, to_query
from ui.examples import examples, find
from ui.handlers import GENERIC, GONE
from ui.limits import read_picture
from ui.runtime import Host, NotReady, title
from ui.state import Unusable
from ui.tokengrid import payload, shown_pictures

log = logging.getLogger("script")
View = dict[str, Any]

FAILED = "This method failed on the server, whose log says why. The other methods are not affected."
PAUSE = 0.04  # seconds between two looks at a growing answer


class CompareHandlers:
    """The Compare tab's behaviour on one server. Holds no visitor's state, only the finished opening comparison."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._opening: Value | None = None
        self._guard = threading.Lock()
        self._named = {read_image(example.path).key: example for example in examples()}

    # ---- events ------------------------------------------------------------------------------------------------

    def started(self, grid: Mapping[str, Any] | None, *values: Any) -> Iterator[View]:
        """The tab was opened with nothing in it: compare on what is set there, which is the first example."""
        if grid:
            yield {"stop": {}}  # every stream says something
            return
        with self._guard:
            opening = self._opening
        if opening is not None:
            media = read_image(examples()[0].path)
            # The page's cache is cleared by age, so the picture may have to be written again.
            yield {"grid": {**opening, "base": {**opening["base"], "images": shown_pictures(media)}}}
            return
        yield from self.run(*values)

    def linked(self, query: Mapping[str, str]) -> Iterator[View]:
        """The page was opened by a link; fill the tab and run if the link is for it."""
        found = from_query(query)
        if found is None:
            yield {"stop": {}}
            return
        settings, notes = found
        example = find(settings.example) or examples()[0]
        question = settings.question or example.question
        model = settings.model or self.host.first
        yield {
            "media": str(example.path),
            "question": question,
            "budget": {"value": settings.budget, "maximum": max(settings.budget, 576)},
            "methods": list(settings.methods),
            "answer_tokens": settings.answer_tokens,
            "model": model,
        }
        yield from self.run(
            model, str(example.path), question, settings.budget, list(settings.methods), settings.answer_tokens
        )
        if notes:
            yield {"note": cards.note(" ".join(notes), "info")}

    def picked(self, name: str, place: int, model: str, path: str, question: str, *rest: Any) -> Iterator[View]:
        """An example was clicked: take its picture and question, and compare."""
        example = find(name)
        if example is None:
            yield {"note": cards.note("There is no such example.")}
            return
        texts = (example.question, *example.more)
        question = texts[place] if 0 <= place < len(texts) else example.question
        yield {"media": str(example.path), "question": question}
        yield from self.run(model, str(example.path), question, *rest)

    def preset(
        self, model: str, path: str | None, question: str, budget: Any, methods: Any, answer_tokens: Any
    ) -> Iterator[View]:
        """Released code against paper."""
        methods = list(RELEASED_AGAINST_PAPER)
        yield {"methods": methods}
        yield from self.run(model, path, question, budget, methods, answer_tokens)

    def sized(self, model: str, path: str | None, budget: Any) -> View:
        """Another model or picture: how far the budget can go now."""
        if not path:
            return {"note": ""}
        try:
            total = len(self.host.engine(model).encode(_picture(path)).tokens)
        except Exception as problem:
            return {"note": cards.note(_sentence(problem))}
        return {"budget": {"maximum": total, "value": min(budget, total) if budget else total}, "note": ""}

    def stopped(self, grid: Mapping[str, Any] | None) -> View:
        """Stop was pressed; what has been filled so far stays."""
        value = dict(grid or {})
        if value.get("cells"):
            value["cells"] = [
                {**cell, "state": "stopped"} if cell["state"] in ("waiting", "running") else cell
                for cell in value["cells"]
            ]
            value |= {"state": "stopped", "status": "Stopped."}
        return {"grid": value or None, "stop": {"interactive": False}}

    def run(
        self, model: str, path: str | None, question: str, budget: Any, methods: Any, answer_tokens: Any
    ) -> Iterator[View]:
        """The whole comparison, cell after cell."""
        yield {"note": "", "stop": {"interactive": True}}
        try:
            settings = check(
                question=question, budget=budget, methods=methods, answer_tokens=answer_tokens, model=model or ""
            )
            if not path:
                raise MediaError("Choose a picture first: upload one, paste one, or click an example.")
            media = _picture(path)
            example = self._named.get(media.key)
            settings = settings.but(example=example.id if example else "")
            yield from self._compare(self.host.engine(settings.model), media, settings)
        except Exception as problem:
            yield {"note": cards.note(_sentence(problem))}
        yield {"stop": {"interactive": False}}

    # ---- the comparison ----------------------------------------------------------------------------------------

    def _compare(self, engine: Engine, media: Media, settings: CompareSettings) -> Iterator[View]:
        began = time.perf_counter()
        table = _Table(engine, settings, self._remarks(engine, media))
        yield {"grid": table.value("Encoding the picture ...")}
        encoded = engine.encode(media)
        total = len(encoded.tokens)
        if settings.budget > total:
            raise CannotPrune(
                f"The budget of {settings.budget:,} is more than the {total:,} tokens of this picture; lower it."
            )
        yield {"budget": {"maximum": total}}
        for status in table.reference(encoded):
            yield {"grid": table.value(status)}
        for cell in table.cells:
            for status in table.fill(cell):
                yield {"grid": table.value(status)}
        table.finish(time.perf_counter() - began)
        value = table.value(table.status)
        self._remember(settings, value)
        yield {"grid": value}

    def _remember(self, settings: CompareSettings, value: Value) -> None:
        first = examples()[0]
        opening = DEFAULTS.but(question=first.question, example=first.id, model=self.host.first)
        if settings == opening and all(cell["state"] in ("done", "unavailable") for cell in value["cells"]):
            status = value["status"].replace("live", "live when this tab was first opened on this server")
            with self._guard:
                self._opening = {**value, "status": status}

    def _remarks(self, engine: Engine, media: Media) -> list[str]:
        example = self._named.get(media.key)
        if engine.info.only_stickers and not (example and example.is_scene):
            return [
                "The embedded model only knows sticker scenes, so its answers here mean little; "
                "which tokens the methods keep is real."
            ]
        return list(media.notes)


class _Table:
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


def _picture(path: str) -> Media:
    if not Path(path).is_file():
        raise MediaError(GONE)
    return read_picture(path)


def _sentence(problem: Exception) -> str:
    """What to say about a failure of the whole comparison. Never a traceback."""
    if isinstance(problem, Unusable | MediaError | QuestionError | CannotPrune | CannotLoad | NotReady):
        return str(problem)
    log.error("unexpected", exc_info=problem)
    return GENERIC
