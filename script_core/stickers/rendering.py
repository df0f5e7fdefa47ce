"""From a scene to pixels: background texture, stickers, words, and who owns each pixel.

Everything is an affine warp of a small cached texture or sprite through OpenCV, which is what makes thousands of
training pictures a minute possible on one CPU core. No global random state is read or changed.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache

import cv2
import numpy as np

from .atlas import CELL, CONTENT, LEVELS, sprites
from .canvas import RGB, Background, Clutter, Rendered, Scene, Sticker

PATTERNS: tuple[str, ...] = ("flat", "gradient", "stripes", "checker", "noise", "radial")
CLUTTER: tuple[str, ...] = ("triangle", "ring", "squiggle", "blob", "cross", "zigzag")
NOISE_TEXTURES = 64  # how many different noise backgrounds and grain offsets there are
_TILE = 128


def render(scene: Scene, side: int = 336, style: str = "noto") -> Rendered:
    """Draw the scene on a square canvas of `side` pixels: uint8 RGB and the int16 owner of each pixel.

    Raises ValueError for an unknown name, colour, pattern, clutter shape or style, or a side below 14 pixels.
    """
    if side < 14:
        raise ValueError(f"A canvas of {side} pixels is smaller than one patch; use 14 or more.")
    image = paint_background(scene.background, side)
    owner = np.full((side, side), -1, np.int16)
    pictures = sprites(style)
    for i, sticker in enumerate(scene.stickers):
        levels = pictures.get((sticker.name, sticker.colour))
        if levels is None:
            raise ValueError(
                f"There is no sticker {sticker.name!r} in colour {sticker.colour!r}; see catalogue.NAMES, and "
                "catalogue.TINTABLE for the names that have colours."
            )
        _stamp(image, owner, i, levels, sticker.x, sticker.y, sticker.size, sticker.angle, sticker.flip)
    for k, word in enumerate(scene.words):
        plate = _plate(word.text, word.ink, word.paper)
        _stamp(image, owner, len(scene.stickers) + k, plate, word.x, word.y, word.size, word.angle, False)
    if scene.noise > 0:
        grain = _grain(side, scene.background.seed)
        image = cv2.addWeighted(image, 1, grain, scene.noise / 32, -128 * scene.noise / 32)
    if scene.brightness != 1:
        image = cv2.convertScaleAbs(image, alpha=scene.brightness)
    return Rendered(image, owner)


def coverage(owner: np.ndarray, patch: int = 14, stickers: int = 1) -> np.ndarray:
    """The share of each patch that each sticker visibly covers: float32 (rows * cols, stickers), rows first.

    Owners from `stickers` on (words, when only stickers are asked for) are left out. Raises ValueError when the
    canvas is not a whole number of patches.
    """
    height, width = owner.shape
    if height % patch or width % patch:
        raise ValueError(f"A {height} x {width} canvas is not a whole number of {patch} px patches.")
    cells = _cells(height, width, patch)
    columns = max(int(owner.max()) + 2, stickers + 1)
    counts = np.bincount((cells * columns + (owner.ravel() + 1)), minlength=(int(cells[-1]) + 1) * columns)
    shares = counts.reshape(-1, columns)[:, 1 : stickers + 1]
    return shares.astype(np.float32) / np.float32(patch * patch)


@lru_cache(maxsize=8)
def _cells(height: int, width: int, patch: int) -> np.ndarray:
    rows, cols = np.arange(height) // patch, np.arange(width) // patch
    return (rows[:, None] * (width // patch) + cols).astype(np.int32).ravel()


def footprint(sticker: Sticker, grid: int) -> tuple[np.ndarray, float]:
    """The sticker's outline on a coarse grid (bool) and the cells it would cover on an unbounded one."""
    alpha = _alpha(sticker.name)
    matrix = _matrix(_TILE_ALPHA, sticker.x, sticker.y, sticker.size, sticker.angle, sticker.flip, grid)
    mask = cv2.warpAffine(alpha, matrix, (grid, grid), flags=cv2.INTER_LINEAR) > 127
    scale = sticker.size * grid / CONTENT * CELL / _TILE_ALPHA
    return mask, _alpha_area(sticker.name) * scale * scale


_TILE_ALPHA = 32


@cache
def _alpha(name: str) -> np.ndarray:
    return np.ascontiguousarray(sprites()[name, None][2][..., 3])


@cache
def _alpha_area(name: str) -> float:
    return float(np.count_nonzero(_alpha(name) > 127))


def _matrix(source: int, x: float, y: float, size: float, angle: float, flip: bool, side: int) -> np.ndarray:
    """Maps the pixels of a square sprite of `source` px to canvas pixels; pixel centres lie at +0.5 in both."""
    scale = size * side / CONTENT * CELL / source
    cos, sin = scale * math.cos(math.radians(angle)), scale * math.sin(math.radians(angle))
    mirror = -1.0 if flip else 1.0
    a, b, c, d = mirror * cos, sin, -mirror * sin, cos
    middle = source / 2 - 0.5
    return np.array([[a, b, x * side - 0.5 - (a + b) * middle], [c, d, y * side - 0.5 - (c + d) * middle]], np.float64)


def _stamp(
    image: np.ndarray, owner: np.ndarray, number: int, levels: tuple[np.ndarray, ...],
    x: float, y: float, size: float, angle: float, flip: bool,
) -> None:  # fmt: skip
    side = image.shape[0]
    wanted = size * side / CONTENT * CELL
    # The smallest level that is not enlarged: bilinear warping then shrinks by less than two and does not alias.
    level = next((k for k in range(LEVELS - 1, 0, -1) if levels[k].shape[0] >= wanted), 0)
    sprite = levels[level]
    matrix = _matrix(sprite.shape[0], x, y, size, angle, flip, side)
    cos, sin = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
    half = wanted / 2 * (cos + sin) + 1
    left, right = max(0, math.floor(x * side - half)), min(side, math.ceil(x * side + half))
    top, bottom = max(0, math.floor(y * side - half)), min(side, math.ceil(y * side + half))
    if left >= right or top >= bottom:
        return
    matrix[0, 2] -= left
    matrix[1, 2] -= top
    warped = cv2.warpAffine(sprite, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
    alpha = cv2.extractChannel(warped, 3)
    region = image[top:bottom, left:right]
    behind = cv2.multiply(region, cv2.cvtColor(cv2.bitwise_not(alpha), cv2.COLOR_GRAY2RGB), scale=1 / 255)
    cv2.add(behind, cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB), dst=behind)
    region[...] = behind
    owner[top:bottom, left:right][alpha > 127] = number


def plate_ratio(text: str) -> float:
    """Height of a word's plate over its width."""
    width, height = _plate_size(text)
    return height / width


_FONT, _FONT_SCALE, _STROKE = cv2.FONT_HERSHEY_DUPLEX, 4.0, 9


@cache
def _plate_size(text: str) -> tuple[int, int]:
    (width, height), below = cv2.getTextSize(text, _FONT, _FONT_SCALE, _STROKE)
    return width + 60, height + below + 44


@lru_cache(maxsize=256)
def _plate(text: str, ink: RGB, paper: RGB) -> tuple[np.ndarray, ...]:
    """A written plate as square sprites; the plate's width fills `CONTENT` of `CELL`."""
    width, height = _plate_size(text)
    square = np.zeros((round(width * CELL / CONTENT),) * 2 + (4,), np.uint8)
    left, top = (square.shape[1] - width) // 2, (square.shape[0] - height) // 2
    square[top : top + height, left : left + width] = (*paper, 255)
    below = cv2.getTextSize(text, _FONT, _FONT_SCALE, _STROKE)[1]
    origin = (left + 30, top + height - below - 20)
    cv2.putText(square, text, origin, _FONT, _FONT_SCALE, (*ink, 255), _STROKE, cv2.LINE_AA)
    sides = [CELL * 4 >> k for k in range(LEVELS + 1)]
    return tuple(cv2.resize(square, (s, s), interpolation=cv2.INTER_AREA) for s in sides)


def paint_background(background: Background, side: int) -> np.ndarray:
    """The pattern and its clutter as a fresh uint8 (side, side, 3) RGB array."""
    first, second = background.first, background.second
    if background.pattern == "flat":
        image: np.ndarray = np.empty((side, side, 3), np.uint8)
        image[:] = first
    else:
        field = _field(background, side)
        ramp = np.linspace(first, second, 256).round().astype(np.uint8).reshape(256, 1, 3)
        image = cv2.applyColorMap(field, ramp)
    for item in background.clutter:
        _draw_clutter(image, item)
    return image


def _field(background: Background, side: int) -> np.ndarray:
    """How far each pixel is from the first to the second colour, uint8: one affine warp of a small texture."""
    texture = _texture(background.pattern, background.seed)
    tiled = background.pattern in ("stripes", "checker", "noise")
    # One texture is one period: a tiled pattern repeats every `scale`, a gradient or a disc spans the canvas.
    extent = background.scale * (4 if background.pattern == "noise" else 2) if tiled else 1.4
    step = _TILE / (extent * side)
    cos, sin = step * math.cos(math.radians(background.angle)), step * math.sin(math.radians(background.angle))
    x, y = background.x * side, background.y * side
    middle = _TILE / 2
    matrix = np.array([[cos, sin, middle - cos * x - sin * y], [-sin, cos, middle + sin * x - cos * y]])
    border = cv2.BORDER_WRAP if tiled else cv2.BORDER_REPLICATE
    return cv2.warpAffine(
        texture, matrix, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=border
    )


@cache
def _texture(pattern: str, seed: int) -> np.ndarray:
    if pattern not in PATTERNS:
        raise ValueError(f"There is no background pattern {pattern!r}; choose one of {', '.join(PATTERNS)}.")
    ramp = (np.arange(_TILE) + 0.5) / _TILE
    field: np.ndarray
    if pattern == "gradient":
        field = np.broadcast_to(ramp, (_TILE, _TILE))
    elif pattern == "radial":
        field = np.hypot(ramp[:, None] - 0.5, ramp - 0.5) * 2
    elif pattern == "noise":
        coarse = np.random.default_rng(seed % NOISE_TEXTURES).random((16, 16)).astype(np.float32)
        # Three copies side by side, the middle one kept: the texture then meets itself without a seam.
        field = cv2.resize(np.tile(coarse, (3, 3)), (3 * _TILE, 3 * _TILE), interpolation=cv2.INTER_CUBIC)
        field = field[_TILE : 2 * _TILE, _TILE : 2 * _TILE]
    else:
        wave = np.cos(2 * np.pi * ramp)
        field = np.broadcast_to(wave, (_TILE, _TILE)) if pattern == "stripes" else wave[:, None] * wave
        field = field * 8 + 0.5  # steep, not binary: the edges stay smooth at every angle
    return (np.clip(field, 0, 1) * 255).astype(np.uint8)


@lru_cache(maxsize=512)
def _grain(side: int, seed: int) -> np.ndarray:
    """Pixel noise around 128 with a standard deviation of 32, cut from one fixed tile."""
    tile = _grain_tile()
    down, right = (seed * 37) % 256, (seed * 91) % 256
    rows, cols = (np.arange(side) + down) % 256, (np.arange(side) + right) % 256
    return tile[rows][:, cols]


@cache
def _grain_tile() -> np.ndarray:
    noise = np.random.default_rng(0).normal(128, 32, (256, 256, 3))
    return np.clip(noise, 0, 255).astype(np.uint8)


def _draw_clutter(image: np.ndarray, item: Clutter) -> None:
    outline, closed, filled = _outline(item.shape)
    side = image.shape[0]
    turn = math.radians(item.angle)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    points = (outline @ rotation.T * item.size + (item.x, item.y)) * side
    fixed = np.round(points * 16).astype(np.int32)[None]
    if filled:
        cv2.fillPoly(image, fixed, item.colour, cv2.LINE_AA, 4)
    else:
        width = max(1, round(0.12 * item.size * side))
        cv2.polylines(image, fixed, closed, item.colour, width, cv2.LINE_AA, 4)


@cache
def _outline(shape: str) -> tuple[np.ndarray, bool, bool]:
    """Unit-size outline (points, 2) around 0, whether it is closed, and whether it is filled."""
    round_trip = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    along = np.linspace(-0.5, 0.5, 24)
    if shape == "triangle":
        corners = np.array([(0, -0.5), (0.45, 0.35), (-0.45, 0.35)])
        return corners, True, True
    if shape == "ring":
        return 0.45 * np.stack([np.cos(round_trip), np.sin(round_trip)], 1), True, False
    if shape == "squiggle":
        return np.stack([along, 0.15 * np.sin(along * 14)], 1), False, False
    if shape == "blob":
        radius = 0.36 + 0.09 * np.sin(3 * round_trip) + 0.06 * np.cos(2 * round_trip + 1)
        return radius[:, None] * np.stack([np.cos(round_trip), np.sin(round_trip)], 1), True, True
    if shape == "cross":
        arm = 0.14
        quarter = np.array([(arm, arm), (arm, 0.5), (-arm, 0.5)])
        turns = [quarter @ np.array([[c, -s], [s, c]]).T for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
        return np.concatenate(turns), True, True
    if shape == "zigzag":
        return np.array([(-0.5, 0.1), (-0.25, -0.1), (0, 0.1), (0.25, -0.1), (0.5, 0.1)]), False, False
    raise ValueError(f"There is no clutter shape {shape!r}; choose one of {', '.join(CLUTTER)}.")
