"""Tiny random checkpoints with real shapes of everything but size, saved the way published ones are.

Weights have a standard deviation of 0.25: with the default of 0.02 a model hardly notices positions, and a wrong
position would pass unseen.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

SIDE, PATCH = 84, 14  # 6 x 6 = 36 tokens per view
PINPOINTS = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE], [3 * SIDE, SIDE], [SIDE, 3 * SIDE]]
SPECIALS = ("<pad>", "<s>", "</s>", "<image>")
TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>\n' }}{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte: any script and any emoji, and an answer can stop in the middle of a character."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {token: i for i, token in enumerate((*SPECIALS, *alphabet))}
    core = Tokenizer(BPE(ids, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
    )


def _configs(side: int) -> dict[str, Any]:
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=side,
        patch_size=PATCH,
        projection_dim=24,
        initializer_range=0.25,
    )
    text = LlamaConfig(
        vocab_size=260,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.25,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return {
        "vision_config": vision,
        "text_config": text,
        "image_token_index": 3,
        "image_seq_length": (side // PATCH) ** 2,
        "initializer_range": 0.25,
        "tie_word_embeddings": False,
    }


def save_llava(
    folder: Path, *, side: int = SIDE, joint: bool = True, pad: bool = False, seed: int = 0, text: Any = None
) -> Path:
    """A LLaVA-1.5: centre crop as its published processor does, or `pad` to a square as its evaluation did.

    text: the config of another language model than the usual one; its biases, if it has any, are made random.
    """
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(LlavaConfig(**{**_configs(side), **({"text_config": text} if text else {})}))
    if text:
        for name, weight in model.model.language_model.named_parameters():
            if name.endswith(".bias"):
                weight.data.normal_(0, 0.25)
    model.eval()
    image = LlavaImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side}, do_pad=pad)
    processor = LlavaProcessor(image, tokenizer(), chat_template=TEMPLATE, **_placeholders())
    return _save(folder, model, image, processor, joint)


def save_llava_next(folder: Path, *, side: int = SIDE, joint: bool = True, seed: int = 0) -> Path:
    """A LLaVA-NeXT with the published shapes of tiles, scaled to `side`."""
    torch.manual_seed(seed)
    pinpoints = [[h * side // SIDE, w * side // SIDE] for h, w in PINPOINTS]
    model = LlavaNextForConditionalGeneration(LlavaNextConfig(**_configs(side), image_grid_pinpoints=pinpoints)).eval()
    model.model.image_newline.data.normal_(0, 0.25)
    image = LlavaNextImageProcessorPil(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}, image_grid_pinpoints=pinpoints
    )
    processor = LlavaNextProcessor(image, tokenizer(), chat_template=TEMPLATE, **_placeholders())
    return _save(folder, model, image, processor, joint)


def _placeholders() -> dict[str, Any]:
    return {"patch_size": PATCH, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}


def _save(folder: Path, model: Any, image: Any, processor: Any, joint: bool) -> Path:
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    image.save_pretrained(folder)
    if joint:
        config = CLIPTextConfig(
            vocab_size=260,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=20,
            projection_dim=24,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
        CLIPTextModelWithProjection(config).save_pretrained(folder / "joint")
        tokenizer().save_pretrained(folder / "joint")
        save_file({"visual_projection.weight": torch.randn(24, 32)}, folder / "joint" / "visual_projection.safetensors")
        (folder / "relevance.json").write_text(json.dumps({"sign": 1, "space": "joint"}))
    return folder


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Blocks of random colour, so that patches differ from each other even after resizing: (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    rows, cols = np.arange(height) * 12 // height, np.arange(width) * 12 // width
    return cells[rows][:, cols]
