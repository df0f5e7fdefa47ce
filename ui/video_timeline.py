"""Where in time the kept tokens are, and all that the browser needs to scrub through it by itself.

A place on the timeline is a block of tokens with the frames it was made from: one on most models, two on those that
merge neighbours in time. Blocks and frames are matched by their times, not by their numbers.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from script_core import relevance, similarity
from script_core.report import Selected
from script_core.tokens import Grid, Query, VisualTokens
from ui.state import Settings
from ui.tokengrid import payload, shown_pictures

SHOWN_SIDE = 384  # pixels of the longer side of a frame under the tokens
TOP = 0.1  # share of a frame's tokens whose relevance stands for the frame


@dataclass(frozen=True)
class Place:
    """One place on the timeline: its block of tokens, when it starts in seconds, and the frames in it."""

    block: int
    time: float
    frames: tuple[int, ...]


def places(grid: Grid, times: Sequence[float]) -> tuple[Place, ...]:
    """The timeline of a video whose frames were taken at `times`. Blocks of kind "cls" have no place of their own."""
    blocks = [(i, block.time or 0.0) for i, block in enumerate(grid.blocks) if block.kind == "frame"]
    starts = np.array([time for _, time in blocks])
    owner = np.searchsorted(starts, np.asarray(times) + 1e-6, side="right") - 1
    return tuple(
        Place(block, time, tuple(np.flatnonzero(owner == i).tolist())) for i, (block, time) in enumerate(blocks)
    )


def kept_in(grid: Grid, timeline: Sequence[Place], kept: Tensor) -> list[int]:
    """How many of the kept tokens (m,) lie in each place: the bars."""
    counts = torch.bincount(grid.block[kept], minlength=len(grid.blocks))
    return [int(counts[place.block]) for place in timeline]


def relevance_in(tokens: VisualTokens, query: Query, timeline: Sequence[Place]) -> list[float]:
    """How relevant each place is to the question, 0 to 1 over the whole video: the mean of its top tenth of tokens.

    Scaled over the video, not per frame as methods that prune per frame do, so that frames can be compared.
    """
    whole = relevance.of(tokens, query, similarity.members(tokens, "global"))
    line = []
    for place in timeline:
        inside = whole[tokens.grid.block == place.block]
        line.append(float(inside.topk(max(1, round(TOP * len(inside)))).values.mean()))
    return line


def most(bars: Sequence[float]) -> int | None:
    """The first place that has the most; None where all have the same, or where there is only one."""
    return None if len(set(bars)) < 2 else max(range(len(bars)), key=bars.__getitem__)


def bits(kept: Tensor, total: int) -> str:
    """The kept tokens as a bitset in base64: token i is bit i % 8, from the lowest, of byte i // 8."""
    mask = np.zeros(total, dtype=bool)
    mask[kept.numpy()] = True
    return base64.b64encode(np.packbits(mask, bitorder="little").tobytes()).decode("ascii")


def drawn(selected: Selected, pruner: Any, settings: Settings, *, example: str, set_budget: bool) -> dict[str, Any]:
    """The canvas's payload for a video: frames as files, tokens and scores of all of them, and the timeline."""
    encoded = selected.encoded
    tokens, media = encoded.tokens, encoded.media
    timeline = places(tokens.grid, media.times)
    asked = {**asdict(settings), "title": pruner.title, "example": example, "what": "video or number of frames"}
    value = payload(selected, pruner, shown_pictures(media, SHOWN_SIDE), asked=asked, set_budget=set_budget)
    for place in timeline:
        value["blocks"][place.block]["image"] = place.frames[0] if place.frames else 0
    if "kept" in value:
        value["bits"] = bits(selected.selection.kept, len(tokens))
        del value["kept"]
    value["unit"] = len(timeline)  # the slider counts tokens per place
    value["places"] = [asdict(place) for place in timeline]
    value["line"] = [round(height, 4) for height in relevance_in(tokens, selected.query, timeline)]
    value["frames"] = len(media.frames)
    return value
