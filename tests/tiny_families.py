"""Tiny random checkpoints of the real classes behind five more families, saved the way published ones are.

Standard deviation 0.25, so that a wrong position changes the logits. Grids have an odd side (7 x 7 patches) where the
real ones have (27 x 27), and squares keep a rim that no patch covers, as 384 pixels do.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlamaConfig,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    SiglipVisionConfig,
    VideoLlavaConfig,
    VideoLlavaForConditionalGeneration,
)
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from script_core.media import Media
from tests.tiny import picture

FAMILIES = ["llava_onevision", "llava_video", "video_llava", "internvl", "qwen2_5_vl"]
KINDS = ["image", "video"]
QUESTION = "what is it?"
TIMES = (0.0, 0.7, 1.4, 2.1)
PATCH = 14
SIDE = 100  # 7 x 7 patches and 2 pixels over
WORDS: dict[str, tuple[str, ...]] = {
    "llava_onevision": ("<image>", "<video>"),
    "video_llava": ("<image>", "<video>"),
    "internvl": ("<IMG_CONTEXT>", "<img>", "</img>", "<video>"),
    "qwen2_5_vl": ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"),
    "llava_video": ("<|im_start|>", "<|im_end|>"),
}
FIRST = 3  # the id of a family's first word of its own
TINY_TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2}
PINPOINTS = [[high * SIDE, wide * SIDE] for high in range(1, 7) for wide in range(1, 7)]
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def tokenizer(family: str) -> PreTrainedTokenizerFast:
    """One token per byte, and the family's own words."""
    specials = ("<pad>", "<s>", "</s>", *WORDS[family])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(BPE({token: i for i, token in enumerate((*specials, *alphabet))}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        additional_special_tokens=list(WORDS[family]),
    )  # fmt: skip


def text(kind: Any, **more: Any) -> Any:
    """A language model of four layers with grouped queries."""
    sizes = {
        "vocab_size": 272, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
        "initializer_range": 0.25, "tie_word_embeddings": False,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    return kind(**{**sizes, **more})


def save(family: str, folder: Path, seed: int = 0) -> Path:
    """Write a checkpoint of the family."""
    torch.manual_seed(seed)
    model, image = BUILD[family]()
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    if family == "llava_video":
        _save_original(model, folder)
    else:
        model.save_pretrained(folder)
        image.save_pretrained(folder)
    tokenizer(family).save_pretrained(folder)
    return folder


def onevision() -> tuple[Any, Any]:
    tower = SiglipVisionConfig(
        **TINY_TOWER, image_size=SIDE, patch_size=PATCH, vision_use_head=False, initializer_range=0.25
    )
    config = LlavaOnevisionConfig(
        vision_config=tower, text_config=text(Qwen2Config), image_token_index=FIRST, video_token_index=FIRST + 1,
        image_grid_pinpoints=PINPOINTS, initializer_range=0.25,
    )  # fmt: skip
    model = LlavaOnevisionForConditionalGeneration(config).eval()
    model.model.image_newline.data.normal_(0, 0.25)
    square = {"height": SIDE, "width": SIDE}
    return model, LlavaOnevisionImageProcessorPil(size=square, image_grid_pinpoints=PINPOINTS, **HALF)


def video_llava() -> tuple[Any, Any]:
    tower = CLIPVisionConfig(
        **{**TINY_TOWER, "num_hidden_layers": 3}, image_size=84, patch_size=PATCH, projection_dim=24,
        initializer_range=0.25,
    )  # fmt: skip
    config = VideoLlavaConfig(
        vision_config=tower, text_config=text(LlamaConfig), image_token_index=FIRST, video_token_index=FIRST + 1,
        initializer_range=0.25,
    )  # fmt: skip
    crop = {"height": 84, "width": 84}
    return (
        VideoLlavaForConditionalGeneration(config).eval(),
        LlavaImageProcessorPil(size={"shortest_edge": 84}, crop_size=crop, do_pad=False),
    )


def internvl() -> tuple[Any, Any]:
    tower = InternVLVisionConfig(
        **TINY_TOWER, image_size=[84, 84], patch_size=[PATCH, PATCH], initializer_range=0.25, norm_type="layer_norm"
    )
    config = InternVLConfig(
        vision_config=tower, text_config=text(Qwen2Config), image_token_id=FIRST, image_seq_length=9,
        initializer_range=0.25,
    )  # fmt: skip
    config.tie_word_embeddings = False
    processor = GotOcr2ImageProcessorPil(
        size={"height": 84, "width": 84}, crop_to_patches=True, min_patches=1, max_patches=6
    )
    return InternVLForConditionalGeneration(config).eval(), processor


def qwen() -> tuple[Any, Any]:
    vision = {
        "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "depth": 2, "patch_size": PATCH,
        "window_size": 56, "out_hidden_size": 48, "fullatt_block_indexes": [1], "tokens_per_second": 4,
        "initializer_range": 0.25,
    }  # fmt: skip
    words = text(dict, rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2]})
    config = Qwen2_5_VLConfig(
        vision_config=vision, text_config=words, image_token_id=FIRST, video_token_id=FIRST + 1,
        vision_start_token_id=FIRST + 2, vision_end_token_id=FIRST + 3, initializer_range=0.25,
    )  # fmt: skip
    model = Qwen2_5_VLForConditionalGeneration(config).eval()
    return model, Qwen2VLImageProcessorPil(size={"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 24})


BUILD = {
    "llava_onevision": onevision,
    "llava_video": onevision,
    "video_llava": video_llava,
    "internvl": internvl,
    "qwen2_5_vl": qwen,
}


def _save_original(model: Any, folder: Path) -> None:
    """The weights under the names, and the config with the fields, of the published LLaVA-Video checkpoint."""
    back = (
        ("model.vision_tower.", "model.vision_tower.vision_tower.vision_model."),
        ("model.multi_modal_projector.linear_1.", "model.mm_projector.0."),
        ("model.multi_modal_projector.linear_2.", "model.mm_projector.2."),
        ("model.language_model.", "model."),
    )
    weights = {}
    for name, value in model.state_dict().items():
        for new, old in back:
            if name.startswith(new):
                name = old + name[len(new) :]
                break
        weights[name] = value.contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    sizes = text(dict)
    config = {
        **sizes, "architectures": ["LlavaQwenForCausalLM"], "model_type": "llava_qwen", "mm_hidden_size": 32,
        "mm_projector_type": "mlp2x_gelu", "mm_vision_tower": "google/siglip-so400m-patch14-384",
        "image_aspect_ratio": "anyres_max_9", "mm_newline_position": "grid", "mm_spatial_pool_mode": "bilinear",
        "vision_config": {**TINY_TOWER, "image_size": SIDE}, "torch_dtype": "bfloat16",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))


def media(kind: str, seed: int = 0) -> Media:
    """A picture or a short video of random blocks."""
    if kind == "image":
        return Media.of([picture(230, 170, seed)])
    return Media.of([picture(120, 90, seed + i) for i in range(len(TIMES))], TIMES)
