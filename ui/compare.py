"""What happens on the Compare tab, as plain functions: raw values in, named parts of the page out (see `handlers`)."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from script_core.backends.base import CannotLoad
from script_core.engine import Engine, QuestionError
from script_core.media import Media, MediaError, read_image
from script_core.pruners.base import CannotPrune
from ui import cards, shortage
from ui.compare_cells import Value
from ui.compare_state import DEFAULTS, RELEASED_AGAINST_PAPER, CompareSettings, check, from_query
from ui.compare_table import Table
from ui.examples import examples, find
from ui.limits import read_picture
from ui.runtime import Host, NotReady
from ui.state import Unusable
from ui.tokengrid import shown_pictures
from ui.trouble import GENERIC, GONE

log = logging.getLogger("script")
View = dict[str, Any]


class CompareHandlers:
    """The Compare tab's behaviour on one server. Holds no visitor's state, only the finished opening comparison."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._opening: Value | None = None
        self._guard = threading.Lock()
        self._named = {read_image(example.path).key: example for example in examples()}

    # ---- events ------------------------------------------------------------------------------------------------

    def started(self, query: Mapping[str, str], grid: Mapping[str, Any] | None, *values: Any) -> Iterator[View]:
        """The tab was opened with nothing in it: compare what the page's link says, or else the first example."""
        if grid:
            yield {"stop": {}}  # every stream says something
            return
        found = from_query(query)
        if found is not None:
            yield from self._linked(*found)
            return
        with self._guard:
            opening = self._opening
        if opening is not None:
            media = read_image(examples()[0].path)
            # The page's cache is cleared by age, so the picture may have to be written again.
            yield {"grid": {**opening, "base": {**opening["base"], "images": shown_pictures(media)}}}
            return
        yield from self.run(*values)

    def _linked(self, settings: CompareSettings, notes: tuple[str, ...]) -> Iterator[View]:
        """Fill the tab with what the link says, and compare."""
        example = find(settings.example) or examples()[0]
        question = settings.question or example.question
        model = settings.model or self.host.first
        if model not in dict(map(reversed, self.host.choices())):
            model, notes = self.host.first, (*notes, "The link's model was ignored. This server does not offer it.")
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
            note = cards.note(_sentence(problem))
            if shortage.relieved(problem, lambda: self.host.engine(model).forget()):
                note += shortage.offer("compare-budget", "compare-run", int(budget), "tokens")
            yield {"note": note}
        yield {"stop": {"interactive": False}}

    # ---- the comparison ----------------------------------------------------------------------------------------

    def _compare(self, engine: Engine, media: Media, settings: CompareSettings) -> Iterator[View]:
        began = time.perf_counter()
        engine.require(settings.question)
        table = Table(engine, settings, self._remarks(engine, media))
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


def _picture(path: str) -> Media:
    if not Path(path).is_file():
        raise MediaError(GONE)
    return read_picture(path)


def _sentence(problem: Exception) -> str:
    """What to say about a failure of the whole comparison. Never a traceback."""
    if isinstance(problem, Unusable | MediaError | QuestionError | CannotPrune | CannotLoad | NotReady):
        return str(problem)
    short = shortage.said(problem)
    if not short:
        log.error("unexpected", exc_info=problem)
    return short or GENERIC
