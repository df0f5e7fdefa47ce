"""One question about a video, answered twice: from the tokens that a method keeps, and from all."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

from script_core.engine import Engine
from script_core.media import Media
from script_core.report import Encoded, Finished, Result, Selected
from ui import cards
from ui.pair import Pair, ran_on
from ui.state import Settings, pruner_of
from ui.video_state import VideoSettings
from ui.video_timeline import drawn, places

View = dict[str, Any]


@dataclass(frozen=True)
class Watched:
    """An encoded video and what is asked of it: `settings` in tokens of the whole input, `count` places in time,
    `example` the id of the example clip that it is, or ""."""

    engine: Engine
    encoded: Encoded
    settings: Settings
    count: int
    example: str

    @classmethod
    def of(cls, engine: Engine, media: Media, wanted: VideoSettings, example: str) -> Watched:
        """Encode, which may only be a look into the store."""
        encoded = engine.encode(media)
        count = len(places(encoded.tokens.grid, media.times))
        return cls(engine, encoded, wanted.over(count, len(encoded.tokens)), count, example)

    @property
    def pruner(self) -> Any:
        return pruner_of(self.settings, self.encoded.tokens.relevance_sign)

    def slider(self, each: int) -> View:
        """The slider of tokens per frame, for this video."""
        most = len(self.encoded.tokens) // self.count
        return {"maximum": most, "value": min(each, most)}

    def drawn(self, selected: Selected, *, set_budget: bool) -> View:
        """The canvas's payload for a selection."""
        return drawn(selected, self.pruner, self.settings, example=self.example, set_budget=set_budget)

    def events(self, pruner: Any, budget: int) -> Iterator[Any]:
        """The engine's events; leaving early (Stop, a closed page) ends the run at the next token."""
        stop = threading.Event()
        asked = self.settings
        try:
            yield from self.engine.stream(
                self.encoded,
                asked.question,
                pruner=pruner,
                budget=budget,
                max_new_tokens=asked.answer_tokens,
                stop=stop,
            )
        finally:
            stop.set()


def both(engine: Engine, media: Media, wanted: VideoSettings, example: str, remarks: list[str]) -> Iterator[View]:
    """The stream of one question: canvas and timeline, the pruned answer, the full one, how far apart they are."""
    frames = len(media.frames)
    pair = Pair(media, wanted.over(frames, wanted.each * frames), remarks)
    started = time.perf_counter()
    yield {
        "answers": pair.value("running", f"2 of 4: encoding {frames} frames ..."),
        "counters": cards.counters_html(None, None),
    }
    watched = Watched.of(engine, media, wanted, example)
    total, budget = len(watched.encoded.tokens), watched.settings.budget
    pair.asked |= {"budget": budget, "what": "video or number of frames"}
    pair.titles(watched.pruner.title, budget, total)
    says = f"3 of 4: answering from {budget:,} tokens ..."
    yield {"answers": pair.value("running", says), "each": watched.slider(wanted.each)}
    ours = yield from _told(pair, "pruned", says, watched, watched.events(watched.pruner, budget))
    if ours is None:
        return
    if ours.declined:
        yield {"answers": pair.value("done", "From the page: the model was not asked, and no tokens were generated.")}
        return
    says = f"4 of 4: answering from all {total:,} tokens ..."
    cost = cards.counters_html(ours.counters, None, ran_on(engine))
    yield {"answers": pair.value("running", says), "counters": cost}
    theirs = yield from _told(pair, "full", says, watched, watched.events("full", total))
    if theirs is None:
        return
    pair.compare(ours, theirs)
    yield {
        "answers": pair.value("done", f"Both answered live in {time.perf_counter() - started:.1f} s"),
        "counters": cards.counters_html(ours.counters, theirs.counters, ran_on(engine)),
    }


def _told(
    pair: Pair, name: str, says: str, watched: Watched, events: Iterator[Any]
) -> Generator[View, None, Result | None]:
    """One of the two answers, word by word; the pruned one's selection goes onto the canvas."""
    for event in events:
        if isinstance(event, Finished):
            pair.finish(name, event.result)
            return event.result
        if not isinstance(event, Selected):
            pair.hear(name, event)
            yield {"answers": pair.value("running", says)}
        elif name == "pruned":
            yield {"grid": watched.drawn(event, set_budget=True), "answers": pair.value("running", says)}
    return None
