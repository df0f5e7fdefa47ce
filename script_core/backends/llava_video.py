"""LLaVA-Video: 64 frames of 13 x 13 tokens, each row ended by a newline, from the checkpoint as its authors saved it.

transformers has no class of this name, but the architecture is LLaVA-OneVision's: the original weights go into those
modules under other names, and only the treatment of frames differs.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from script_core.backends.base import CannotLoad
from script_core.backends.checkpoint import Parts, read, read_json
from script_core.backends.onevision import Onevision
from script_core.backends.placement import Placement
from script_core.backends.progress import Told, silent
from script_core.tokens import Grid, VisualTokens

NAMES = {
    r"^model\.vision_tower\.vision_tower\.vision_model\.": "model.vision_tower.",
    r"^model\.mm_projector\.0\.": "model.multi_modal_projector.linear_1.",
    r"^model\.mm_projector\.2\.": "model.multi_modal_projector.linear_2.",
    r"^model\.(embed_tokens|layers|norm)\.": r"model.language_model.\1.",
}

# The tower is SigLIP so400m at 384 pixels without its last layer: LLaVA reads the one before it.
TOWER = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_attention_heads": 16,
    "num_hidden_layers": 26,
    "image_size": 384,
    "patch_size": 14,
    "vision_use_head": False,
}
NORMAL = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3}
POOLS = ("average", "bilinear")
BEFORE = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
AFTER = "<|im_end|>\n<|im_start|>assistant\n"


class LlavaVideo(Onevision):
    """pool_mode: "average" (13 x 13, as in the paper's 169 tokens per frame) or "bilinear" (14 x 14)."""

    family: ClassVar[str] = "llava_video"
    frames: ClassVar[int] = 64

    def __init__(self, parts: Parts, frames: int | None = None, pool_mode: str = "average") -> None:
        if pool_mode not in POOLS:
            raise CannotLoad(f"The frames' pooling is one of {', '.join(POOLS)}, not {pool_mode!r}.")
        super().__init__(parts, frames)
        self._average = pool_mode == "average"

    @classmethod
    def load(cls, source: str, place: Placement, told: Told = silent) -> Parts:
        """Read a checkpoint in the original layout. Raises `CannotLoad`, also if one weight is missing."""
        from transformers.models.llava_onevision.modeling_llava_onevision import (
            LlavaOnevisionForConditionalGeneration,
        )

        config = config_of(read_json(source, "config.json"))
        model = LlavaOnevisionForConditionalGeneration
        more: dict[str, Any] = {"config": config, "key_mapping": NAMES, "processor": NORMAL}
        return read(source, model, place, told, template="", **more)

    def prompt_ids(self, question: str, tokens: VisualTokens | None = None) -> list[list[int]]:
        """Both halves are tokenised apart, as the authors do; frames are introduced by their times."""
        told = "" if tokens is None else instruction(tokens)
        halves = BEFORE, f"\n{told}{self._plain(question)}{AFTER}"
        return [self._tokenizer(half, add_special_tokens=False)["input_ids"] for half in halves]

    def pool(self, features: Tensor) -> tuple[Tensor, int, float]:
        """2 x 2 average, which drops the odd last row and column, or bilinear, which stretches over them."""
        if not self._average:
            return super().pool(features)
        count, _, width = features.shape
        square = features.view(count, self._cells, self._cells, width).permute(0, 3, 1, 2)
        rows = self._cells // 2
        pooled = torch.nn.functional.avg_pool2d(square, 2).flatten(2).transpose(1, 2)
        return pooled, rows, 2 * rows * self._patch / self._side

    def breaks(self, grid: Grid) -> Tensor:
        """One newline behind each row of each frame."""
        cols = grid.blocks[0].cols
        return torch.arange(cols - 1, len(grid), cols)


def instruction(tokens: VisualTokens) -> str:
    """The sentence on when the frames were taken, as in training; the last frame stands for the video's end."""
    times = [block.time for block in tokens.grid.blocks if block.time is not None]
    if not times:
        return ""
    listed = ",".join(f"{time:.2f}s" for time in times)
    return (
        f"The video lasts for {times[-1]:.2f} seconds, and {len(times)} frames are uniformly sampled from it. "
        f"These frames are located at {listed}. Please answer the following questions related to this video.\n"
    )


def config_of(original: dict[str, Any]) -> Any:
    """A LLaVA-OneVision config with the sizes that the original config.json names (`vision_config` only in tests)."""
    from transformers import LlavaOnevisionConfig, Qwen2Config, SiglipVisionConfig

    strange = ("model_type", "architectures", "transformers_version", "vision_config", "torch_dtype", "dtype")
    text = {
        name: value
        for name, value in original.items()
        if name not in strange and not name.startswith(("mm_", "image_"))
    }
    tower = SiglipVisionConfig(**{**TOWER, **original.get("vision_config", {})})
    side = tower.image_size
    pinpoints = [[high * side, wide * side] for high in range(1, 7) for wide in range(1, 7)]
    return LlavaOnevisionConfig(
        vision_config=tower,
        text_config=Qwen2Config(**text),
        image_grid_pinpoints=pinpoints,
        tie_word_embeddings=original.get("tie_word_embeddings", False),
    )
