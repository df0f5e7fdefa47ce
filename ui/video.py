"""What happens on the Video tab, as plain functions: raw values in, named parts of the page out (see `handlers`)."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from script_core.backends import KNOWN
from script_core.engine import Engine
from script_core.media import Media, MediaError
from ui import cards, shortage
from ui.limits import LIMITS, read_either
from ui.model_card import chosen, loading
from ui.pictures import Files
from ui.runtime import ONLY_VIDEO, Host, NotReady
from ui.state import Unusable
from ui.tokengrid import shown_pictures, title_of
from ui.trouble import quiet, trouble
from ui.video_answer import Watched, both
from ui.video_examples import ExampleClip, clips, find_clip
from ui.video_share import text_for
from ui.video_state import DEFAULTS, FRAMES, NAMES, VideoSettings, check, from_query, heeds_scope, is_link
from ui.video_timeline import SHOWN_SIDE

View = dict[str, Any]

UNASKED = "what is in the video ?"
GONE = "The video is no longer on the server (uploads are deleted after an hour); upload it again."
PICTURE = "This is a picture; ask about it on the Ask tab, or choose a video here."
NONE_YET = "Choose a video first: upload one, or click an example."


class VideoHandlers:
    """The Video tab's behaviour on one server. Holds no visitor's state, only the finished opening answer."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._videos = Files(_read_video, GONE)
        self._opening: View | None = None
        self._guard = threading.Lock()
        self._examples = {_digest(clip.path): clip.id for clip in clips()}

    @property
    def first(self) -> str:
        """The model that the tab starts with: the server's own if it reads videos, else the embedded one."""
        return self.host.first if _frames_of(self.host.first) else ONLY_VIDEO[0]

    def prepare(self) -> None:
        """Load the tab's first model, so that its first visitor does not wait for it. Run in the background."""
        self.host.engine(self.first)

    # ---- events ------------------------------------------------------------------------------------------------

    def arrived(self, query: Mapping[str, str]) -> View:
        """The page was opened: what a link for this tab says goes into its fields."""
        if not is_link(query):
            return {"question_note": ""}  # an event has to return something
        settings, clip, model = self._linked(query)
        view: View = {name: getattr(settings, name) for name in NAMES}
        view["media"] = str(clip.path)
        if model:
            view["model"] = model
        view["each"] = {"value": settings.each, "maximum": max(settings.each, 144)}  # the range follows the video
        if notes := from_query(query)[1]:
            view["question_note"] = cards.note(" ".join(notes), "info")
        return view

    def opened(
        self, query: Mapping[str, str], answers: Any, model: str, path: str | None, *values: Any
    ) -> Iterator[View]:
        """The tab is on show for the first time: answer what the page's link says, or else what is set there, which
        for the opening is done once for all visitors."""
        if answers:
            yield {"stop": {}}  # every stream says something
            return
        if is_link(query):
            # Its fields may not have been filled yet: both start when the page opens.
            settings, clip, model = self._linked(query)
            yield from self.ask(model, str(clip.path), *(getattr(settings, name) for name in NAMES))
            return
        if not self._is_opening(model, path, values):
            yield from self.ask(model, path, *values)
            return
        with self._guard:
            held = self._opening
        if held is not None:
            # The page's cache is cleared by age, so the frames may have to be written again.
            frames = shown_pictures(self._videos.at(str(clips()[0].path), FRAMES[0]), SHOWN_SIDE)
            yield {**held, "grid": {**held["grid"], "images": frames}}
            return
        merged: View = {}
        for view in self.ask(model, path, *values):
            merged |= view
            yield view
        self._remember(merged)

    def picked(self, name: str, place: int) -> View:
        """An example was clicked: its clip and question."""
        clip = find_clip(name)
        if clip is None:
            return {"media_note": cards.note("There is no such example.")}
        texts = (clip.question, *clip.more)
        return {"media": str(clip.path), "question": texts[place] if 0 <= place < len(texts) else clip.question}

    def looked(self, model: str, path: str | None, *values: Any, new_video: bool = False) -> Iterator[View]:
        """Frames, overlays and timeline without an answer: another video, or a setting that the browser cannot follow
        by itself."""
        if not path:
            yield {"grid": None, **quiet()} if new_video else {"stop": {}}
            return
        if new_video:
            yield {**quiet(), "media_note": cards.note("Reading the video ...", "info")}
        try:
            settings = check(dict(zip(NAMES, values, strict=True)), question_needed=False)
            engine = self._engine(model)
            media = self._videos.at(path, settings.frames)
            asked = settings.but(question=settings.question or UNASKED)
            watched = Watched.of(engine, media, asked, self._example(path))
            selected = engine.select(
                watched.encoded, asked.question, pruner=watched.pruner, budget=watched.settings.budget
            )
            view: View = {"grid": watched.drawn(selected, set_budget=new_video), **quiet()}
            if new_video:
                view["each"] = watched.slider(settings.each)
            view["media_note"] = cards.note(" ".join(media.notes), "info")
            notes = _own_way(settings)
            if not settings.question:
                notes = [f"No question yet, so relevance is for \u201c{UNASKED}\u201d.", *notes]
            view["settings_note"] = cards.note(" ".join(notes), "info")
            yield view
        except Exception as problem:
            yield trouble(problem)

    def ask(self, model: str, path: str | None, *values: Any) -> Iterator[View]:
        """The answer from the kept tokens, streamed, then the one from all tokens, then how far they are apart."""
        yield {**quiet(), "stop": {"interactive": True}, "answers": _status("Loading the model ...")}
        try:
            settings = check(dict(zip(NAMES, values, strict=True)))
            if not path:
                raise MediaError(NONE_YET)
            engine = self._engine(model)
            yield {"answers": _status(f"1 of 4: reading {settings.frames} frames ...")}
            media = self._videos.at(path, settings.frames)
            example = self._example(path)
            remarks = [*_own_way(settings), *self._remarks(engine, media, example)]
            yield from both(engine, media, settings, example, remarks)
        except Exception as problem:
            view = trouble(problem)
            if shortage.relieved(problem, lambda: self._engine(model).forget()):
                now = int(dict(zip(NAMES, values, strict=True))["frames"])
                if now // 2 in FRAMES:
                    view["question_note"] += shortage.offer("video-frames", "video-run", now, "frames")
            yield {**view, "answers": {"state": "failed", "status": "No answer: see the note."}}
        yield {"stop": {"interactive": False}}

    def model_chosen(self, model: str, path: str | None, *values: Any, bits: str = "") -> Iterator[View]:
        """Another model in the list: say what it takes, and read as many frames as it was made for."""
        frames = min(_frames_of(model) or FRAMES[0], LIMITS.max_frames)
        given = dict(zip(NAMES, values, strict=True)) | {"frames": frames}
        yield {**chosen(self.host, model, bits), "frames": frames}
        if self.host.loaded(model, bits):
            yield from self.looked(model, path, *given.values(), new_video=True)

    def model_loaded(self, model: str, path: str | None, *values: Any, bits: str = "") -> Iterator[View]:
        """Load was pressed: how far it is, until it can be asked."""
        try:
            for view in loading(self.host, model, bits):
                yield {name: view[name] for name in ("model_note", "load")}
        except Exception as problem:
            load = {"visible": False, "interactive": True}
            yield {"model_note": trouble(problem)["settings_note"], "model": self.first, "load": load}
            return
        yield from self.looked(model, path, *values, new_video=True)

    def shared(self, kind: str, address: str, model: str, path: str | None, *values: Any) -> tuple[str, str]:
        """(these settings as a text to copy, a remark)."""
        try:
            settings = check(dict(zip(NAMES, values, strict=True)), question_needed=False)
        except ValueError as problem:
            return "", cards.note(str(problem))
        example = self._example(path) if path and Path(path).is_file() else ""
        text, note = text_for(kind, settings, address=address, example=example, model=model, first=self.first)
        return text, cards.note(note, "info")

    # ---- parts -------------------------------------------------------------------------------------------------

    def _linked(self, query: Mapping[str, str]) -> tuple[VideoSettings, ExampleClip, str]:
        """Settings, clip and model that a link names; "" if it names no model that is offered."""
        settings, _ = from_query(query)
        clip = find_clip(query.get("v_example", "")) or clips()[0]
        model = query.get("v_model", "")
        known = dict(map(reversed, self.host.video_choices()))
        return settings.but(question=settings.question or clip.question), clip, model if model in known else ""

    def _is_opening(self, model: str, path: str | None, values: Sequence[Any]) -> bool:
        """Whether this is what every visitor finds when the tab opens."""
        first = clips()[0]
        asked = dict(zip(NAMES, values, strict=True))
        try:
            usual = check(asked) == DEFAULTS.but(question=first.question)
        except Unusable:
            return False
        there = path is not None and Path(path).is_file()
        return usual and there and model in ("", self.first) and self._example(str(path)) == first.id

    def _remember(self, merged: View) -> None:
        answers = merged.get("answers", {})
        if answers.get("state") == "done" and merged.get("grid"):
            status = answers["status"].replace("live", "live when this tab was first opened on this server,")
            with self._guard:
                self._opening = {**merged, "answers": {**answers, "status": status}}

    def _engine(self, model: str) -> Engine:
        engine = self.host.engine(model or self.first)
        if not engine.info.frames:
            raise NotReady(f"{engine.info.name} takes pictures only; choose a model for videos under Model.")
        return engine

    def _example(self, path: str) -> str:
        return self._examples.get(_digest(Path(path)), "")

    def _remarks(self, engine: Engine, media: Media, example: str) -> list[str]:
        if not engine.info.only_stickers:
            return []
        remarks = []
        if not example:
            remarks.append(
                "The embedded model only knows sticker scenes that move; load LLaVA-Video under Model for other "
                "videos. The overlays are real: they show what Script does with this encoder's features."
            )
        if len(media.frames) > engine.info.frames:
            remarks.append(
                f"The embedded model was taught clips of {engine.info.frames} frames; {len(media.frames)} are more "
                "than it has seen, so trust the overlays more than the answer."
            )
        return remarks


def _read_video(path: str, frames: int) -> Media:
    media = read_either(path, frames)
    if media.kind != "video":
        raise MediaError(PICTURE)
    return media


def _frames_of(model: str) -> int:
    """How many frames a model was made for, as far as that is known without loading it."""
    return FRAMES[0] if model in ONLY_VIDEO else KNOWN[model].frames if model in KNOWN else 0


def _own_way(settings: VideoSettings) -> list[str]:
    if settings.scope == "crop" or heeds_scope(settings.method):
        return []
    return [f"{title_of(settings.method)} shares its budget out in its own way, whatever is chosen under Budget."]


def _digest(path: Path) -> str:
    """A file's content, by which an example is known wherever the page has put it."""
    if path.stat().st_size > 1 << 20:
        return ""  # no example is that large
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _status(text: str) -> View:
    return {"state": "running", "status": text}
