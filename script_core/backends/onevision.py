"""LLaVA-OneVision: SigLIP views of 27 x 27 tokens; pictures in tiles (anyres), videos with 14 x 14 tokens per frame.

SigLIP has no CLS token and no space in which single patches and texts are known to be comparable, so relevance is
taken in the language model's own space.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from script_core.backends.base import detached
from script_core.backends.checkpoint import Parts, read, settings
from script_core.backends.placement import Placement
from script_core.backends.progress import Told, silent
from script_core.backends.spliced import Spliced, in_batches
from script_core.media import Media
from script_core.tokens import Block, Grid, VisualTokens

Box = tuple[float, float, float, float]

# The conversation format of the Qwen2 checkpoints, for those that bring no template of their own.
CHATML = (
    "<|im_start|>user {% for part in messages[0]['content'] %}{% if part['type'] == 'text' %}\n{{ part['text'] }}"
    "{% else %}<{{ part['type'] }}>{% endif %}{% endfor %}<|im_end|><|im_start|>assistant\n"
)


class Onevision(Spliced):
    """Picture: the whole in one view, then the unpadded mosaic of its tiles, a newline behind each row. Video: pooled
    frames, one newline behind the last."""

    family: ClassVar[str] = "llava_onevision"
    frames: ClassVar[int] = 32

    def __init__(self, parts: Parts, frames: int | None = None) -> None:
        from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
            LlavaOnevisionImageProcessorPil,
        )
        from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

        super().__init__(parts, frames)
        vision = parts.model.config.vision_config
        self._side, self._patch = vision.image_size, vision.patch_size
        self._cells = vision.image_size // vision.patch_size
        self._pinpoints = parts.model.config.image_grid_pinpoints
        square = {"size": {"height": self._side, "width": self._side}}
        shared = settings(parts, "size", "crop_size", "do_center_crop", "image_grid_pinpoints", "do_pad")
        self._cut = LlavaOnevisionImageProcessorPil(**{**shared, **square}, image_grid_pinpoints=self._pinpoints)
        self._squash = SiglipImageProcessorPil(**{**shared, **square})

    @classmethod
    def load(cls, source: str, place: Placement, told: Told = silent) -> Parts:
        """Read a checkpoint. Raises `CannotLoad`."""
        from transformers.models.llava_onevision.modeling_llava_onevision import (
            LlavaOnevisionForConditionalGeneration,
        )

        return read(source, LlavaOnevisionForConditionalGeneration, place, told, template=CHATML)

    @torch.no_grad()
    def encode(self, media: Media) -> VisualTokens:
        """A picture's base view and tiles, or a video's frames."""
        return self._video(media) if media.kind == "video" else self._picture(media.frames[0])

    def views(self, pixels: Tensor) -> Tensor:
        """Projected patches of square views: (B, 3, s, s) -> (B, p, d)."""
        inner, config = self.model.model, self.model.config

        def run(part: Tensor) -> Tensor:
            hidden = inner.vision_tower(part, output_hidden_states=True).hidden_states[config.vision_feature_layer]
            cls = config.vision_feature_select_strategy == "default"
            return inner.multi_modal_projector(hidden[:, 1:] if cls else hidden)

        return in_batches(run, pixels.to(self.lm_head.weight))

    def _picture(self, picture: np.ndarray) -> VisualTokens:
        size = picture.shape[:2]
        pixels = self._cut(picture, return_tensors="pt", input_data_format="channels_last")["pixel_values"][0]
        packed = self._pack(self.views(pixels), size, None)
        grid, newlines = self._layout(size, len(pixels))
        newline = detached(self.model.model.image_newline)
        return VisualTokens(detached(packed), grid, newlines=newlines, newline=newline)

    def _pack(self, features: Tensor, size: tuple[int, ...], newline: Tensor | None) -> Tensor:
        """The model's own arrangement of views (T, p, c) -> (rows, c)."""
        aspect = self.model.config.vision_aspect_ratio
        sizes = torch.tensor([size[:2]])
        return self.model.model.pack_image_features([features], sizes, newline, aspect)[0][0]

    def _layout(self, size: tuple[int, ...], views: int) -> tuple[Grid, Tensor]:
        """Where the packed tokens lie, and behind which of them a newline stands.

        The packing function is run on a tensor of indices. Of very large pictures it shrinks the mosaic, which mixes
        tokens of neighbouring tiles; the mosaic is then a single block.
        """
        marks = torch.empty(views, self._cells**2, 3)
        marks[..., 0] = torch.arange(views)[:, None]
        marks[..., 1] = torch.arange(self._cells**2)
        marks[..., 2] = 1
        packed = self._pack(marks, size, torch.tensor([-1.0, -1.0, 0.0]))
        content = packed[:, 2] > 0.5
        newlines = content.cumsum(0)[~content] - 1
        base = Block("base", self._cells, self._cells, self._box(0, 0, self._side, self._side))
        tiles, rows, cols = self._tiles(size)
        if int(content.sum()) == self._cells**2 + len(rows) * len(cols):
            view, patch = packed[content, :2].round().long().T
            return Grid((base, *tiles), view, patch // self._cells, patch % self._cells), newlines
        high = len(newlines)
        wide = (int(content.sum()) - self._cells**2) // high
        first, last = tiles[0].box, tiles[-1].box
        step = (last[2] - first[0]) / self._across(size)[1], (last[3] - first[1]) / self._across(size)[0]
        left, top = first[0] + int(cols[0]) * step[0], first[1] + int(rows[0]) * step[1]
        box = (left, top, left + len(cols) * step[0], top + len(rows) * step[1])
        return Grid.full((base, Block("tile", high, wide, box))), newlines

    def _across(self, size: tuple[int, ...]) -> tuple[int, int]:
        """Rows and columns of the mosaic before its padding is cut off."""
        from transformers.image_processing_utils import select_best_resolution

        high, wide = select_best_resolution(size[:2], self._pinpoints)
        return high // self._side * self._cells, wide // self._side * self._cells

    def _tiles(self, size: tuple[int, ...]) -> tuple[list[Block], Tensor, Tensor]:
        """The tiles' blocks, and which rows and columns of the whole mosaic are not padding."""
        from transformers.image_processing_utils import select_best_resolution
        from transformers.models.llava_onevision.image_processing_pil_llava_onevision import get_patch_output_size
        from transformers.models.llava_onevision.modeling_llava_onevision import unpad_image

        full_high, full_wide = select_best_resolution(size[:2], self._pinpoints)
        shape: Any = np.empty((3, *size[:2]), np.uint8)
        high, wide = get_patch_output_size(shape, (full_high, full_wide), "channels_first")
        y, x = (full_high - high) // 2, (full_wide - wide) // 2
        tiles = [
            Block("tile", self._cells, self._cells, self._box(top - y, left - x, high, wide))
            for top in range(0, full_high, self._side)
            for left in range(0, full_wide, self._side)
        ]
        rows, cols = self._across(size)
        index = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij"))
        held = unpad_image(index, tuple(size[:2]))
        return tiles, held[0, :, 0], held[1, 0]

    def _box(self, top: int, left: int, high: int, wide: int) -> Box:
        """What the patches of a view cover: whole patches only, which leaves a rim of the square unseen."""
        seen = self._cells * self._patch
        return left / wide, top / high, (left + seen) / wide, (top + seen) / high

    def _video(self, media: Media) -> VisualTokens:
        pooled, rows, share = self.pool(self.frame_views(media))
        box = (0.0, 0.0, share, share)
        grid = Grid.full(tuple(Block("frame", rows, rows, box, time) for time in media.times))
        newline = detached(self.model.model.image_newline)
        return VisualTokens(detached(pooled).flatten(0, 1), grid, newlines=self.breaks(grid), newline=newline)

    def frame_views(self, media: Media) -> Tensor:
        """Projected patches of every frame, squashed to a square: (T, p, d)."""
        pixels = [
            self._squash(frame, return_tensors="pt", input_data_format="channels_last")["pixel_values"]
            for frame in media.frames
        ]
        return self.views(torch.cat(pixels))

    def pool(self, features: Tensor) -> tuple[Tensor, int, float]:
        """(T, p, d) -> pooled (T, r * r, d), r, and the share of the frame's side that the pooled grid covers."""
        pooled = self.model.model.apply_pooling(features)
        return pooled, -(-self._cells // 2), self._cells * self._patch / self._side

    def breaks(self, grid: Grid) -> Tensor:
        """The tokens behind which a newline stands in a video."""
        return torch.tensor([len(grid) - 1])
