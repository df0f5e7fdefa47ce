"""How one picture becomes several views: the base view and four tiles of LLaVA-NeXT, and the frames of a clip.

Training renders each view as patches with their owners; here they are cut, pooled, and put into the order and at the
positions in which the backends hand them to the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from script_core.stickers.batches import BACKGROUND, MIXED, Facts, cut, owners, picture, symbolic_facts
from script_core.stickers.canvas import Scene
from script_core.stickers.clips import Clip
from script_core.stickers.model import GRID
from script_core.stickers.rendering import render

SIDE = 336
NEWLINES = 2 * GRID  # one behind each row of the mosaic of tiles
POOLED = GRID // 2  # cells along a side of a frame


@dataclass(frozen=True)
class Tiled:
    """A picture of twice the side: `patches` uint8 (5, 576, 588) and `owner` (5, 576), base view first, then tiles."""

    scene: Scene
    patches: np.ndarray
    owner: np.ndarray


def tiled(scene: Scene) -> Tiled:
    """Render at 672 pixels; the base view is the same picture at half the size, a tile shows a quarter of it."""
    shown = render(scene, 2 * SIDE)
    count = len(scene.stickers) + len(scene.words)
    squares = [(slice(r, r + SIDE), slice(c, c + SIDE)) for r in (0, SIDE) for c in (0, SIDE)]
    base = cv2.resize(shown.image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    patches = [cut(base), *(cut(shown.image[square]) for square in squares)]
    owner = [owners(shown.owner[::2, ::2], count), *(owners(shown.owner[square], count) for square in squares)]
    return Tiled(scene, np.stack(patches), np.stack(owner))


def mosaic_ids() -> np.ndarray:
    """(5, 576) position ids of the tokens behind <s>: base view, then the mosaic's rows with a newline behind each."""
    base = np.arange(GRID * GRID)
    rows, columns = np.divmod(base, GRID)
    tiles = [(r * GRID + rows) * (NEWLINES + 1) + c * GRID + columns for r in (0, 1) for c in (0, 1)]
    return 1 + np.stack([base, *(GRID * GRID + tile for tile in tiles)])


def newline_ids() -> np.ndarray:
    """(48,) position ids of the newlines."""
    return 1 + GRID * GRID + np.arange(NEWLINES) * (NEWLINES + 1) + NEWLINES


def in_order(tokens: Tensor, ids: Tensor, newlines: bool) -> tuple[Tensor, Tensor]:
    """Tokens (b, k, d) with ids (b, k) in ascending order of id, with zero vectors as newlines if asked for."""
    if newlines:
        more = torch.from_numpy(newline_ids()).to(ids.device).expand(len(ids), -1)
        ids = torch.cat([ids, more], 1)
        tokens = torch.cat([tokens, tokens.new_zeros(len(ids), more.shape[1], tokens.shape[2])], 1)
    ids, order = ids.sort(1)
    return tokens.gather(1, order[..., None].expand(-1, -1, tokens.shape[2]).to(tokens.device)), ids


@dataclass(frozen=True)
class Film:
    """A clip as patches (f, 576, 588) with their owners (f, 576), numbered within each frame, and `cells` (f, 144):
    the owner of each pooled token, BACKGROUND or MIXED.
    """

    clip: Clip
    patches: np.ndarray
    owner: np.ndarray
    cells: np.ndarray


# (144, 4): the patches that one pooled token stands for.
CELL_PATCHES = np.arange(GRID * GRID).reshape(POOLED, 2, POOLED, 2).transpose(0, 2, 1, 3).reshape(-1, 4)


def pooled(tokens: Tensor) -> Tensor:
    """Frames of patches (f, 576, d) -> frames of cells (f, 144, d)."""
    cells = tokens[:, torch.from_numpy(CELL_PATCHES).flatten()]
    return cells.view(len(tokens), POOLED**2, 4, -1).mean(2)


def film(clip: Clip) -> Film:
    """Render every frame; a sticker owns a pooled token if at least two of its four patches are its own."""
    shown = [picture(scene, SIDE) for scene in clip.frames]
    owner = np.stack([p.owner for p in shown])
    four = owner[:, CELL_PATCHES]
    most = np.where(four >= 0, four, -9).max(-1)
    sure = (four == most[..., None]).sum(-1) >= 2
    cells = np.where(most < 0, np.where((four == MIXED).any(-1), MIXED, BACKGROUND), np.where(sure, most, MIXED))
    return Film(clip, np.stack([p.patches for p in shown]), owner, cells.astype(np.int16))


def times_of(clips: Sequence[Clip], owner: np.ndarray) -> Tensor:
    """(b, f * k, 3) for `losses.time_loss`. owner (b, f, k): whose each token is, numbered within its frame."""
    enters, leads = np.full(owner.shape, -1), np.zeros(owner.shape, int)
    for b, clip in enumerate(clips):
        first = np.array(clip.entries)
        leader = (first > 0) & (first == min(first[first > 0], default=0))
        for t, here in enumerate(clip.present):
            mine = owner[b, t] >= 0
            whose = np.array(here, int)[owner[b, t, mine]]
            enters[b, t, mine], leads[b, t, mine] = first[whose], leader[whose]
    own = np.broadcast_to(np.arange(owner.shape[1])[:, None], owner.shape)
    return torch.from_numpy(np.stack([enters, own, leads], -1).reshape(len(clips), -1, 3))


def symbolic_clips(clips: Sequence[Clip], tokens: int, rng: np.random.Generator) -> Facts:
    """Ideal visual tokens of clips, `tokens` a frame, (b, f * tokens)."""
    frames = [scene for clip in clips for scene in clip.frames]
    facts = symbolic_facts(frames, tokens, rng)
    return Facts(*(x.reshape(len(clips), -1, *x.shape[2:]) for x in vars(facts).values()))
