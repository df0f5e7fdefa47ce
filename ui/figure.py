"""A report as a figure: the picture with its dropped tokens veiled and its kept ones outlined, and a caption."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from script_core.media import Media
from script_core.tokens import Block

SIDE = 900  # pixels of a panel's longer side
VEIL, INK, KEPT = (16, 24, 40), (15, 23, 42), (94, 234, 212)


def figure(made: Mapping[str, Any], media: Media) -> bytes:
    """PNG bytes, drawn from pixels alone; of a video all frames."""
    kept = torch.zeros(made["selection"]["total"], dtype=torch.bool)
    kept[made["selection"]["kept"]] = True
    blocks = [Block(**{**block, "box": tuple(block["box"])}) for block in made["blocks"]]
    pictures = [
        _painted(media.frames[min(frame, len(media.frames) - 1)], drawn, blocks, made["tokens"], kept)
        for frame, drawn in _panels(blocks)
    ]
    canvas = _arranged(pictures)
    captioned = _captioned(canvas, _caption(made))
    out = io.BytesIO()
    captioned.save(out, "PNG", optimize=True)
    return out.getvalue()


def _panels(blocks: Sequence[Block]) -> list[tuple[int, list[int]]]:
    """(frame, blocks drawn on it): one panel per frame; whole picture and tiles each get one of their own."""
    frames = [i for i, block in enumerate(blocks) if block.kind == "frame"]
    if frames:
        return [(place, [i]) for place, i in enumerate(frames)]
    base = [i for i, block in enumerate(blocks) if block.kind == "base"]
    tiles = [i for i, block in enumerate(blocks) if block.kind == "tile"]
    return [(0, group) for group in (base, tiles) if group]


def _painted(frame: Any, drawn: list[int], blocks: Sequence[Block], where: Mapping[str, Any], kept: Tensor) -> Any:
    picture = Image.fromarray(frame)
    scale = SIDE / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    veil = Image.new("L", (width, height), 178)
    outlines = []
    brush = ImageDraw.Draw(veil)
    for index in torch.nonzero(kept).flatten().tolist():
        place = where["block"][index]
        if place not in drawn:
            continue
        block = blocks[place]
        left, top, right, bottom = block.box
        x, w = left * width, (right - left) * width / block.cols
        y, h = top * height, (bottom - top) * height / block.rows
        x, y = x + where["col"][index] * w, y + where["row"][index] * h
        box = (round(x), round(y), round(x + w) - 1, round(y + h) - 1)
        if box[2] >= box[0] and box[3] >= box[1]:
            brush.rectangle(box, fill=0)
            outlines.append(box)
    picture = Image.composite(Image.new("RGB", picture.size, VEIL), picture, veil)
    brush = ImageDraw.Draw(picture)
    for box in outlines:
        brush.rectangle(box, outline=KEPT)
    return picture


def _arranged(pictures: Sequence[Any]) -> Any:
    """Panels side by side, many of them smaller and in rows."""
    across = len(pictures) if len(pictures) <= 2 else math.ceil(math.sqrt(len(pictures) * 1.5))
    if len(pictures) > 2:
        pictures = [one.reduce(2) for one in pictures]
    width, height = max(one.width for one in pictures), max(one.height for one in pictures)
    rows = math.ceil(len(pictures) / across)
    canvas = Image.new("RGB", (across * (width + 8) - 8, rows * (height + 8) - 8), "white")
    for place, one in enumerate(pictures):
        canvas.paste(one, ((place % across) * (width + 8), (place // across) * (height + 8)))
    return canvas


def _caption(made: Mapping[str, Any]) -> list[str]:
    selection, fidelity, settings = made["selection"], made["fidelity"], made["settings"]
    share = 100 * len(selection["kept"]) / selection["total"]
    return [
        f"Question: {settings['question']}",
        f"{selection['method']}, {len(selection['kept'])} of {selection['total']} visual tokens ({share:.0f} %): "
        f"{made['answers']['pruned']['text']}",
        f"All tokens: {made['answers']['full']['text']}",
        f"KL of the first token {fidelity['kl_first_nats']:.3g} nats; {made['model']['name']} on "
        f"{made['model']['device']}; {made['made']}",
    ]


def _captioned(picture: Any, lines: Sequence[str]) -> Any:
    font = ImageFont.load_default(size=18)
    wide = max(picture.width, 600)
    wrapped = [part for line in lines for part in _wrapped(line, font, wide - 24)]
    result = Image.new("RGB", (wide, picture.height + 16 + 24 * len(wrapped)), "white")
    result.paste(picture, ((wide - picture.width) // 2, 0))
    brush = ImageDraw.Draw(result)
    for place, line in enumerate(wrapped):
        brush.text((12, picture.height + 10 + 24 * place), line, fill=INK, font=font)
    return result


def _wrapped(text: str, font: Any, width: float, most: int = 6) -> list[str]:
    """Lines no wider than `width` pixels; a very long text is cut after `most` of them."""
    lines, line = [], ""
    for word in text.split():
        while font.getlength(word) > width:
            word = word[: len(word) * 2 // 3]
        longer = f"{line} {word}".strip()
        if font.getlength(longer) <= width:
            line = longer
        else:
            lines.append(line)
            line = word
    lines.append(line)
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1] + " ..."]
