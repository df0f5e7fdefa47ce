"""One question about a video, answered twice: from the tokens that a method keeps, and from all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from script_core.engine import Engine
from script_core.media import Media
from script_core.report import Encoded, Selected
from ui import cards
from ui.pair import Pair, Twice, answered
from ui.state import Settings, pruner_of
from ui.tokengrid import model_of
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


def both(engine: Engine, media: Media, wanted: VideoSettings, example: str, remarks: list[str]) -> Iterator[View]:
    """One question about a video: canvas and timeline, the pruned answer, the full one, how far apart they are."""
    frames = len(media.frames)
    pair = Pair(media, wanted.over(frames, wanted.each * frames), remarks)
    yield {
        "answers": pair.value("running", f"2 of 4: encoding {frames} frames ..."),
        "counters": cards.counters_html(None, None),
    }
    watched = Watched.of(engine, media, wanted, example)
    total, budget = len(watched.encoded.tokens), watched.settings.budget
    pair.asked |= {"budget": budget, "model": model_of(watched.encoded), "what": "video or number of frames"}
    pair.titles(watched.pruner.title, budget, total)
    says = {
        "pruned": f"3 of 4: answering from {budget:,} tokens ...",
        "full": f"4 of 4: answering from all {total:,} tokens ...",
    }
    yield {"answers": pair.value("running", says["pruned"]), "each": watched.slider(wanted.each)}
    canvas = lambda event: watched.drawn(event, set_budget=True)  # noqa: E731
    yield from answered(pair, Twice(engine, watched.encoded, watched.settings, watched.pruner, says, canvas))
