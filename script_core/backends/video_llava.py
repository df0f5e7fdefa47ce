"""Video-LLaVA: one LanguageBind tower for pictures, one for videos; 8 frames of 256 patches and a CLS token each.

Of pictures the CLS token is cut off, of frames it is kept, so a video has 8 x 257 tokens. A frame's CLS token is a
block of its own here, one token that stands for the whole frame. LanguageBind's text tower is not in the checkpoint,
so relevance is taken in the language model's own space.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from script_core.backends.base import detached
from script_core.backends.checkpoint import Parts, read, settings
from script_core.backends.clip_llava import depth_of, look
from script_core.backends.llava import seen
from script_core.backends.placement import Placement
from script_core.backends.progress import Told, silent
from script_core.backends.spliced import Spliced
from script_core.media import Media
from script_core.tokens import Block, Grid, VisualTokens

VICUNA = (
    "{% for part in messages[0]['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% else %}USER: <{{ part['type'] }}>\n{% endif %}{% endfor %} ASSISTANT:"
)


class VideoLlava(Spliced):
    """Square centre crops of 16 x 16 tokens."""

    family: ClassVar[str] = "video_llava"
    frames: ClassVar[int] = 8

    def __init__(self, parts: Parts, frames: int | None = None) -> None:
        from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

        super().__init__(parts, frames)
        self.info = replace(self.info, offers=self.info.offers | {"cls_attention"})
        vision = parts.model.config.vision_config
        self._cells = vision.image_size // vision.patch_size
        self._depth = depth_of(parts.model.config)
        self._prepare = LlavaImageProcessorPil(**settings(parts))

    @classmethod
    def load(cls, source: str, place: Placement, told: Told = silent) -> Parts:
        """Read a checkpoint. Raises `CannotLoad`."""
        from transformers.models.video_llava.modeling_video_llava import VideoLlavaForConditionalGeneration

        return read(source, VideoLlavaForConditionalGeneration, place, told, template=VICUNA)

    @torch.no_grad()
    def encode(self, media: Media) -> VisualTokens:
        """A picture without CLS, or frames with it."""
        inner, video = self.model.model, media.kind == "video"
        tower = inner.video_tower if video else inner.image_tower
        features, attention = [], []
        for frame in media.frames:
            hidden, _, cls = look(tower, self._depth, self._pixels(frame))
            features.append(detached(inner.multi_modal_projector(hidden if video else hidden[:, 1:]))[0])
            attention.append(detached(cls if video else cls[..., 1:])[0].mean(0))
        box = seen(self._prepare, media.width, media.height)
        grid = Grid.full(_blocks(media, self._cells, box))
        return VisualTokens(torch.cat(features), grid, cls_attention=torch.cat(attention))

    def _pixels(self, frame: np.ndarray) -> Tensor:
        pixels: Any = self._prepare(frame, return_tensors="pt", input_data_format="channels_last")["pixel_values"]
        return pixels.to(self.lm_head.weight)


def _blocks(media: Media, cells: int, box: tuple[float, float, float, float]) -> tuple[Block, ...]:
    if media.kind == "image":
        return (Block("base", cells, cells, box),)
    pairs = ((Block("cls", 1, 1, box, time), Block("frame", cells, cells, box, time)) for time in media.times)
    return tuple(block for pair in pairs for block in pair)
