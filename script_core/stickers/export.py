"""Writes the trained modules as a checkpoint folder that transformers' own classes load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
)
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from script_core.stickers.model import PATCH, DecoderLayer, EncoderLayer, Sizes, TinyLlava
from script_core.stickers.tokenizer import BOS, EOS, IMAGE, PAD, build_tokenizer

PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]


def llava_config(sizes: Sizes) -> LlavaNextConfig:
    vision = CLIPVisionConfig(
        hidden_size=sizes.vit_width,
        intermediate_size=4 * sizes.vit_width,
        num_hidden_layers=sizes.vit_layers,
        num_attention_heads=sizes.vit_heads,
        image_size=336,
        patch_size=PATCH,
        projection_dim=sizes.joint,
        hidden_act="gelu",
        layer_norm_eps=1e-5,
    )
    text = LlamaConfig(
        vocab_size=sizes.vocab,
        hidden_size=sizes.width,
        intermediate_size=sizes.mlp,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.heads,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    return LlavaNextConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=IMAGE,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_grid_pinpoints=PINPOINTS,
        image_seq_length=576,
        projector_hidden_act="gelu",
        tie_word_embeddings=True,
    )


def text_config(sizes: Sizes) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=sizes.vocab,
        hidden_size=sizes.vit_width,
        intermediate_size=4 * sizes.vit_width,
        num_hidden_layers=sizes.text_layers,
        num_attention_heads=sizes.vit_heads,
        projection_dim=sizes.joint,
        max_position_embeddings=sizes.text_positions,
        hidden_act="gelu",
        layer_norm_eps=1e-5,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )


def _encoder_layer(layer: EncoderLayer, prefix: str) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for i, name in enumerate(("q_proj", "k_proj", "v_proj")):
        out[f"{prefix}.self_attn.{name}.weight"] = layer.qkv[i]
        out[f"{prefix}.self_attn.{name}.bias"] = layer.qkv_bias[i]
    out[f"{prefix}.self_attn.out_proj.weight"] = layer.out
    out[f"{prefix}.self_attn.out_proj.bias"] = layer.out_bias
    out[f"{prefix}.mlp.fc1.weight"], out[f"{prefix}.mlp.fc1.bias"] = layer.up, layer.up_bias
    out[f"{prefix}.mlp.fc2.weight"], out[f"{prefix}.mlp.fc2.bias"] = layer.down, layer.down_bias
    for i, norm in enumerate((layer.norm1, layer.norm2), start=1):
        out[f"{prefix}.layer_norm{i}.weight"], out[f"{prefix}.layer_norm{i}.bias"] = norm.weight, norm.bias
    return out


def _unread_layer(sizes: Sizes, prefix: str) -> dict[str, Tensor]:
    """The last vision layer, which LLaVA computes and never reads: zero output matrices make it the identity."""
    layer = EncoderLayer(sizes.vit_width, sizes.vit_heads)
    with torch.no_grad():
        for p in (layer.qkv, layer.out, layer.up, layer.down):
            p.zero_()
    return _encoder_layer(layer, prefix)


def _decoder_layer(layer: DecoderLayer, prefix: str) -> dict[str, Tensor]:
    out = {f"{prefix}.self_attn.{name}.weight": layer.qkv[i] for i, name in enumerate(("q_proj", "k_proj", "v_proj"))}
    out[f"{prefix}.self_attn.o_proj.weight"] = layer.out
    out[f"{prefix}.mlp.gate_proj.weight"], out[f"{prefix}.mlp.up_proj.weight"] = layer.gate_up[0], layer.gate_up[1]
    out[f"{prefix}.mlp.down_proj.weight"] = layer.down
    out[f"{prefix}.input_layernorm.weight"] = layer.norm1
    out[f"{prefix}.post_attention_layernorm.weight"] = layer.norm2
    return out


def llava_state(model: TinyLlava) -> dict[str, Tensor]:
    """The weights under the names of LlavaNextForConditionalGeneration."""
    vision, language, sizes = model.vision, model.language, model.sizes
    tower = "model.vision_tower"
    folded = model.proj1.float() / model.spread.float()
    patch = vision.patch.view(-1, PATCH, PATCH, 3).permute(0, 3, 1, 2)
    out: dict[str, Tensor] = {
        f"{tower}.embeddings.class_embedding": vision.cls,
        f"{tower}.embeddings.patch_embedding.weight": patch,
        f"{tower}.embeddings.position_embedding.weight": vision.positions,
        f"{tower}.pre_layrnorm.weight": vision.norm.weight,
        f"{tower}.pre_layrnorm.bias": vision.norm.bias,
        f"{tower}.post_layernorm.weight": vision.post.weight,
        f"{tower}.post_layernorm.bias": vision.post.bias,
        "model.multi_modal_projector.linear_1.weight": folded,
        "model.multi_modal_projector.linear_1.bias": model.proj1_bias.float() - folded @ model.centre.float(),
        "model.multi_modal_projector.linear_2.weight": model.proj2,
        "model.multi_modal_projector.linear_2.bias": model.proj2_bias,
        "model.image_newline": torch.zeros(sizes.width),
        "model.language_model.embed_tokens.weight": language.tokens,
        "model.language_model.norm.weight": language.norm,
        "lm_head.weight": language.tokens,
    }
    for i, layer in enumerate(vision.layers):
        out |= _encoder_layer(cast(EncoderLayer, layer), f"{tower}.encoder.layers.{i}")
    out |= _unread_layer(sizes, f"{tower}.encoder.layers.{sizes.vit_layers - 1}")
    for i, block in enumerate(language.layers):
        out |= _decoder_layer(cast(DecoderLayer, block), f"model.language_model.layers.{i}")
    return {name: value.detach().to(torch.float32).contiguous() for name, value in out.items()}


def text_state(model: TinyLlava) -> dict[str, Tensor]:
    """The weights under the names of CLIPTextModelWithProjection."""
    text = model.text
    reference = "text_model"
    out: dict[str, Tensor] = {
        f"{reference}.embeddings.token_embedding.weight": text.tokens,
        f"{reference}.embeddings.position_embedding.weight": text.positions,
        f"{reference}.final_layer_norm.weight": text.norm.weight,
        f"{reference}.final_layer_norm.bias": text.norm.bias,
        "text_projection.weight": text.projection,
    }
    for i, layer in enumerate(text.layers):
        out |= _encoder_layer(cast(EncoderLayer, layer), f"{reference}.encoder.layers.{i}")
    return {name: value.detach().to(torch.float32).contiguous() for name, value in out.items()}


def to_transformers(model: TinyLlava) -> tuple[LlavaNextForConditionalGeneration, CLIPTextModelWithProjection]:
    """The same weights in transformers' classes, float32, in evaluation mode."""
    llava = LlavaNextForConditionalGeneration(llava_config(model.sizes))
    llava.load_state_dict(llava_state(model), strict=True)
    text = CLIPTextModelWithProjection(text_config(model.sizes))
    text.load_state_dict(text_state(model), strict=True)
    return llava.eval(), text.eval()


def save_checkpoint(model: TinyLlava, ids: dict[str, int], folder: Path, card: dict[str, object]) -> None:
    """Write the folder: LLaVA-NeXT weights and processor, `joint/` (text tower, projection), relevance.json, card."""
    folder.mkdir(parents=True, exist_ok=True)
    llava, text = to_transformers(model)
    llava.generation_config = GenerationConfig(bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD, max_new_tokens=8)
    llava.half().save_pretrained(folder)
    image = LlavaNextImageProcessorPil(
        size={"shortest_edge": 336},
        crop_size={"height": 336, "width": 336},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        image_grid_pinpoints=PINPOINTS,
    )
    tokenizer = build_tokenizer(ids)
    processor = LlavaNextProcessor(
        image,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )
    processor.save_pretrained(folder)
    image.save_pretrained(folder)
    joint = folder / "joint"
    text.half().save_pretrained(joint)
    build_tokenizer(ids, frame=True).save_pretrained(joint)
    projection = model.vision.projection.detach().to(torch.float16).contiguous()
    save_file({"visual_projection.weight": projection}, joint / "visual_projection.safetensors")
    for written in folder.rglob("*.safetensors"):
        written.chmod(0o644)  # transformers writes them for their owner alone
    (folder / "relevance.json").write_text(json.dumps({"sign": 1, "space": "joint"}) + "\n")
    (folder / "card.json").write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")
