"""Qwen2.5-VL: any resolution, tokens of 2 x 2 merged patches, and positions of three axes (time, row, column).

A token that is kept keeps the position of its place in the picture, whatever else was pruned (M-RoPE); there is no
compact numbering. The tower has no CLS token and no aligned text tower, so relevance is taken in the language model's
own space.
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
from script_core.backends.spliced import Spliced
from script_core.media import Media
from script_core.tokens import Block, Grid, VisualTokens

CHATML = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    "{% for part in messages[0]['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% else %}<|vision_start|><|{{ part['type'] }}_pad|><|vision_end|>{% endif %}{% endfor %}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
PICTURE_PIXELS = 1280 * 28 * 28  # 1,280 tokens, the upper end of what Qwen recommends; a checkpoint may name 16,384
FRAME_PIXELS = 360 * 420  # of one frame, so that 16 frames stay near 1,500 tokens
PICTURE, VIDEO = 1, 2  # modality ids of get_rope_index


class Qwen25Vl(Spliced):
    """Pictures as one block; of videos two frames make one."""

    family: ClassVar[str] = "qwen2_5_vl"
    frames: ClassVar[int] = 16

    def __init__(self, parts: Parts, frames: int | None = None) -> None:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        super().__init__(parts, frames)
        self._prepare: Any = Qwen2VLImageProcessorPil(**settings(parts))
        self._merge = parts.model.config.vision_config.spatial_merge_size
        self._deep = parts.model.config.vision_config.temporal_patch_size

    @classmethod
    def load(cls, source: str, place: Placement, told: Told = silent) -> Parts:
        """Read a checkpoint. Raises `CannotLoad`."""
        from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLForConditionalGeneration

        return read(source, Qwen2_5_VLForConditionalGeneration, place, told, template=CHATML)

    @torch.no_grad()
    def encode(self, media: Media) -> VisualTokens:
        """A picture at its own aspect ratio, or frames of a video in twos."""
        video = media.kind == "video"
        patches, thw = self._frames(media) if video else self._picture(media)
        times = [media.times[min(i * self._deep, len(media.times) - 1)] if video else None for i in range(int(thw[0]))]
        rows, cols = int(thw[1]) // self._merge, int(thw[2]) // self._merge
        inner, weight = self.model.model, self.lm_head.weight
        run = inner.get_video_features if video else inner.get_image_features
        features = run(patches.to(weight), thw[None].to(weight.device), return_dict=True).pooler_output[0]
        blocks = tuple(Block("frame" if video else "base", rows, cols, time=time) for time in times)
        return VisualTokens(detached(features), Grid.full(blocks))

    def _prepared(self, frame: np.ndarray, pixels: int) -> Any:
        """Patches of one picture of at most `pixels`, or fewer if the checkpoint says so."""
        size = self._prepare.size
        limits = {"shortest_edge": size.shortest_edge, "longest_edge": min(size.longest_edge, pixels)}
        return self._prepare(frame, return_tensors="pt", input_data_format="channels_last", size=limits)

    def _picture(self, media: Media) -> tuple[Tensor, Tensor]:
        made = self._prepared(media.frames[0], PICTURE_PIXELS)
        return made["pixel_values"], made["image_grid_thw"][0]

    def _frames(self, media: Media) -> tuple[Tensor, Tensor]:
        """Patches (t * h * w, c * frames * side * side). The processor repeats one picture along the time axis of a
        patch; here each place on that axis is filled from its own frame, and the last frame is repeated at the end."""
        made = []
        for frame in media.frames:
            one = self._prepared(frame, FRAME_PIXELS)
            made.append(one["pixel_values"].unflatten(1, (3, self._deep, -1)))
        made += [made[-1]] * (-len(made) % self._deep)
        groups = [made[i : i + self._deep] for i in range(0, len(made), self._deep)]
        deep = [torch.stack([part[:, :, i] for i, part in enumerate(group)], 2).flatten(1) for group in groups]
        _, high, wide = one["image_grid_thw"][0].tolist()
        return torch.cat(deep), torch.tensor([len(groups), high, wide])

    def numbering(
        self, texts: list[list[int]], tokens: VisualTokens, places: Tensor, total: int, positions: str
    ) -> tuple[Tensor, int]:
        """Every row's place on the three axes, as in the full prompt: (3, 1, L)."""
        grid = tokens.grid.blocks
        video = grid[0].kind == "frame"
        config = self.model.config
        mark = config.video_token_id if video else config.image_token_id
        ids = torch.tensor([[*texts[0], *[mark] * len(tokens), *texts[1]]])
        kinds = torch.zeros_like(ids)
        kinds[0, len(texts[0]) : len(texts[0]) + len(tokens)] = VIDEO if video else PICTURE
        thw = torch.tensor([[len(grid), grid[0].rows * self._merge, grid[0].cols * self._merge]])
        named = {"video_grid_thw" if video else "image_grid_thw": thw}
        if video:
            named["second_per_grid_ts"] = torch.tensor([_spacing(grid)])
        full, _ = self.model.model.get_rope_index(ids, kinds, **named)
        return full[:, :, places], int(full.max()) + 1


def _spacing(blocks: tuple[Block, ...]) -> float:
    """Seconds from one block to the next; one second if there is no next."""
    first, last = blocks[0].time or 0.0, blocks[-1].time or 0.0
    return (last - first) / (len(blocks) - 1) if len(blocks) > 1 else 1.0
