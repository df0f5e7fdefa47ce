"""What a sticker scene is: plain numbers in fractions of the canvas side, and what rendering it gives.

A `Scene` holds no pixels, so the same scene can be rendered at 168, 336 or 672 pixels and every question about it has
an answer that is known exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Sticker:
    """One object. `x`, `y` is its centre and `size` its longer side, in fractions of the canvas side.

    `angle` is in degrees, counter-clockwise; `flip` mirrors it left to right first. `colour` is one of `COLOURS` for a
    tintable name, None for the picture's own colours.
    """

    name: str
    colour: str | None = None
    x: float = 0.5
    y: float = 0.5
    size: float = 0.3
    angle: float = 0.0
    flip: bool = False


@dataclass(frozen=True)
class Word:
    """A short written word on a plate: centre, plate width as a fraction of the side, ink and paper colour (RGB)."""

    text: str
    x: float = 0.5
    y: float = 0.5
    size: float = 0.4
    angle: float = 0.0
    ink: RGB = (20, 20, 20)
    paper: RGB = (250, 250, 245)


@dataclass(frozen=True)
class Clutter:
    """A shape that is none of the objects: "triangle", "ring", "squiggle", "blob", "cross" or "zigzag"."""

    shape: str
    colour: RGB
    x: float
    y: float
    size: float
    angle: float = 0.0


@dataclass(frozen=True)
class Background:
    """What lies behind the stickers: a two-colour pattern and clutter on top of it.

    `pattern` is "flat", "gradient", "stripes", "checker", "noise" or "radial"; `scale` is the period or extent as a
    fraction of the side, `angle` in degrees, `x`, `y` the pattern's origin; `seed` chooses the texture of "noise".
    """

    pattern: str = "flat"
    first: RGB = (235, 235, 235)
    second: RGB = (200, 200, 200)
    scale: float = 0.2
    angle: float = 0.0
    x: float = 0.5
    y: float = 0.5
    seed: int = 0
    clutter: tuple[Clutter, ...] = ()


@dataclass(frozen=True)
class Scene:
    """Everything needed to render: stickers (later ones in front), background, words (in front of all stickers).

    `noise` is the standard deviation of the pixel noise in grey levels, `brightness` a gain on the finished picture.
    """

    stickers: tuple[Sticker, ...] = ()
    background: Background = Background()
    words: tuple[Word, ...] = ()
    noise: float = 0.0
    brightness: float = 1.0


@dataclass(frozen=True)
class Rendered:
    """`image`: uint8 (side, side, 3) RGB. `owner`: int16 (side, side), the visible sticker of each pixel or -1.

    Word k of a scene with n stickers owns its plate's pixels as number n + k.
    """

    image: np.ndarray
    owner: np.ndarray
