"""What happens on the Ask tab, as plain functions: raw values in, named parts of the page out.

A function returns or yields `View`s: dicts from a part's name to its new value. A dict value is an update of that
part's properties. Nothing here knows a Gradio event, so all of it can be tested by calling it.
"""

from __future__ import annotations

import inspect
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from script_core.backends.base import CannotLoad
from script_core.cache import Store
from script_core.engine import Engine, QuestionError
from script_core.fidelity import kl
from script_core.media import Media, MediaError, read_image
from script_core.pruners import PRUNERS
from script_core.pruners.base import CannotPrune
from script_core.report import Encoded, Finished, FirstToken, Result, Selected, Text
from ui import cards
from ui.examples import examples, find
from ui.limits import read_picture
from ui.runtime import Host, NotReady
from ui.state import DEFAULTS, NAMES, Settings, Unusable, check, from_query
from ui.tokengrid import moving, payload, shown_pictures, title_of

log = logging.getLogger("script")
View = dict[str, Any]

GENERIC = "Something went wrong on the server. Nothing you entered was lost; try again, or reload the page."
GONE = "The picture is no longer on the server (uploads are deleted after an hour); upload it again."
UNASKED = "what is in the picture ?"
LARGE = "llava-hf/llava-v1.6-vicuna-7b-hf"  # offered in one click where a GPU can hold it
NOTES = ("media_note", "question_note", "settings_note")
FIELD_OF_PROBLEM = {"question": "question_note"}


def pruner_of(settings: Settings, sign: float = 1.0) -> Any:
    """An instance of the chosen method with those of the settings that it has. `sign` is the backbone's own."""
    cls = PRUNERS[settings.method]
    known = inspect.signature(cls).parameters
    options = {name: getattr(settings, name) for name in ("tau", "gamma", "p", "scope") if name in known}
    if "sign" in known and settings.flip:
        options["sign"] = -1 if sign > 0 else 1
    return cls(**options)


class AskHandlers:
    """The Ask tab's behaviour on one server. Holds no visitor's state: everything comes in as arguments."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._opening: View | None = None
        self._opening_media: Media | None = None
        self._guard = threading.Lock()
        # Sliders ask about the same file many times; decoding and hashing it takes longer than selecting.
        self._read: Store[Media] = Store(1 << 28, lambda media: sum(frame.nbytes for frame in media.frames))
        self._scenes = {read_image(example.path).key for example in examples() if example.is_scene}

    # ---- events ------------------------------------------------------------------------------------------------

    def arrived(self, query: Mapping[str, str]) -> View:
        """The page was opened: what a link says goes into the fields. Nothing here waits for a model."""
        view: View = {"badge": cards.badge(*self.host.badge())}
        if not _is_link(query):
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

    def opened(self, query: Mapping[str, str], model: str, path: str | None, *values: Any) -> Iterator[View]:
        """Then: the first example, answered live when the server started, or an answer to what the link asks."""
        try:
            if _is_link(query):
                yield from self.ask(model, path, *values)
            else:
                yield self._opening_view()
        except Exception as problem:
            yield self._trouble(problem)
        offered = not self.host.loaded(LARGE) and not self.host.obstacle(LARGE)
        yield {"badge": cards.badge(*self.host.badge(model)), "quick": {"visible": offered}}

    def picked(self, name: str, place: int) -> View:
        """An example was clicked: its picture and question."""
        example = find(name)
        if example is None:
            return {"media_note": cards.note("There is no such example.")}
        texts = (example.question, *example.more)
        return {"media": str(example.path), "question": texts[place] if 0 <= place < len(texts) else example.question}

    def looked(self, model: str, path: str | None, *values: Any, new_picture: bool = False) -> View:
        """Overlays without an answer: a picture came in, or a setting that the browser cannot follow by itself."""
        if not path:
            return {"grid": None, **_quiet()} if new_picture else {}
        try:
            settings = check(dict(zip(NAMES, values, strict=True)), question_needed=False)
            engine = self.host.engine(model, settings.newlines)
            encoded = engine.encode(self._media(path))
            pruner = pruner_of(settings, encoded.tokens.relevance_sign)
            asked = settings.question or UNASKED
            budget = min(settings.budget, len(encoded.tokens))

            def draw() -> View:
                selected = engine.select(encoded, asked, pruner=pruner, budget=budget)
                return self._grid(selected, pruner, settings, model, set_budget=new_picture)

            view: View = {"grid": self.host.swift(draw), **_quiet()}
            if new_picture:
                view["budget"] = {"maximum": len(encoded.tokens), "value": budget}
            if not settings.question:
                view["settings_note"] = cards.note(
                    f"No question yet, so relevance is for \u201c{UNASKED}\u201d.", "info"
                )
            return view
        except Exception as problem:
            return self._trouble(problem)

    def redraw(self, wish: dict[str, Any]) -> dict[str, Any] | None:
        """What a slider changes in the canvas's payload, for a canvas that asks by itself while a slider moves.

        `wish` has the payload's ticket (model and picture) and settings. None means: ask in full, through `looked`;
        that is the answer to anything that is not plainly possible, as this is called from the outside.
        """
        try:
            ticket, given = wish["ticket"], wish["settings"]
            settings = check({name: given[name] for name in NAMES if name in given}, question_needed=False)
            media = self._read.get(ticket["media"])
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
        yield {**_quiet(), **_busy(True)}
        try:
            settings = check(dict(zip(NAMES, values, strict=True)))
            if not path:
                raise MediaError("Choose a picture first: upload one, paste one, or click an example.")
            engine = self.host.engine(model, settings.newlines)
            yield from self._answer(engine, self._media(path), settings, model)
        except Exception as problem:
            view = self._trouble(problem)
            yield {**view, "answers": {"state": "failed", "status": "No answer: see the note."}}
        yield _busy(False)

    def stopped(self, answers: Mapping[str, Any] | None) -> View:
        """Stop was pressed; what has been said so far stays."""
        value = dict(answers or {})
        for name in ("pruned", "full"):
            part = dict(value.get(name) or {})
            if part.get("state") in ("streaming", "waiting"):
                value[name] = {**part, "state": "stopped"}
        return {**_busy(False), "answers": {**value, "state": "stopped", "status": "Stopped."}}

    def model_chosen(self, model: str, path: str | None, *values: Any) -> Iterator[View]:
        """Another model in the list: say what it takes; show overlays at once if it is loaded."""
        loaded = self.host.loaded(model)
        yield {
            "model_note": cards.note(self.host.about(model), "info"),
            "load": {"visible": not loaded, "interactive": not self.host.obstacle(model)},
        }
        if loaded:
            yield self.looked(model, path, *values, new_picture=True)
            yield {"badge": cards.badge(*self.host.badge(model))}

    def model_loaded(self, model: str, path: str | None, *values: Any) -> Iterator[View]:
        """Load was pressed."""
        yield {
            "badge": cards.badge("Loading the model ...", "loading"),
            "model_note": cards.note(f"Loading {model}. This can take minutes; the page stays usable.", "info"),
        }
        try:
            self.host.switch(model)
        except Exception as problem:
            yield {
                "model_note": self._trouble(problem)["settings_note"],
                "badge": cards.badge(*self.host.badge()),
                "model": self.host.first,
            }
            return
        yield {
            "model_note": cards.note("Loaded.", "info"),
            "load": {"visible": False},
            "quick": {"visible": False},
            "model": model,
        }
        yield self.looked(model, path, *values, new_picture=True)
        yield {"badge": cards.badge(*self.host.badge(model))}

    # ---- parts -------------------------------------------------------------------------------------------------

    def _media(self, path: str) -> Media:
        try:
            stat = os.stat(path)
        except OSError as error:
            raise MediaError(GONE) from error
        key = f"{path}|{stat.st_mtime_ns}|{stat.st_size}"
        media = self._read.get(key)
        if media is None:
            media = read_picture(path)
            self._read.put(key, media)
        self._read.put(media.key, media)  # `redraw` knows pictures by content
        return media

    def _grid(
        self, selected: Selected, pruner: Any, settings: Settings, model: str, *, set_budget: bool = False
    ) -> View:
        asked = {**asdict(settings), "title": pruner.title}
        media = selected.encoded.media
        value = payload(selected, pruner, shown_pictures(media), asked=asked, set_budget=set_budget)
        return {**value, "ticket": {"model": model, "media": media.key}}

    def _answer(self, engine: Engine, media: Media, settings: Settings, model: str) -> Iterator[View]:
        pair = _Pair(engine, media, settings, self._remarks(engine, media))
        started = time.perf_counter()
        yield {
            "answers": pair.value("running", "Encoding the picture ..."),
            "counters": cards.counters_html(None, None),
        }
        encoded = engine.encode(media)
        total = len(encoded.tokens)
        pruner = pruner_of(settings, encoded.tokens.relevance_sign)
        budget = min(settings.budget, total)
        pair.asked |= {"budget": total if settings.method == "full" else budget, "media": media.key[:16]}
        pair.titles(pruner.title, total if settings.method == "full" else budget, total)
        yield {"answers": pair.value("running", "Scoring tokens ..."), "budget": {"maximum": total, "value": budget}}
        ours: Result | None = None
        for event in self._events(engine, encoded, settings, pruner, budget):
            if isinstance(event, Selected):
                grid = self._grid(event, pruner, settings.but(budget=budget), model, set_budget=True)
                yield {"grid": grid, "answers": pair.value("running", "Answering from the kept tokens ...")}
            elif isinstance(event, Finished):
                ours = event.result
            else:
                pair.hear("pruned", event)
                yield {"answers": pair.value("running", "Answering from the kept tokens ...")}
        if ours is None:
            return
        pair.finish("pruned", ours)
        yield {
            "answers": pair.value("running", "Answering from all tokens ..."),
            "counters": cards.counters_html(ours.counters, None, _device(engine)),
        }
        theirs: Result | None = None
        for event in self._events(engine, encoded, settings, "full", total):
            if isinstance(event, Finished):
                theirs = event.result
            elif not isinstance(event, Selected):
                pair.hear("full", event)
                yield {"answers": pair.value("running", "Answering from all tokens ...")}
        if theirs is None:
            return
        pair.finish("full", theirs)
        pair.compare(ours, theirs)
        spent = time.perf_counter() - started
        yield {
            "answers": pair.value("done", f"Both answered live in {spent:.1f} s"),
            "counters": cards.counters_html(ours.counters, theirs.counters, _device(engine)),
        }

    def _events(self, engine: Engine, encoded: Encoded, settings: Settings, pruner: Any, budget: int) -> Iterator[Any]:
        """The engine's events; leaving early (Stop, a closed page) ends the run at the next token."""
        stop = threading.Event()
        try:
            yield from engine.stream(
                encoded,
                settings.question,
                pruner=pruner,
                budget=budget,
                max_new_tokens=settings.answer_tokens,
                stop=stop,
            )
        finally:
            stop.set()

    def _remarks(self, engine: Engine, media: Media) -> list[str]:
        if engine.info.only_stickers and media.key not in self._scenes:
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
            # The first run in a process pays for what is set up once, and its times would mislead: another picture.
            for example in (examples()[1], examples()[0]):
                settings = DEFAULTS.but(question=example.question)
                merged: View = {}
                for view in self.ask("", str(example.path), *(getattr(settings, name) for name in NAMES)):
                    merged |= view
            if merged.get("answers", {}).get("state") == "done":
                merged["answers"]["status"] = merged["answers"]["status"].replace("live in", "live at server start in")
                self._opening, self._opening_media = merged, read_image(example.path)

    def _opening_view(self) -> View:
        self.host.wait()
        self.prepare()
        if self._opening is None or self._opening_media is None:
            raise NotReady(self.host.trouble or "The first example could not be answered; press Ask to try again.")
        # The page's cache is cleared by age, so the picture may have to be written again.
        return {**self._opening, "grid": {**self._opening["grid"], "images": shown_pictures(self._opening_media)}}

    def _trouble(self, problem: BaseException) -> View:
        """The sentences for a failure, each beside its field. Never a traceback."""
        if isinstance(problem, Unusable):
            view = dict(_quiet())
            for name, text in problem.problems.items():
                part = FIELD_OF_PROBLEM.get(name, "settings_note")
                view[part] = view[part] + cards.note(text)
            return view
        if isinstance(problem, MediaError):
            return {**_quiet(), "media_note": cards.note(str(problem))}
        if isinstance(problem, QuestionError):
            return {**_quiet(), "question_note": cards.note(str(problem))}
        if isinstance(problem, CannotPrune | CannotLoad | NotReady):
            return {**_quiet(), "settings_note": cards.note(str(problem))}
        log.error("unexpected", exc_info=problem)
        return {**_quiet(), "settings_note": cards.note(GENERIC)}


class _Pair:
    """The two answers while they grow."""

    def __init__(self, engine: Engine, media: Media, settings: Settings, remarks: list[str]) -> None:
        self.asked: dict[str, Any] = {**asdict(settings), "media": media.key[:16], "title": title_of(settings.method)}
        self.parts: dict[str, dict[str, Any]] = {
            "pruned": {"title": title_of(settings.method), "text": "", "state": "waiting"},
            "full": {"title": "All tokens", "text": "", "state": "waiting"},
        }
        self.remarks = [*remarks, *media.notes]
        self.more: dict[str, Any] = {}

    def titles(self, method: str, budget: int, total: int) -> None:
        self.parts["pruned"]["title"] = f"{method}, {budget:,} tokens"
        self.parts["full"]["title"] = f"All {total:,} tokens"

    def hear(self, name: str, event: Any) -> None:
        if isinstance(event, FirstToken):
            self.parts[name] |= {"state": "streaming", "time": f"first token {cards.quantity(event.ttft_ms, 'ms')}"}
        elif isinstance(event, Text):
            self.parts[name] |= {"state": "streaming", "text": event.text}

    def finish(self, name: str, result: Result) -> None:
        text = result.answer or "(the model answered with nothing)"
        self.parts[name] |= {"state": "stopped" if result.stopped else "done", "text": text}
        if result.counters.generated >= self.asked["answer_tokens"] and not result.stopped:
            self._remark("An answer was cut at its length limit; raise it under Advanced.")
        if result.notice:
            self._remark(result.notice)
        for text in result.selection.notes:
            self._remark(text)

    def compare(self, ours: Result, theirs: Result) -> None:
        self.more = {"same": ours.answer == theirs.answer, "kl": kl(theirs.first_logits, ours.first_logits)}

    def _remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks.append(text)

    def value(self, state: str, status: str) -> View:
        parts = {name: dict(part) for name, part in self.parts.items()}
        return {
            "state": state,
            "status": status,
            **parts,
            "notices": self.remarks[:],
            "asked": dict(self.asked),
            **self.more,
        }


def _device(engine: Engine) -> str:
    info = engine.info
    return f"{info.name} on {info.device}, {info.dtype}; greedy decoding; one run, nothing averaged."


def _is_link(query: Mapping[str, str]) -> bool:
    return any(name in query for name in (*NAMES, "example", "model"))


def _quiet() -> View:
    return dict.fromkeys(NOTES, "")


def _busy(on: bool) -> View:
    return {"stop": {"interactive": on}}
