"""Sticker scenes drawn from a random generator: the same generator state gives the same scene.

The dataclasses live in `canvas`, the pixels come from `rendering`; both are offered here too, as this is the module
that everything outside the package imports.
"""

from __future__ import annotations

import math

import numpy as np

from .canvas import RGB, Background, Clutter, Rendered, Scene, Sticker, Word
from .catalogue import COLOURS, NAMES, READABLE, TINTABLE
from .rendering import CLUTTER, NOISE_TEXTURES, PATTERNS, coverage, footprint, plate_ratio, render

__all__ = [
    "Background", "Clutter", "Rendered", "Scene", "Sticker", "Word", "coverage", "make_scene", "render",
]  # fmt: skip


def make_scene(
    rng: np.random.Generator,
    *,
    objects: tuple[int, int] = (1, 9),
    sizes: tuple[float, float] = (0.11, 0.45),
    duplicates: float = 0.3,
    busy: float = 0.5,
    words: int = 0,
) -> Scene:
    """Draw a scene: how many objects (inclusive range, 0 to 16) and how large (fractions of the side).

    `duplicates` is the share of scenes in which names repeat, `busy` the share with clutter in the background,
    `words` how many written words to add (0 to 2). Every sticker stays at least 60 % visible and mostly inside the
    canvas; an object that finds no such place is left out, so a crowded scene can hold fewer than asked for.
    Tintable names come up twice as often as the others. Raises ValueError for ranges that make no sense.
    """
    if not 0 <= objects[0] <= objects[1] <= 16:
        raise ValueError(f"objects={objects} must be a range within 0 to 16, such as (1, 9).")
    if not 0.02 <= sizes[0] <= sizes[1] <= 0.9:
        raise ValueError(f"sizes={sizes} must be a range within 0.02 to 0.9, such as (0.11, 0.45).")
    if not 0 <= words <= 2:
        raise ValueError(f"words={words} must be 0, 1 or 2.")
    number = objects[0] + int(rng.random() * (objects[1] - objects[0] + 1))
    # Half of the scenes keep their objects apart; 0.8 on the coarse grid leaves at least 60 % on the finished pixels.
    occupied = Occupancy(visible=0.97 if rng.random() < 0.5 else 0.8)
    written = tuple(word for word in (_draw_word(rng, occupied) for _ in range(words)) if word)
    # Sixteen objects of nearly half the side do not fit: the crowd decides how large one may be.
    largest = max(sizes[0], min(sizes[1], 1.05 / math.sqrt(max(number + 2 * words, 1))))
    stickers = []
    for name, colour in _draw_names(rng, number, duplicates):
        sticker = _place(rng, name, colour, (sizes[0], largest), occupied)
        if sticker is not None:
            stickers.append(sticker)
    noise = 2 + 10 * rng.random() if rng.random() < 0.3 else 0.0
    brightness = 0.75 + 0.4 * rng.random() if rng.random() < 0.3 else 1.0
    return Scene(tuple(stickers), draw_background(rng, busy), written, noise, brightness)


_DRAWN_NAMES: tuple[str, ...] = NAMES + tuple(sorted(TINTABLE))


def _draw_names(rng: np.random.Generator, number: int, duplicates: float) -> list[tuple[str, str | None]]:
    """Names with colours. With duplicates one name comes 2 to 6 times, which is what makes counting worth asking."""
    names: list[str] = []
    if number >= 2 and rng.random() < duplicates:
        copies = 2 + int(rng.random() * (min(number, 6) - 1))
        names = [_DRAWN_NAMES[int(rng.random() * len(_DRAWN_NAMES))]] * copies
    while len(names) < number:
        name = _DRAWN_NAMES[int(rng.random() * len(_DRAWN_NAMES))]
        if name not in names:
            names.append(name)
    order = rng.permutation(number)
    # Copies share one colour half of the time, so that "three red cars" and "a red and a blue car" both occur.
    shared = COLOURS[int(rng.random() * 6)] if rng.random() < 0.5 else None
    drawn: list[tuple[str, str | None]] = []
    for i in order:
        name = names[i]
        colour = COLOURS[int(rng.random() * 6)] if name in TINTABLE else None
        drawn.append((name, shared if colour and shared and name == names[0] else colour))
    return drawn


def _place(
    rng: np.random.Generator, name: str, colour: str | None, sizes: tuple[float, float], occupied: Occupancy
) -> Sticker | None:
    low, high = math.log(sizes[0]), math.log(sizes[1])
    for attempt in range(24):
        # After half of the attempts go small: a large sticker may have no place left.
        size = math.exp(low + (high - low) * float(rng.random()) * (1 if attempt < 12 else 0.3))
        edge = 0.42 * size
        x, y = (edge + (1 - 2 * edge) * float(rng.random()) for _ in range(2))
        angle = -25 + 50 * float(rng.random()) if rng.random() < 0.8 else 0.0
        sticker = Sticker(name, colour, x, y, size, angle, bool(rng.random() < 0.5))
        if occupied.add(sticker):
            return sticker
    return None


def _draw_word(rng: np.random.Generator, occupied: Occupancy) -> Word | None:
    text = READABLE[int(rng.random() * len(READABLE))]
    dark, light = _dark(rng), _light(rng)
    ink, paper = (dark, light) if rng.random() < 0.7 else (light, dark)
    for _ in range(12):
        size = 0.28 + 0.27 * float(rng.random())
        x = size / 2 + (1 - size) * float(rng.random())
        y = 0.1 + 0.8 * float(rng.random())
        word = Word(text, x, y, size, -12 + 24 * float(rng.random()), ink, paper)
        if occupied.add_box(x, y, size, size * plate_ratio(text)):
            return word
    return None


def _dark(rng: np.random.Generator) -> RGB:
    return (int(rng.random() * 90), int(rng.random() * 60), int(rng.random() * 90))


def _light(rng: np.random.Generator) -> RGB:
    return (215 + int(rng.random() * 40), 215 + int(rng.random() * 40), 215 + int(rng.random() * 40))


def draw_background(rng: np.random.Generator, busy: float = 0.5) -> Background:
    """A random pattern in two colours of one scheme; with probability `busy` some clutter on top."""
    first = _any_colour(rng)
    # The second colour is a shade of the first or, for a quarter, unrelated: contrast without drowning the stickers.
    if rng.random() < 0.25:
        second = _any_colour(rng)
    else:
        gain = 0.6 + 0.75 * float(rng.random())
        second = (min(255, int(first[0] * gain)), min(255, int(first[1] * gain)), min(255, int(first[2] * gain)))
    clutter = tuple(_draw_clutter(rng) for _ in range(1 + int(rng.random() * 6))) if rng.random() < busy else ()
    return Background(
        PATTERNS[int(rng.random() * len(PATTERNS))],
        first,
        second,
        0.06 + 0.3 * float(rng.random()) ** 1.5,
        180 * float(rng.random()),
        float(rng.random()),
        float(rng.random()),
        int(rng.random() * NOISE_TEXTURES),
        clutter,
    )


def _any_colour(rng: np.random.Generator) -> RGB:
    red, green, blue = (int(256 * v) for v in rng.random(3))
    if rng.random() < 0.5:  # pale, as most pictures that people compose are
        return (155 + red * 100 // 255, 155 + green * 100 // 255, 155 + blue * 100 // 255)
    return (red, green, blue)


def _draw_clutter(rng: np.random.Generator) -> Clutter:
    shape = CLUTTER[int(rng.random() * len(CLUTTER))]
    x, y, size = float(rng.random()), float(rng.random()), 0.05 + 0.2 * float(rng.random())
    return Clutter(shape, _any_colour(rng), x, y, size, 360 * float(rng.random()))


class Occupancy:
    """Who covers what on a 64 x 64 grid, to keep every sticker visible while a scene is being put together."""

    GRID = 64
    INSIDE = 0.86

    def __init__(self, visible: float) -> None:
        self.visible = visible
        self.taken = np.zeros((self.GRID, self.GRID), bool)  # words, which lie in front of everything
        self.masks: list[tuple[float, np.ndarray, float, float, float]] = []  # full area, visible mask, x, y, size

    def add(self, sticker: Sticker) -> bool:
        """Claim a sticker's place, in front of all before it; False (and no change) if someone would be hidden."""
        mask, area = footprint(sticker, self.GRID)
        shown = mask & ~self.taken
        if np.count_nonzero(shown) < max(self.INSIDE * area, 2):
            return False
        reach = 0.71
        changed: list[tuple[int, np.ndarray]] = []
        for i, (full, visible, x, y, size) in enumerate(self.masks):
            if math.hypot(sticker.x - x, sticker.y - y) > reach * (sticker.size + size):
                continue
            left = visible & ~shown
            if np.count_nonzero(left) < self.visible * full:
                return False
            changed.append((i, left))
        for i, left in changed:
            self.masks[i] = (self.masks[i][0], left, *self.masks[i][2:])
        self.masks.append((area, shown, sticker.x, sticker.y, sticker.size))
        return True

    def add_box(self, x: float, y: float, width: float, height: float) -> bool:
        """Claim a box in front of everything; only before the stickers come. False if it meets another box."""
        half, tall = width / 2 + 0.02, height / 2 + width * 0.1 + 0.02
        if y - tall < 0 or y + tall > 1:
            return False
        rows = slice(int((y - tall) * self.GRID), math.ceil((y + tall) * self.GRID))
        cols = slice(max(int((x - half) * self.GRID), 0), math.ceil((x + half) * self.GRID))
        if self.taken[rows, cols].any():
            return False
        self.taken[rows, cols] = True
        return True
