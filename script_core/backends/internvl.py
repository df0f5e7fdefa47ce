"""InternVL3: tiles of 448 pixels and a thumbnail, 16 x 16 tokens each after pixel shuffling (2 x 2 patches in one).

A picture's tiles and thumbnail stand in one pair of marks; every frame of a video stands in its own, behind its
number. There is no aligned text tower, so relevance is taken in the language model's own space.
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
from script_core.backends.spliced import MediaText, Spliced, in_batches
from script_core.media import Media
from script_core.tokens import Block, Grid, VisualTokens

CHATML = (
    "<|im_start|>user\n{% for part in messages[0]['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% elif part['type'] == 'image' %}<IMG_CONTEXT>\n{% else %}<video>\n{% endif %}{% endfor %}<|im_end|>\n"
    "<|im_start|>assistant\n"
)


class InternVl(Spliced):
    """Up to `max_patches` tiles (12 unless the checkpoint says otherwise), row by row, then the thumbnail."""

    family: ClassVar[str] = "internvl"
    frames: ClassVar[int] = 16

    def __init__(self, parts: Parts, frames: int | None = None) -> None:
        from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

        super().__init__(parts, frames)
        vision = parts.model.config.vision_config
        self._side, patch = _one(vision.image_size), _one(vision.patch_size)
        self._cells = int(self._side // patch * parts.model.config.downsample_ratio)
        square = {"height": self._side, "width": self._side}
        self._prepare: Any = GotOcr2ImageProcessorPil(**{**settings(parts, "crop_to_patches"), "size": square})

    @classmethod
    def load(cls, source: str, place: Placement, told: Told = silent) -> Parts:
        """Read a checkpoint. Raises `CannotLoad`."""
        from transformers.models.internvl.modeling_internvl import InternVLForConditionalGeneration

        return read(source, InternVLForConditionalGeneration, place, told, template=CHATML)

    @torch.no_grad()
    def encode(self, media: Media) -> VisualTokens:
        """A picture's tiles and thumbnail, or a video's frames, one view each."""
        if media.kind == "video":
            pixels = torch.cat([self._pixels(frame, tiled=False) for frame in media.frames])
            blocks = tuple(Block("frame", self._cells, self._cells, time=time) for time in media.times)
        else:
            pixels = self._pixels(media.frames[0], tiled=True)
            blocks = self._tiles(media.width, media.height)
        run = self.model.model.get_image_features
        features = in_batches(lambda part: run(part, return_dict=True).pooler_output, pixels.to(self.lm_head.weight))
        return VisualTokens(detached(features).flatten(0, 1), Grid.full(blocks))

    def _pixels(self, frame: np.ndarray, tiled: bool) -> Tensor:
        prepared = self._prepare(frame, crop_to_patches=tiled, return_tensors="pt", input_data_format="channels_last")
        return prepared["pixel_values"]

    def _tiles(self, width: int, height: int) -> tuple[Block, ...]:
        from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

        limits = self._prepare.min_patches, self._prepare.max_patches
        cols, rows = get_optimal_tiled_canvas((height, width), (self._side, self._side), *limits)
        whole = Block("base", self._cells, self._cells)
        if rows * cols == 1:
            return (whole,)
        return (
            *(
                Block("tile", self._cells, self._cells, (x / cols, y / rows, (x + 1) / cols, (y + 1) / rows))
                for y in range(rows)
                for x in range(cols)
            ),
            whole,
        )

    def media_text(self, tokens: VisualTokens | None) -> MediaText:
        """One run of tokens between its marks, or one per frame."""
        mark = self._tokenizer.convert_ids_to_tokens(self.model.config.image_token_id)
        held = f"<img>{mark}</img>"
        if tokens is None or tokens.grid.blocks[0].kind != "frame":
            return MediaText("image", mark, held, mark)
        frames = len(tokens.grid.blocks)
        text = "\n".join(f"Frame{i + 1}: {held}" for i in range(frames))
        return MediaText("video", "<video>", text, mark)

    def runs(self, tokens: VisualTokens) -> list[int]:
        """Every frame but the first has a text before it."""
        frames = len(tokens.grid.blocks) if tokens.grid.blocks[0].kind == "frame" else 1
        return [i * self._cells**2 for i in range(1, frames)]


def _one(size: int | list[int] | tuple[int, ...]) -> int:
    return size if isinstance(size, int) else int(size[0])
