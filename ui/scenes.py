"""Sticker scenes on the Ask tab: a fresh one, one that a visitor composed, and what the composer needs to show."""

from __future__ import annotations

import random
import threading
from collections import OrderedDict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from gradio import processing_utils
from gradio.utils import get_upload_folder
from PIL import Image

from script_core.stickers.atlas import PAINT, sprites
from script_core.stickers.canvas import Scene
from script_core.stickers.catalogue import COLOURS, KINDS, NAMES, READABLE, TINTABLE
from script_core.stickers.composing import BACKGROUNDS, LIMIT, SIZES, WORD_SIZES, SceneError, fresh, read_scene, suggest
from script_core.stickers.rendering import paint_background, plate_ratio, render
from script_core.stickers.synonyms import NOUN_SYNONYMS
from ui import cards
from ui.examples import strip
from ui.pictures import Pictures
from ui.runtime import EMBEDDED_TITLES, Host

View = dict[str, Any]

SIDE = 672  # pixels, as the examples have; the high-resolution mode reads all of them
CELL, COLUMNS, GROUND, GROUND_PAD = 80, 12, 160, 16
REMEMBERED = 4096  # scenes drawn here, so that the page does not warn about its own pictures


class Scenes:
    """Draws scenes for visitors. Holds no visitor's state, only the content addresses of what was drawn lately."""

    def __init__(self, host: Host, pictures: Pictures) -> None:
        self.host, self.pictures = host, pictures
        self._drawn: OrderedDict[str, None] = OrderedDict()
        self._guard = threading.Lock()

    def __contains__(self, key: str) -> bool:
        return key in self._drawn

    def offered(self, model: str = "") -> bool:
        """Whether scenes are of any use: no other model than the embedded one was taught them."""
        return (model or self.host.first) in EMBEDDED_TITLES

    def new(self, model: str) -> View:
        """A random scene that training never saw, with questions that it answers clearly."""
        number = random.SystemRandom().getrandbits(48)
        return self._placed(fresh(number, small=model == "stickers-anyres"), number)

    def composed(self, given: Any) -> View:
        """What a visitor put together, drawn; or a sentence beside the composer."""
        try:
            return {**self._placed(read_scene(given), 0), "composer_note": ""}
        except SceneError as problem:
            return {"composer_note": cards.note(str(problem))}

    def _placed(self, scene: Scene, number: int) -> View:
        picture = Image.fromarray(render(scene, SIDE).image)
        path = processing_utils.save_pil_to_cache(picture, cache_dir=get_upload_folder(), format="png")
        key = self.pictures.at(path).key
        with self._guard:
            self._drawn[key] = None
            while len(self._drawn) > REMEMBERED:
                self._drawn.popitem(last=False)
        questions = suggest(scene, number)
        return {
            "media": path,
            "question": questions[0],
            "media_note": "",
            "examples": {**strip(), "scene": {"media": key[:16], "questions": list(questions)}},
        }


def palette() -> View:
    """What the composer shows: every sticker on one sheet, backgrounds on another, names, limits and synonyms."""
    looks = [(name, colour) for name in NAMES for colour in (COLOURS if name in TINTABLE else (None,))]
    also: dict[str, list[str]] = {}
    for word, name in NOUN_SYNONYMS.items():
        also.setdefault(name, []).append(word)
    return {
        "sheet": _served(_sheet()),
        "grounds": _served(_grounds()),
        "columns": COLUMNS,
        "cells": {name if colour is None else f"{name}/{colour}": i for i, (name, colour) in enumerate(looks)},
        "kinds": {kind: list(names) for kind, names in KINDS.items()},
        "also": {name: " ".join(words) for name, words in also.items()},
        "colours": {name: "rgb({} {} {})".format(*PAINT[name]) for name in COLOURS},
        "tintable": sorted(TINTABLE),
        "backgrounds": list(BACKGROUNDS),
        "words": {word: round(plate_ratio(word), 4) for word in READABLE},
        "pad": GROUND_PAD / GROUND,
        "limit": LIMIT,
        "sizes": list(SIZES),
        "word_sizes": list(WORD_SIZES),
    }


def _served(path: Path) -> View:
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


_EDGES = ((0, 0), (GROUND_PAD, GROUND_PAD), (0, 0))


@cache
def _pictures() -> tuple[Image.Image, Image.Image]:
    held = [levels[0] for (name, colour), levels in sprites().items() if (colour is None) != (name in TINTABLE)]
    sheet = Image.new("RGBA", (COLUMNS * CELL, -(-len(held) // COLUMNS) * CELL))
    for i, pixels in enumerate(held):
        # Sprites are premultiplied ("RGBa"), files are not.
        whole = Image.frombytes("RGBa", (pixels.shape[1], pixels.shape[0]), np.ascontiguousarray(pixels).tobytes())
        small = whole.resize((CELL, CELL), Image.Resampling.LANCZOS).convert("RGBA")
        sheet.paste(small, (i % COLUMNS * CELL, i // COLUMNS * CELL))
    grounds = [np.pad(paint_background(ground, GROUND), _EDGES, mode="edge") for ground in BACKGROUNDS.values()]
    return sheet, Image.fromarray(np.hstack(grounds))


def _sheet() -> Path:
    return _kept(0, "stickers.webp")


def _grounds() -> Path:
    return _kept(1, "backgrounds.webp")


def _kept(which: int, name: str) -> Path:
    """The file in the page's cache, which is cleared by age, so it may have to be written again."""
    path = Path(get_upload_folder()) / "script-composer" / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{threading.get_ident()}.part")
        _pictures()[which].save(partial, format="webp", quality=82, method=4)
        partial.replace(path)
    return path
