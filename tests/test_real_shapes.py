"""The published models' sizes, with no weight allocated: token counts, parameters, and the shapes in between."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    SiglipVisionConfig,
    VideoLlavaConfig,
    VideoLlavaForConditionalGeneration,
)

from script_core.backends import KNOWN
from script_core.backends.base import ModelInfo
from script_core.backends.checkpoint import Parts
from script_core.backends.internvl import InternVl
from script_core.backends.llava_next import LlavaNext
from script_core.backends.llava_video import NORMAL, TOWER, LlavaVideo, config_of
from script_core.media import Media
from script_core.tokens import Block, Grid, VisualTokens
from tests import tiny, tiny_families

VICUNA_7B = LlamaConfig(vocab_size=32064, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32)
VICUNA_13B = LlamaConfig(
    vocab_size=32064, hidden_size=5120, intermediate_size=13824, num_hidden_layers=40, num_attention_heads=40
)
QWEN_7B = {
    "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}  # fmt: skip
QWEN_HALF = {
    **QWEN_7B, "vocab_size": 152000, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
    "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True,
}  # fmt: skip
CLIP_L = CLIPVisionConfig(
    hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=336,
    patch_size=14, projection_dim=768,
)  # fmt: skip
PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]


def llava(text: LlamaConfig) -> Any:
    return LlavaForConditionalGeneration(LlavaConfig(vision_config=CLIP_L, text_config=text))


def llava_next(text: LlamaConfig) -> Any:
    config = LlavaNextConfig(vision_config=CLIP_L, text_config=text, image_grid_pinpoints=PINPOINTS)
    return LlavaNextForConditionalGeneration(config)


def llava_video() -> Any:
    return LlavaOnevisionForConditionalGeneration(config_of(QWEN_7B))


def internvl() -> Any:
    words = {**QWEN_7B, "vocab_size": 151674}
    return InternVLForConditionalGeneration(InternVLConfig(text_config=Qwen2Config(**words), tie_word_embeddings=False))


def onevision() -> Any:
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**TOWER), text_config=Qwen2Config(**QWEN_HALF), tie_word_embeddings=True
    )
    return LlavaOnevisionForConditionalGeneration(config)


def qwen() -> Any:
    vision = {"hidden_size": 1280, "out_hidden_size": 3584, "intermediate_size": 3420}
    words = {**QWEN_7B, "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6}}
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(vision_config=vision, text_config=words, tie_word_embeddings=False)
    )


def video_llava() -> Any:
    vision = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=224,
        patch_size=14,
    )  # fmt: skip
    config = VideoLlavaConfig(vision_config=vision, text_config=VICUNA_7B)
    return VideoLlavaForConditionalGeneration(config)


MODELS = {
    "llava-hf/llava-1.5-7b-hf": lambda: llava(VICUNA_7B),
    "llava-hf/llava-1.5-13b-hf": lambda: llava(VICUNA_13B),
    "llava-hf/llava-v1.6-vicuna-7b-hf": lambda: llava_next(VICUNA_7B),
    "llava-hf/llava-v1.6-vicuna-13b-hf": lambda: llava_next(VICUNA_13B),
    "lmms-lab/LLaVA-Video-7B-Qwen2": llava_video,
    "LanguageBind/Video-LLaVA-7B-hf": video_llava,
    "OpenGVLab/InternVL3-8B-hf": internvl,
    "Qwen/Qwen2.5-VL-7B-Instruct": qwen,
    "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": onevision,
}


@cache
def empty(name: str) -> Any:
    with torch.device("meta"):
        return MODELS[name]().eval()


@pytest.mark.parametrize("name", MODELS)
def test_the_table_of_known_models_tells_their_size(name: str) -> None:
    billions = sum(p.numel() for p in empty(name).parameters()) / 1e9
    assert KNOWN[name].parameters == pytest.approx(billions, abs=0.06)
    assert KNOWN[name].download == pytest.approx(2 * billions, rel=0.03)
    assert KNOWN[name].memory > KNOWN[name].download
    assert set(MODELS) == set(KNOWN)


def parts(model: Any, processor: dict[str, Any], words: Any = None) -> Parts:
    info = ModelInfo("empty", "empty", "meta", "float32", "")
    return Parts(model, words or tiny.tokenizer(), processor, "", None, info)


def test_llava_next_reads_2880_tokens_of_a_square_picture_and_48_newlines() -> None:
    model = empty("llava-hf/llava-v1.6-vicuna-7b-hf")
    backend = LlavaNext.__new__(LlavaNext)
    backend.model, backend._side, backend._cells, backend._pinpoints = model, 336, 24, PINPOINTS
    for size, content, newlines in (((672, 672), 2880, 48), ((480, 640), 2304, 36), ((336, 336), 1152, 24)):
        square = np.zeros((*size, 3), np.uint8)
        views: Any = type("Views", (), {"blocks": (Block("base", 24, 24), *backend._tiles(square))})
        layout = backend.layout(square, views)
        assert (len(layout.view), len(layout.newlines)) == (content, newlines)
        pixels = torch.empty(1, len(views.blocks), 3, 336, 336, device="meta")
        packed = model.model.get_image_features(pixels, torch.tensor([size]), return_dict=True).pooler_output[0]
        assert packed.shape == (content + newlines, 4096)


@pytest.mark.parametrize(("pool_mode", "rows"), [("average", 13), ("bilinear", 14)])
def test_llava_video_reads_64_frames_of_169_tokens(pool_mode: str, rows: int) -> None:
    model = empty("lmms-lab/LLaVA-Video-7B-Qwen2")
    backend = LlavaVideo(parts(model, dict(NORMAL), tiny_families.tokenizer("llava_video")), pool_mode=pool_mode)
    assert backend.info.frames == 64
    with torch.no_grad():
        views = backend.views(torch.empty(64, 3, 384, 384, device="meta"))
        pooled, side, share = backend.pool(views)
    assert views.shape == (64, 729, 3584) and pooled.shape == (64, rows * rows, 3584) and side == rows
    assert share == pytest.approx(2 * 14 * rows / 384 if pool_mode == "average" else 378 / 384)
    grid = Grid.full(tuple(Block("frame", rows, rows, time=float(i)) for i in range(64)))
    tokens = VisualTokens(torch.empty(len(grid), 1), grid, newlines=backend.breaks(grid))
    assert (len(tokens), len(tokens.newlines)) == {"average": (10816, 832), "bilinear": (12544, 896)}[pool_mode]
    with torch.no_grad():
        rows_in = torch.empty(1, len(tokens) + len(tokens.newlines), 3584, device="meta")
        positions = torch.arange(rows_in.shape[1], device="meta")[None]
        cos, sin = model.model.language_model.rotary_emb(rows_in, positions)
        layer = model.model.language_model.layers[0]
        assert layer(rows_in, position_embeddings=(cos, sin)).shape == rows_in.shape


def test_internvl_reads_1280_tokens_of_a_picture_of_896_pixels() -> None:
    backend = InternVl(parts(empty("OpenGVLab/InternVL3-8B-hf"), {}, tiny_families.tokenizer("internvl")))
    blocks = backend._tiles(896, 896)
    assert [b.kind for b in blocks] == ["tile"] * 4 + ["base"] and len(Grid.full(blocks)) == 1280
    picture = Media.of([np.zeros((896, 896, 3), np.uint8)])
    pixels = backend._pixels(picture.frames[0], tiled=True)
    run = backend.model.model.get_image_features
    assert run(pixels.to("meta"), return_dict=True).pooler_output.shape == (5, 256, 3584)


def test_video_llava_reads_257_tokens_of_a_frame() -> None:
    model = empty("LanguageBind/Video-LLaVA-7B-hf").model
    video = model.get_video_features(torch.empty(1, 8, 3, 224, 224, device="meta"), return_dict=True).pooler_output
    still = model.get_image_features(torch.empty(1, 3, 224, 224, device="meta"), return_dict=True).pooler_output
    assert video.shape[0] * video.shape[1] == 2056 and still.shape[1] == 256
