"""LLaVA-1.5: one square view of the picture, 24 x 24 tokens at 336 pixels.

The checkpoint's own image processor decides what the square holds: a centre crop (the published processor), the whole
picture on a padded square (the original evaluation), or the whole picture squashed (`squash`, the embedded model).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from script_core.backends.checkpoint import Parts
from script_core.backends.clip_llava import ClipLlava, Layout, Views
from script_core.tokens import Block

Box = tuple[float, float, float, float]


class Llava(ClipLlava):
    """One view, no newlines. Also serves a LLaVA-NeXT checkpoint whose base view alone is used."""

    family: ClassVar[str] = "llava"

    def __init__(self, parts: Parts, squash: bool = False, frames: int | None = None) -> None:
        from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

        super().__init__(parts, frames)
        vision = parts.model.config.vision_config
        self._side = vision.image_size
        self._cells = vision.image_size // vision.patch_size
        settings = {k: v for k, v in parts.processor.items() if k not in ("image_processor_type", "processor_class")}
        if squash:
            square = {"height": self._side, "width": self._side}
            settings |= {"size": square, "do_center_crop": False, "do_pad": False}
            settings.pop("image_grid_pinpoints", None)
        self._prepare = LlavaImageProcessorPil(**settings)

    def views(self, picture: np.ndarray) -> Views:
        pixels = self._prepare(picture, return_tensors="pt", input_data_format="channels_last")["pixel_values"]
        box = seen(self._prepare, picture.shape[1], picture.shape[0])
        return Views(pixels, (Block("base", self._cells, self._cells, box),))

    def layout(self, picture: np.ndarray, views: Views) -> Layout:
        count = self._cells**2
        return Layout(torch.zeros(count, dtype=torch.int64), torch.arange(count), torch.empty(0, dtype=torch.int64))


def seen(processor: Any, width: int, height: int) -> Box:
    """The part of a picture that the processor's square covers, in fractions of the picture.

    Follows its three steps: pad to a square, resize, centre crop. Outside [0, 1] where the square is padding.
    """
    left, top, right, bottom = 0.0, 0.0, float(width), float(height)
    if processor.do_pad:
        side = max(width, height)
        left, top = -((side - width) // 2), -((side - height) // 2)
        right, bottom = left + side, top + side
    wide, high = right - left, bottom - top
    if processor.do_resize and processor.size.shortest_edge:
        edge = processor.size.shortest_edge  # the longer side is rounded down, as the resize does
        new_wide, new_high = (edge, int(edge * high / wide)) if wide <= high else (int(edge * wide / high), edge)
    elif processor.do_resize:
        new_wide, new_high = processor.size.width, processor.size.height
    else:
        new_wide, new_high = int(wide), int(high)
    if processor.do_center_crop:
        crop_wide, crop_high = processor.crop_size.width, processor.crop_size.height
        x, y = (new_wide - crop_wide) // 2, (new_high - crop_high) // 2
        left, right = left + x * wide / new_wide, left + (x + crop_wide) * wide / new_wide
        top, bottom = top + y * high / new_high, top + (y + crop_high) * high / new_high
    return left / width, top / height, right / width, bottom / height
