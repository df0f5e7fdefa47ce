"""Scenes that people put together themselves, and fresh random ones: from plain values to a checked `Scene`.

What comes in may come from anywhere, so everything is checked, and what is wrong with it is one sentence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from .canvas import Background, Scene, Sticker, Word
from .catalogue import COLOURS, NAMES, READABLE, TINTABLE
from .questions import MIX, ask
from .scenes import make_scene

LIMIT = 16  # stickers, the most that the model has been shown at once
SIZES = (0.06, 0.6)  # of the scene's side
WORD_SIZES = (0.2, 0.6)
FRESH_SEED = 460_019  # far below the seeds of training, and not one that a benchmark of ours uses

BACKGROUNDS: Mapping[str, Background] = MappingProxyType({
    "paper": Background("flat", (242, 240, 234)),
    "sky": Background("gradient", (150, 200, 240), (228, 242, 250), angle=90),
    "meadow": Background("gradient", (214, 236, 200), (128, 186, 110), angle=90),
    "sand": Background("noise", (236, 220, 184), (222, 200, 156), scale=0.3, seed=3),
    "tiles": Background("checker", (226, 232, 240), (206, 214, 226), scale=0.14),
    "curtain": Background("stripes", (246, 222, 222), (234, 196, 200), scale=0.1, angle=15),
    "spotlight": Background("radial", (250, 240, 205), (178, 190, 214)),
    "night": Background("gradient", (34, 42, 84), (74, 62, 120), angle=80),
})  # fmt: skip
"""What a composed scene can stand on, by name."""


class SceneError(ValueError):
    """A scene cannot be drawn; the message is one sentence that says what to change."""


def read_scene(given: Any) -> Scene:
    """The scene that plain values describe. Raises `SceneError`.

    given: {"background": a name of `BACKGROUNDS`, "stickers": [{"name", "colour", "x", "y", "size", "flip"}], "word":
    {"text", "x", "y", "size"} or None}. Positions are centres and sizes longer sides, in fractions of the scene's side;
    `colour` is one of `COLOURS` for the names in `TINTABLE` and None or absent for the others.
    """
    if not isinstance(given, Mapping):
        raise SceneError("The scene did not arrive whole; place the stickers again.")
    stickers = given.get("stickers")
    if not isinstance(stickers, list | tuple):
        raise SceneError("The scene did not arrive whole; place the stickers again.")
    if len(stickers) > LIMIT:
        raise SceneError(f"A scene can hold {LIMIT} stickers and this one has {len(stickers):,}; remove some.")
    word = given.get("word")
    if not stickers and not word:
        raise SceneError("The scene is empty; place at least one sticker on it.")
    name = given.get("background", "paper")
    if not isinstance(name, str) or name not in BACKGROUNDS:
        raise SceneError(f"There is no such background; choose one of {', '.join(BACKGROUNDS)}.")
    written = (_word(word),) if word else ()
    return Scene(tuple(_sticker(one) for one in stickers), BACKGROUNDS[name], written)


def _sticker(given: Any) -> Sticker:
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str) or given["name"] not in NAMES:
        raise SceneError(f"There is no such sticker; choose one of the {len(NAMES)} that are listed.")
    name, colour = given["name"], given.get("colour")
    if name in TINTABLE:
        if not isinstance(colour, str) or colour not in COLOURS:
            raise SceneError(f"The colour of a {name} must be one of {', '.join(COLOURS)}.")
    elif colour is not None:
        raise SceneError(f"The sticker {name} has only the colours of its picture; leave its colour out.")
    x, y, size = _place(given, SIZES, f"sticker {name}")
    return Sticker(name, colour, x, y, size, flip=given.get("flip") is True)


def _word(given: Any) -> Word:
    if not isinstance(given, Mapping) or not isinstance(given.get("text"), str) or given["text"] not in READABLE:
        raise SceneError(f"That word cannot be written; choose one of the {len(READABLE)} that are listed.")
    x, y, size = _place(given, WORD_SIZES, f"word {given['text']}")
    return Word(given["text"], x, y, size)


def _place(given: Mapping[str, Any], sizes: tuple[float, float], what: str) -> tuple[float, float, float]:
    x, y = _number(given.get("x")), _number(given.get("y"))
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise SceneError(f"The {what} lies outside of the scene; move it back.")
    size = _number(given.get("size"))
    if not sizes[0] <= size <= sizes[1]:
        low, high = (round(100 * value) for value in sizes)
        raise SceneError(f"The {what} must be {low} to {high} % of the scene's side in size.")
    return x, y, size


def _number(value: Any) -> float:
    """The number, or NaN, which no range holds."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def fresh(number: int, *, small: bool = False) -> Scene:
    """A random scene that training never saw; the same number gives the same scene.

    small: objects that need the tiles of the high-resolution mode. Raises ValueError for a negative number.
    """
    rng = np.random.default_rng([FRESH_SEED, number])
    sizes = (0.06, 0.2) if small else (0.13, 0.45)
    return make_scene(rng, objects=(3, 7), sizes=sizes, words=int(rng.random() < 0.2))


def suggest(scene: Scene, number: int = 0, count: int = 3) -> tuple[str, ...]:
    """Questions that the scene answers clearly, of different kinds as far as it allows; `number` varies them.

    "is there an apple ?" becomes "Is there an apple?": it is for people to read.
    """
    rng = np.random.default_rng([FRESH_SEED, number, 1])
    asked: list[str] = []
    for kind in rng.permutation([kind for kind in MIX if kind != "existence"]):
        if len(asked) < count - 1:
            asked += [question.text for question in ask(scene, rng, 1, {str(kind): 1.0})]
    asked += [question.text for question in ask(scene, rng, 2 * count, {"existence": 1.0})]
    return tuple(_spoken(text) for text in dict.fromkeys(asked))[:count]


def _spoken(text: str) -> str:
    return text[:1].upper() + text[1:].removesuffix(" ?") + "?"
