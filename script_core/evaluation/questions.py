"""The questions of the embedded benchmark: fixed seeds, a version, and the same sequence for every method.

Scene after scene, six questions each at most, so that the first n questions of a longer run are the run of n. Whether
absent objects are drawn at random, among the popular ones or adversarially (POPE, Li et al., 2023) goes round scene by
scene. A suite is one kind of question; existence has one per kind of negatives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from script_core.media import Media
from script_core.stickers.canvas import Scene
from script_core.stickers.clips import ask_clip, make_clip
from script_core.stickers.questions import NEGATIVES, Question, ask
from script_core.stickers.rendering import render
from script_core.stickers.scenes import make_scene

VERSION = "stickers-2"  # raise it whenever a scene or a question of the sequence changes
SEEDS = {"image": 2_512, "video": 2_513, "tiles": 2_514}  # training uses 1,000,000 and more
SIZES = {"image": 2_000, "video": 500, "tiles": 500}
# Of pictures; clips have a mix of their own. Fixed with the version, whatever else is measured elsewhere.
MIX = {
    "existence": 0.34, "colour": 0.11, "kind": 0.11, "count": 0.14, "where": 0.09, "leftright": 0.08,
    "abovebelow": 0.07, "nextto": 0.06,
}  # fmt: skip
TILES_MIX = {"existence": 0.6, "colour": 0.2, "kind": 0.2}
PER_SCENE = {"image": 6, "video": 3, "tiles": 5}
SIDE = 336
FRAMES = 8
ARRIVALS = 0.3  # share of clips that are sure to have two arrivals, so that every kind is asked often enough


@dataclass(frozen=True)
class Item:
    """One question. `key` names it for ever within a version; `suite` is what it is averaged with."""

    key: str
    scene: int
    suite: str
    text: str
    answer: str

    @property
    def yes_no(self) -> bool:
        """Whether it counts for F1: existence questions, as in POPE, and their like for videos."""
        return self.suite.startswith(("existence", "appears"))


@dataclass(frozen=True)
class Sheet:
    """One scene (or clip, one scene per frame) with its questions."""

    number: int
    scenes: tuple[Scene, ...]
    items: tuple[Item, ...]
    side: int = SIDE

    def media(self) -> Media:
        """The pixels; drawing them takes longer than everything else here, so it waits until they are needed."""
        frames = [render(scene, self.side).image for scene in self.scenes]
        return Media.of(frames, tuple(float(t) for t in range(len(frames))) if len(frames) > 1 else ())


def sheets(kind: str, count: int) -> Iterator[Sheet]:
    """Scenes with `count` questions in all. kind: "image", "video", or "tiles": small stickers in 672 px pictures.

    Raises ValueError for more than there are.
    """
    if kind not in SIZES:
        raise ValueError(f"There are {', '.join(SIZES)} questions, no {kind!r} ones.")
    if not 1 <= count <= SIZES[kind]:
        raise ValueError(f"There are {SIZES[kind]:,} {kind} questions; ask for 1 to {SIZES[kind]:,}, not {count:,}.")
    left, number = count, 0
    while left:
        sheet = _sheet(kind, number, left)
        if sheet.items:
            yield sheet
        left -= len(sheet.items)
        number += 1


def _sheet(kind: str, number: int, left: int) -> Sheet:
    rng = np.random.default_rng([SEEDS[kind], number])
    if kind == "video":
        clip = make_clip(rng, FRAMES, arrivals=ARRIVALS)
        scenes: tuple[Scene, ...] = clip.frames
        asked = ask_clip(clip, rng, PER_SCENE[kind])
    else:
        negatives = NEGATIVES[number % len(NEGATIVES)]
        small = kind == "tiles"
        drawn = make_scene(rng, objects=(3, 14), sizes=(0.036, 0.09)) if small else make_scene(rng, objects=(3, 9))
        scenes = (drawn,)
        asked = ask(drawn, rng, PER_SCENE[kind], TILES_MIX if small else MIX, negatives)
    items = tuple(
        Item(f"{kind}-{number}-{place}", number, _suite(question, number), question.text, question.answer)
        for place, question in enumerate(asked[:left])
    )
    return Sheet(number, scenes, items, 2 * SIDE if kind == "tiles" else SIDE)


def _suite(question: Question, number: int) -> str:
    if question.kind == "existence":
        return f"existence, {NEGATIVES[number % len(NEGATIVES)]}"
    return question.kind


def digest(kind: str) -> str:
    """A fingerprint of the sequence: its first sixty questions with their answers."""
    found = hashlib.sha256(f"{VERSION}|{kind}|{SEEDS[kind]}".encode())
    for sheet in sheets(kind, 60):
        for item in sheet.items:
            found.update(f"{item.key}|{item.suite}|{item.text}|{item.answer}\n".encode())
    return found.hexdigest()[:16]
