"""What happens on the Ask tab, as plain functions: raw values in, named parts of the page out.

A function returns or yields `View`s: dicts from a part's name to its new value. A dict value is an update of that
part's properties. Nothing here knows a Gradio event, so all of it can be tested by calling it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from script_core.engine import Engine, QuestionError
from script_core.media import Media, MediaError, read_image
from script_core.pruners.base import CannotPrune
from ui import cards, shortage
from ui.examples import examples, find
from ui.model_card import chosen, loading
from ui.pair import both
from ui.pictures import Pictures
from ui.runtime import Host, NotReady, title
from ui.scenes import Scenes
from ui.state import DEFAULTS, NAMES, Unusable, check, from_query, pruner_of
from ui.tokengrid import drawn, moving, payload, shown_pictures
from ui.trouble import quiet, trouble

log = logging.getLogger("script")
View = dict[str, Any]

UNASKED = "what is in the picture ?"
LINKED_BY = (*NAMES, "example", "model")  # of a page's address: what this tab takes from it


class AskHandlers:
    """The Ask tab's behaviour on one server. Holds no visitor's state: everything comes in as arguments."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._opening: View | None = None
        self._opening_media: Media | None = None
        self._opening_tried = False
        self._guard = threading.Lock()
        self.pictures = Pictures()
        self.scenes = Scenes(host, self.pictures)
        self._examples = {read_image(example.path).key for example in examples() if example.is_scene}
        self._first = read_image(examples()[0].path).key

    # ---- events ------------------------------------------------------------------------------------------------

    def arrived(self, query: Mapping[str, str]) -> View:
        """The page was opened: what a link says goes into the fields, or the first example's answer onto the page.

        Nothing here waits for a model; what is not there yet comes by `awaited`.
        """
        if self._opening is None:
            view: View = {"badge": cards.badge(*self.host.badge()), "waiting": {"active": True}}
        else:
            view = self.awaited(query, str(examples()[0].path), None)
        if not is_link(query):
            return view
        settings, notes = from_query(query)
        example = find(query.get("example", "")) or examples()[0]
        settings = settings.but(question=settings.question or example.question)
        view |= {"media": str(example.path), **{name: getattr(settings, name) for name in NAMES}}
        # The slider's range follows when the picture has been encoded.
        view["budget"] = {"value": settings.budget, "maximum": max(settings.budget, 576)}
        if query.get("model") in dict(map(reversed, self.host.choices())):
            view["model"] = query["model"]
        if notes:
            view["question_note"] = cards.note(" ".join(notes), "info")
        return view

    def awaited(self, query: Mapping[str, str], path: str | None, answers: View | None) -> View:
        """Asked every now and then while the first model is on its way; when it is there, what the page opens on.

        A visitor who has meanwhile asked (`answers` is filled) or chosen another picture (`path`) keeps their own.
        Answers at once, as whatever a visitor does before the reply arrives would be drawn over.
        """
        text, state = self.host.badge()
        view: View = {"badge": cards.badge(text, state), "waiting": {"active": state == "loading"}}
        if state == "loading":
            return view
        offered = self.host.suggested()
        view["quick"] = {"visible": bool(offered), "value": f"Load {title(offered)} for photos"}
        if is_link(query) or (answers or {}).get("state") or self._other_picture(path):
            return view
        if state == "ready" and not self._opening_tried:
            return {**view, "waiting": {"active": True}}
        try:
            return {**view, **self._opening_view()}
        except Exception as problem:
            return {**view, **trouble(problem)}

    def picked(self, name: Any, place: int) -> View:
        """An example was clicked: its picture and question. A suggested question comes as {"question": text}."""
        if isinstance(name, Mapping):
            return {"question": str(name.get("question") or "")}
        example = find(name)
        if example is None:
            return {"media_note": cards.note("There is no such example.")}
        texts = (example.question, *example.more)
        return {"media": str(example.path), "question": texts[place] if 0 <= place < len(texts) else example.question}

    def looked(self, model: str, path: str | None, *values: Any, new_picture: bool = False) -> View:
        """Overlays without an answer: a picture came in, or a setting that the browser cannot follow by itself."""
        if not path:
            return {"grid": None, **quiet()} if new_picture else {}
        try:
            settings = check(dict(zip(NAMES, values, strict=True)), question_needed=False)
            engine = self.host.engine(model, settings.newlines)
            encoded = engine.encode(self.pictures.at(path))
            pruner = pruner_of(settings, encoded.tokens.relevance_sign)
            asked = settings.question or UNASKED
            budget = min(settings.budget, len(encoded.tokens))

            def draw() -> View:
                selected = engine.select(encoded, asked, pruner=pruner, budget=budget)
                return drawn(selected, pruner, asdict(settings), model, set_budget=new_picture)

            view: View = {"grid": self.host.swift(draw), **quiet()}
            if new_picture:
                view["budget"] = {"maximum": len(encoded.tokens), "value": budget}
            if not settings.question:
                view["settings_note"] = cards.note(
                    f"No question yet, so relevance is for \u201c{UNASKED}\u201d.", "info"
                )
            return view
        except Exception as problem:
            return trouble(problem)

    def redraw(self, wish: dict[str, Any]) -> dict[str, Any] | None:
        """What a slider changes in the canvas's payload, for a canvas that asks by itself while a slider moves.

        `wish` has the payload's ticket (model and picture) and settings. None means: ask in full, through `looked`;
        that is the answer to anything that is not plainly possible, as this is called from the outside.
        """
        try:
            ticket, given = wish["ticket"], wish["settings"]
            settings = check({name: given[name] for name in NAMES if name in given}, question_needed=False)
            media = self.pictures.known(ticket["media"])
            if media is None:
                return None
            engine = self.host.engine(ticket["model"])
            encoded = engine.encode(media)
            pruner = pruner_of(settings, encoded.tokens.relevance_sign)
            budget = min(settings.budget, len(encoded.tokens))
            asked = {**asdict(settings), "title": pruner.title}

            def draw() -> dict[str, Any]:
                question = settings.question or UNASKED
                return moving(
                    payload(engine.select(encoded, question, pruner=pruner, budget=budget), pruner, [], asked=asked)
                )

            return self.host.swift(draw)
        except (KeyError, TypeError, AttributeError, Unusable, CannotPrune, QuestionError, NotReady):
            return None
        except Exception as problem:
            log.error("unexpected", exc_info=problem)
            return None

    def ask(self, model: str, path: str | None, *values: Any) -> Iterator[View]:
        """The answer from the kept tokens, streamed, then the one from all tokens, then how far they are apart."""
        yield {**quiet(), **_busy(True)}
        try:
            settings = check(dict(zip(NAMES, values, strict=True)))
            if not path:
                raise MediaError("Choose a picture first: upload one, paste one, or click an example.")
            engine = self.host.engine(model, settings.newlines)
            media = self.pictures.at(path)
            yield from both(engine, media, settings, model, self._remarks(engine, media))
        except Exception as problem:
            view = trouble(problem)
            if shortage.relieved(problem, lambda: self.host.engine(model).forget()):
                now = int(dict(zip(NAMES, values, strict=True))["budget"])
                view["question_note"] += shortage.offer("ask-budget", "ask-run", now, "tokens")
            yield {**view, "answers": {"state": "failed", "status": "No answer: see the note."}}
        yield _busy(False)

    def model_chosen(self, model: str, path: str | None, *values: Any, bits: str = "") -> Iterator[View]:
        """Another model in the list: say what it takes; show overlays at once if it is loaded."""
        yield chosen(self.host, model, bits)
        if self.host.loaded(model, bits):
            yield self.looked(model, path, *values, new_picture=True)
            yield {"badge": cards.badge(*self.host.badge(model))}

    def model_loaded(self, model: str, path: str | None, *values: Any, bits: str = "") -> Iterator[View]:
        """Load was pressed: how far it is; then overlays by the new model, or a sentence and the model from before."""
        try:
            yield from loading(self.host, model, bits)
        except Exception as problem:
            stays = self.host.default
            yield {
                "model_note": trouble(problem)["settings_note"],
                "badge": cards.badge(*self.host.badge()),
                "model": stays,
                "load": {"visible": False, "interactive": True},
            }
            return
        yield {"quick": {"visible": False}, "model": model}
        yield self.looked(model, path, *values, new_picture=True)

    # ---- parts -------------------------------------------------------------------------------------------------

    def _remarks(self, engine: Engine, media: Media) -> list[str]:
        if engine.info.only_stickers and media.key not in self._examples and media.key not in self.scenes:
            return [
                "The embedded model only knows sticker scenes; pick LLaVA-NeXT under Model for photos. "
                "The overlays are real: they show what Script does with this encoder's features."
            ]
        return []

    def prepare(self) -> None:
        """Answer the first example once, so that the page opens on an answer. Run in the background at start-up."""
        with self._guard:
            if self._opening is not None:
                return
            try:
                # The first run in a process pays for what is set up once, and its times would mislead: another picture.
                for example in (examples()[1], examples()[0]):
                    settings = DEFAULTS.but(question=example.question)
                    merged: View = {}
                    for view in self.ask("", str(example.path), *(getattr(settings, name) for name in NAMES)):
                        merged |= view
                if merged.get("answers", {}).get("state") == "done":
                    status = merged["answers"]["status"]
                    merged["answers"]["status"] = status.replace("live in", "live at server start in")
                    self._opening_media = read_image(example.path)
                    self._opening = merged
            finally:
                self._opening_tried = True  # last, as a page that waits looks at it without the lock

    def _other_picture(self, path: str | None) -> bool:
        try:
            return not path or self.pictures.at(path).key != self._first
        except MediaError:
            return True

    def _opening_view(self) -> View:
        if self._opening is None or self._opening_media is None:
            raise NotReady(self.host.trouble or "The first example could not be answered; press Ask to try again.")
        # The page's cache is cleared by age, so the picture may have to be written again.
        return {**self._opening, "grid": {**self._opening["grid"], "images": shown_pictures(self._opening_media)}}


def is_link(query: Mapping[str, str]) -> bool:
    """Whether a page's address asks something of this tab."""
    return any(name in query for name in LINKED_BY)


def _busy(on: bool) -> View:
    return {"stop": {"interactive": on}}
