"""Scenes and questions for measuring: pictures, high resolution and clips, from seeds that training never uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from script_core.media import Media
from script_core.stickers import clips
from script_core.stickers.batches import TRAINING_SEED, owners
from script_core.stickers.canvas import Scene
from script_core.stickers.clips import Clip, ask_clip, make_clip
from script_core.stickers.layouts import SIDE, film, mosaic_ids, tiled
from script_core.stickers.questions import Question, ask
from script_core.stickers.rendering import render
from script_core.stickers.scenes import make_scene

FRAMES = 8
ARRIVALS = 0.3  # share of clips that are sure to have two arrivals, so that every kind is asked often enough
SECONDS = 0.5  # between two frames
HARD: Mapping[str, tuple[float, float]] = {"objects": (1, 16), "sizes": (0.06, 0.48)}  # 20 to 160 px of 336


@dataclass(frozen=True)
class Mode:
    """One way of reading: which embedded model, how many tokens it has, what is asked, how many questions a scene."""

    model: str
    tokens: int
    mix: Mapping[str, float]
    per_scene: int


MIX: Mapping[str, float] = {
    "existence": 0.32, "colour": 0.1, "kind": 0.1, "count": 0.13, "where": 0.09, "leftright": 0.08,
    "abovebelow": 0.07, "nextto": 0.06, "reading": 0.16,
}  # fmt: skip
MODES: Mapping[str, Mode] = {
    "image": Mode("stickers", 576, MIX, 6),
    "anyres": Mode("stickers-anyres", 2880, {"existence": 0.6, "colour": 0.2, "kind": 0.2}, 5),
    "video": Mode("stickers-video", 1152, clips.MIX, 3),
}
"""Reading has a large share because only every third scene has a word. Clips are asked about by `ask_clip`'s
own mix; a `mix` only leaves kinds out."""


@dataclass(frozen=True)
class Sheet:
    """One scene or clip with its questions. `style`: the emoji it is drawn with."""

    mode: str
    scene: Scene
    clip: Clip | None
    asked: tuple[Question, ...]

    def media(self, style: str = "noto") -> Media:
        """The pixels, as a visitor would hand them in."""
        if self.clip is not None:
            frames = [render(scene, SIDE, style).image for scene in self.clip.frames]
            return Media.of(frames, tuple(SECONDS * t for t in range(len(frames))))
        side = 2 * SIDE if self.mode == "anyres" else SIDE
        return Media.of([render(self.scene, side, style).image])

    @cached_property
    def owner(self) -> np.ndarray:
        """(n,) which sticker each visual token shows, in the order of the backends' tokens (see `batches.owners`)."""
        if self.clip is not None:
            rows = zip(film(self.clip).cells, self.clip.present, strict=True)
            return np.concatenate([np.where(row < 0, row, np.array([*here, 0])[row]) for row, here in rows])
        if self.mode == "anyres":
            return tiled(self.scene).owner.ravel()[np.argsort(mosaic_ids().ravel())]
        return owners(render(self.scene, SIDE).owner, len(self.scene.stickers) + len(self.scene.words))


def held_out(
    seed: int,
    questions: int,
    mode: str = "image",
    *,
    mix: Mapping[str, float] | None = None,
    negatives: str = "random",
    hard: bool = False,
) -> Iterator[Sheet]:
    """Scenes with their questions until there are `questions`, the same for every method.

    mix: instead of the mode's own. hard: pictures of 1 to 16 stickers of 20 to 160 px instead of the usual ones.
    Raises ValueError for a seed that training uses or a mode that is not in `MODES`.
    """
    if not 0 <= seed < TRAINING_SEED:
        raise ValueError(f"Seed {seed} is not held out; use one from 0 to {TRAINING_SEED - 1}.")
    if mode not in MODES:
        raise ValueError(f"mode={mode!r} must be one of {', '.join(MODES)}.")
    wanted = dict(MODES[mode].mix if mix is None else mix)
    left = questions
    for number in range(100 * questions):
        if left <= 0:
            return
        rng = np.random.default_rng([seed, number])
        sheet = _sheet(mode, rng, min(MODES[mode].per_scene, left), wanted, negatives, hard)
        left -= len(sheet.asked)
        if sheet.asked:
            yield sheet


def _sheet(
    mode: str, rng: np.random.Generator, count: int, mix: Mapping[str, float], negatives: str, hard: bool
) -> Sheet:
    if mode == "video":
        clip = make_clip(rng, FRAMES, arrivals=ARRIVALS)
        cast = replace(clip.frames[0], stickers=clip.cast)
        return Sheet(mode, cast, clip, tuple(q for q in ask_clip(clip, rng, count) if q.kind in mix))
    if mode == "anyres":
        scene = make_scene(rng, objects=(3, 14), sizes=(0.036, 0.09))
    else:
        words = int("reading" in mix and rng.random() < 0.33)
        scene = make_scene(rng, **(HARD if hard else {}), words=words)  # type: ignore[arg-type]
    return Sheet(mode, scene, None, tuple(ask(scene, rng, count, mix, negatives)))
