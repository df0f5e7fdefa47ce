"""The sticker pictures: built once from an emoji font into an atlas, loaded as premultiplied sprites, tinted.

`python -m script_core.stickers.atlas --font NotoColorEmoji.ttf` rebuilds `assets/stickers/noto.webp`, the style that
the embedded model learns from; `--pictures FOLDER` rebuilds `twemoji.webp`, a style that it never sees, from pictures
named by code point ("1f436.png"). At run time only the two WebP files are read.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .catalogue import COLOURS, EMOJI, NAMES, TINTABLE

CELL = 128
CONTENT = 124  # the longer side of a picture inside its cell: the margin keeps edges soft when it is rotated
COLUMNS = 10
LEVELS = 4  # mip levels: 128, 64, 32, 16 pixels
STYLES: tuple[str, ...] = ("noto", "twemoji")
FOLDER = Path(__file__).resolve().parents[2] / "assets" / "stickers"

# Measured by eye on the rendered sheet: bright enough that orange is not brown and yellow not olive, and far enough
# apart in hue that red/orange, orange/yellow and blue/purple are never a matter of opinion.
PAINT: dict[str, tuple[int, int, int]] = {
    "red": (222, 30, 38), "orange": (250, 132, 16), "yellow": (252, 220, 30), "green": (40, 168, 62),
    "blue": (36, 104, 232), "purple": (142, 50, 196),
}  # fmt: skip


def pack(pictures: Iterable[Image.Image]) -> Image.Image:
    """An RGBA atlas, one 128 px cell per picture: cropped to its ink, scaled to 124 px on its longer side, centred."""
    cells = list(pictures)
    sheet = Image.new("RGBA", (COLUMNS * CELL, math.ceil(len(cells) / COLUMNS) * CELL))
    for i, picture in enumerate(cells):
        ink = picture.crop(picture.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox())
        scale = CONTENT / max(ink.size)
        size = (max(1, round(ink.width * scale)), max(1, round(ink.height * scale)))
        ink = ink.resize(size, Image.Resampling.LANCZOS)
        col, row = i % COLUMNS * CELL, i // COLUMNS * CELL
        sheet.paste(ink, (col + (CELL - ink.width) // 2, row + (CELL - ink.height) // 2))
    return sheet


def font_pictures(font: Path) -> Iterable[Image.Image]:
    """The emoji of every name drawn with a colour bitmap font. 109 is the one size that Noto's bitmaps have."""
    face = ImageFont.truetype(str(font), 109)
    for code in EMOJI.values():
        canvas = Image.new("RGBA", (160, 160))
        # U+FE0F asks for the picture where a code point also has a text form (scissors, heart, airplane).
        ImageDraw.Draw(canvas).text((10, 10), chr(int(code, 16)) + "\ufe0f", font=face, embedded_color=True)
        yield canvas


def folder_pictures(folder: Path) -> Iterable[Image.Image]:
    """The emoji of every name from PNG files named by code point."""
    for code in EMOJI.values():
        yield Image.open(folder / f"{code}.png").convert("RGBA")


def build(pictures: Iterable[Image.Image], target: Path) -> None:
    """Write an atlas. Lossless WebP; colour under fully transparent pixels is dropped, which is most of the saving."""
    pack(pictures).save(target, lossless=True, quality=100, method=6, exact=False)


@cache
def sprites(style: str = "noto") -> dict[tuple[str, str | None], tuple[np.ndarray, ...]]:
    """(name, colour or None) -> mip levels, each a premultiplied RGBA uint8 array of 128, 64, 32, 16 px a side.

    Raises ValueError for a style without an atlas.
    """
    if style not in STYLES:
        raise ValueError(f"There is no sticker style {style!r}; choose one of {', '.join(STYLES)}.")
    sheet = np.asarray(Image.open(FOLDER / f"{style}.webp").convert("RGBA"))
    made: dict[tuple[str, str | None], tuple[np.ndarray, ...]] = {}
    for i, name in enumerate(NAMES):
        row, col = i // COLUMNS * CELL, i % COLUMNS * CELL
        cell = sheet[row : row + CELL, col : col + CELL]
        made[name, None] = _levels(cell)
        for colour in COLOURS if name in TINTABLE else ():
            made[name, colour] = _levels(tint(cell, colour, ribbon=name == "gift"))
    return made


def tint(rgba: np.ndarray, colour: str, ribbon: bool = False) -> np.ndarray:
    """Repaint the dominant hue of a picture (uint8 RGBA), keeping its shading, highlights and neutral parts.

    Each pixel near the dominant hue keeps its lightness relative to the painted body and takes the target paint;
    darker ones are shaded, brighter ones go towards white. `ribbon` makes the other hues white, however near they are
    (a gift's red ribbon on its orange box would make its colour a matter of opinion).
    """
    rgb = rgba[..., :3].astype(np.float32) / 255
    hue = cv2.cvtColor(rgb, cv2.COLOR_RGB2HLS)[..., 0]
    chroma = rgb.max(-1) - rgb.min(-1)
    weight = chroma * (rgba[..., 3] > 128)
    histogram = np.bincount((hue.ravel() / 10).astype(int) % 36, weight.ravel(), 36)
    smooth = histogram + np.roll(histogram, 1) + np.roll(histogram, -1)
    main = int(smooth.argmax()) * 10 + 5
    distance = np.abs((hue - main + 180) % 360 - 180)
    coloured = np.clip((chroma - 0.06) / 0.1, 0, 1)
    reach = 20 if ribbon else 48
    body = np.clip((reach - distance) / 6, 0, 1) * coloured
    luma = rgb @ np.array((0.299, 0.587, 0.114), np.float32)
    solid = (body > 0.5) & (rgba[..., 3] > 128)
    ratio = (luma / max(float(np.median(luma[solid])), 1e-3))[..., None]
    paint = np.array(PAINT[colour], np.float32) / 255
    shaded = paint * np.clip(ratio, 0.35, 1)
    lit = paint + (1 - paint) * np.clip((ratio - 1) * 0.6, 0, 0.75)
    painted = np.where(ratio <= 1, shaded, lit)
    if ribbon:
        white = np.clip(0.7 + 0.45 * ratio, 0, 1)
        rgb = rgb + (coloured - body)[..., None] * (white - rgb)
    out = rgb + body[..., None] * (painted - rgb)
    return np.dstack([np.clip(out * 255 + 0.5, 0, 255).astype(np.uint8), rgba[..., 3]])


def _levels(rgba: np.ndarray) -> tuple[np.ndarray, ...]:
    alpha = rgba[..., 3:].astype(np.float32) / 255
    top = np.dstack([rgba[..., :3] * alpha + 0.5, rgba[..., 3]]).astype(np.uint8)
    levels: list[np.ndarray] = [np.ascontiguousarray(top)]
    while len(levels) < LEVELS:
        side = levels[-1].shape[0] // 2
        levels.append(cv2.resize(levels[-1], (side, side), interpolation=cv2.INTER_AREA))
    return tuple(levels)


def main() -> None:
    parser = argparse.ArgumentParser(description="Rebuild a sticker atlas.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--font", type=Path, help="path of NotoColorEmoji.ttf (the bitmap build)")
    source.add_argument("--pictures", type=Path, help="folder with Twemoji as PNG files of 128 px or more")
    given = parser.parse_args()
    if given.font:
        build(font_pictures(given.font), FOLDER / "noto.webp")
    else:
        build(folder_pictures(given.pictures), FOLDER / "twemoji.webp")


if __name__ == "__main__":
    main()
