"""LLaVA-NeXT: the whole picture in one square view, and again in tiles at up to four times its resolution (anyres).

Where each token lies is not worked out a second time here: the model's own packing function is run on a tensor of
indices instead of features, and the indices come out where the features would.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from script_core.backends.base import detached
from script_core.backends.checkpoint import Parts
from script_core.backends.clip_llava import ClipLlava, Layout, Views
from script_core.tokens import Block


class LlavaNext(ClipLlava):
    """Base view, then the unpadded mosaic of tiles row by row, each row ended by an `image_newline`."""

    family: ClassVar[str] = "llava_next"

    def __init__(self, parts: Parts) -> None:
        from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

        super().__init__(parts)
        vision = parts.model.config.vision_config
        self._side = vision.image_size
        self._cells = vision.image_size // vision.patch_size
        self._pinpoints = parts.model.config.image_grid_pinpoints
        settings = {k: v for k, v in parts.processor.items() if k not in ("image_processor_type", "processor_class")}
        self._prepare = LlavaNextImageProcessorPil(**{**settings, "image_grid_pinpoints": self._pinpoints})
        self.newline = detached(parts.model.model.image_newline)

    def views(self, picture: np.ndarray) -> Views:
        prepared = self._prepare(picture, return_tensors="pt", input_data_format="channels_last")
        pixels = prepared["pixel_values"][0]
        return Views(pixels, (Block("base", self._cells, self._cells), *self._tiles(picture)))

    def _tiles(self, picture: np.ndarray) -> list[Block]:
        """The picture, fitted into the best resolution and centred on padding, is cut into squares."""
        from transformers.image_processing_utils import select_best_resolution
        from transformers.models.llava_next.image_processing_pil_llava_next import get_patch_output_size

        height, width = picture.shape[:2]
        full_high, full_wide = select_best_resolution((height, width), self._pinpoints)
        high, wide = get_patch_output_size(picture, (full_high, full_wide), "channels_last")
        x, y = (full_wide - wide) // 2, (full_high - high) // 2
        return [
            Block("tile", self._cells, self._cells, self._box(row * self._side - y, col * self._side - x, high, wide))
            for row in range(full_high // self._side)
            for col in range(full_wide // self._side)
        ]

    def _box(self, top: int, left: int, high: int, wide: int) -> tuple[float, float, float, float]:
        return left / wide, top / high, (left + self._side) / wide, (top + self._side) / high

    def layout(self, picture: np.ndarray, views: Views) -> Layout:
        count, patches = len(views.blocks), self._cells**2
        marks = torch.empty(count, patches, 3)
        marks[..., 0] = torch.arange(count)[:, None]
        marks[..., 1] = torch.arange(patches)
        marks[..., 2] = 1
        size: Any = torch.tensor([picture.shape[:2]])
        packed, _ = self.model.model.pack_image_features([marks], size, "default", torch.tensor([-1.0, -1.0, 0.0]))
        rows = packed[0].round().long()
        content = rows[:, 2] == 1
        followed = content.cumsum(0)[~content] - 1  # how many content tokens come before, less one: its index
        return Layout(rows[content, 0], rows[content, 1], followed)
