"""Published shapes with random weights: LLaVA-NeXT-7B on a picture, LLaVA-Video-7B on 64 frames.

Time and memory depend on shapes, not on what the weights say, so no checkpoint is fetched. What runs is the product's
own code for the family, vision tower, projector, selection and language model; only the tokenizer is a stand-in.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from script_core.backends.base import Backend, ModelInfo
from script_core.backends.checkpoint import VICUNA, Parts
from script_core.backends.joint import JointSpace
from script_core.backends.llava_next import LlavaNext
from script_core.backends.llava_video import NORMAL, LlavaVideo, config_of
from script_core.media import Media
from script_core.tokens import VisualTokens

Sizes = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """family: "llava_next" or "llava_video". text, vision: sizes of the two models, as their configs name them.

    joint: width of the image-text space, 0 for none. side: of the picture in pixels. frames: 0 for a picture.
    """

    name: str
    family: str
    text: Sizes
    vision: Sizes
    joint: int
    side: int
    frames: int
    budgets: tuple[int, ...]


NEXT_7B = Shape(
    "LLaVA-NeXT-7B shape",
    "llava_next",
    {
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "vocab_size": 32064, "max_position_embeddings": 4096,
    },
    {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        "image_size": 336, "patch_size": 14, "projection_dim": 768,
    },
    joint=768,
    side=672,
    frames=0,
    budgets=(640, 320, 160),
)  # fmt: skip
VIDEO_7B = Shape(
    "LLaVA-Video-7B shape",
    "llava_video",
    {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 32768, "rope_theta": 1000000.0,
    },
    {},
    joint=0,
    side=384,
    frames=64,
    budgets=(1024,),
)  # fmt: skip


def small(shape: Shape) -> Shape:
    """The same family at a size for a test: 4 layers, 36 tokens per view, at most 3 frames."""
    heads = {"num_attention_heads": 2, "num_hidden_layers": 4, "hidden_size": 32, "intermediate_size": 48}
    text = {**heads, "num_key_value_heads": 2, "vocab_size": 300, "max_position_embeddings": 4096}
    vision = {**heads, "image_size": 84, "patch_size": 14} | ({"projection_dim": 24} if shape.joint else {})
    joint, frames = min(shape.joint, 24), min(shape.frames, 3)
    return replace(shape, text=text, vision=vision, joint=joint, side=168, frames=frames, budgets=(18,))


def media(shape: Shape) -> Media:
    """A square picture or a video of noise, which no two patches share."""
    drawn = np.random.default_rng(0)
    frames = [drawn.integers(0, 256, (shape.side, shape.side, 3), dtype=np.uint8) for _ in range(max(shape.frames, 1))]
    return Media.of(frames, tuple(float(second) for second in range(shape.frames)))


def made(shape: Shape, device: torch.device, dtype: torch.dtype) -> Backend:
    """A backend with random weights."""
    from transformers import AutoModelForImageTextToText

    config, processor = (_next if shape.family == "llava_next" else _video)(shape)
    with torch.device(device):
        model: Any = AutoModelForImageTextToText.from_config(config, dtype=dtype, attn_implementation="sdpa").eval()
        joint = _joint(shape) if shape.joint else None
    offers = {"in_model"} | ({"joint", "cls_attention", "encoder"} if joint else set())
    info = ModelInfo(shape.name, shape.name, str(device), str(dtype).removeprefix("torch."), "", frozenset(offers))
    parts = Parts(model, _tokenizer(), processor, VICUNA, joint, info)
    return LlavaNext(parts) if shape.family == "llava_next" else _Untimed(parts, shape.frames)


class _Untimed(LlavaVideo):
    """Without the sentence on when frames were taken, which would take the stand-in tokenizer a thousand tokens."""

    def prompt_ids(self, question: str, tokens: VisualTokens | None = None) -> list[list[int]]:
        return super().prompt_ids(question, None)


def _next(shape: Shape) -> tuple[Any, Sizes]:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaNextConfig

    side = shape.vision["image_size"]
    pinpoints = [[side, 2 * side], [2 * side, side], [2 * side, 2 * side]]
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**shape.vision), text_config=LlamaConfig(**shape.text),
        image_grid_pinpoints=pinpoints, image_token_index=MARK, tie_word_embeddings=False,
    )  # fmt: skip
    return config, {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}


def _video(shape: Shape) -> tuple[Any, Sizes]:
    config = config_of({**shape.text, "vision_config": shape.vision})
    config.image_token_id = config.video_token_id = MARK
    return config, NORMAL


def _joint(shape: Shape) -> JointSpace:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    sizes: Sizes = {"hidden_size": shape.joint, "intermediate_size": 4 * shape.joint, "projection_dim": shape.joint}
    sizes |= {"num_hidden_layers": 12, "num_attention_heads": 12}
    sizes |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    tower: Any = CLIPTextModelWithProjection(CLIPTextConfig(**sizes)).eval()
    width = shape.vision["hidden_size"]
    projection = torch.randn(shape.joint, width) / width**0.5
    return JointSpace(tower, _tokenizer(), torch.nn.LayerNorm(width), projection, -1.0)


SPECIALS = ("<pad>", "<s>", "</s>", "<image>")
MARK = SPECIALS.index("<image>")


def _tokenizer() -> Any:
    """One token per printable character."""
    from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = (*SPECIALS, *string.printable)
    core = Tokenizer(WordLevel({word: place for place, word in enumerate(words)}, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
