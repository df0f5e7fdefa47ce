"""What a prompt costs: FLOPs and KV cache, computed from a config, and what was measured, kept apart.

`prefill_flops` is the convention of the pruning papers (FastV's formula, used by PyramidDrop, CDPruner and Script):
per layer 4nd^2 + 2n^2d + 3ndm over the visual tokens alone, one FLOP per multiply-add. `full_flops` is the count of
an actual forward pass: two per multiply-add, text included, grouped queries and the output head accounted for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def prefill_flops(visual_tokens: int | Sequence[int], config: Any) -> float:
    """FLOPs of prefilling the visual tokens, in the papers' convention.

    visual_tokens: a count, or one count per decoder layer for methods that drop inside the model.
    config: a transformers text config (or a model config that holds one).
    """
    text = _text(config)
    d, m = text.hidden_size, text.intermediate_size
    return float(sum(4 * n * d * d + 2 * n * n * d + 3 * n * d * m for n in _per_layer(visual_tokens, text)))


def full_flops(sequence: int | Sequence[int], config: Any) -> float:
    """FLOPs of one prefill: 2 per multiply-add, all tokens, with the output head for the last position only.

    sequence: prompt length, or the length that enters each decoder layer. Attention is counted as the full square
    (as kernels without causal skipping compute it); norms, activations and softmax are left out.
    """
    text = _text(config)
    d, m = text.hidden_size, text.intermediate_size
    head = getattr(text, "head_dim", None) or d // text.num_attention_heads
    wide, narrow = text.num_attention_heads * head, _kv_heads(text) * head
    macs = 0
    for n in _per_layer(sequence, text):
        macs += n * d * (2 * wide + 2 * narrow) + 2 * n * n * wide + 3 * n * d * m
    return float(2 * (macs + d * text.vocab_size))


def kv_cache_bytes(tokens: int | Sequence[int], config: Any, bytes_per_value: int = 2) -> int:
    """Bytes that keys and values of `tokens` (a count, or one per layer) take in all decoder layers."""
    text = _text(config)
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return sum(_per_layer(tokens, text)) * 2 * _kv_heads(text) * head * bytes_per_value


def cache_bytes(cache: Any) -> int:
    """Bytes that a transformers cache holds right now, measured on its tensors."""
    held = [t for layer in cache.layers for t in (layer.keys, layer.values) if t is not None]
    return sum(t.numel() * t.element_size() for t in held)


def _text(config: Any) -> Any:
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _kv_heads(text: Any) -> int:
    return getattr(text, "num_key_value_heads", None) or text.num_attention_heads


def _per_layer(tokens: int | Sequence[int], text: Any) -> list[int]:
    layers = text.num_hidden_layers
    counts = [tokens] * layers if isinstance(tokens, int) else [int(n) for n in tokens]
    if len(counts) != layers:
        raise ValueError(f"got {len(counts)} per-layer counts for a model of {layers} layers")
    return counts


@dataclass(frozen=True)
class Measured:
    """Clock and memory readings of this run. Milliseconds of work: waiting for other visitors' turns is not in them.

    encode_ms: vision tower and projector, as measured when this picture was encoded; `encode_cached` says that it was
    reused now. ttft_ms: encode + query + select + prefill, up to the first token being known. decode_ms: mean per
    further token, None if there was none. cache_bytes: keys and values after the prefill. peak_bytes: GPU memory on
    top of what was allocated before the prefill, None on a CPU.
    """

    encode_ms: float
    encode_cached: bool
    query_ms: float
    select_ms: float
    prefill_ms: float
    ttft_ms: float
    decode_ms: float | None
    cache_bytes: int
    peak_bytes: int | None


@dataclass(frozen=True)
class Computed:
    """Formulas evaluated for this run, and for the same question with every visual token kept (`*_full`).

    paper_flops: `prefill_flops` of the visual tokens entering each layer. flops: `full_flops` of the whole prompt.
    kv_bytes: keys and values of the whole prompt in the model's own precision.
    """

    paper_flops: float
    paper_flops_full: float
    flops: float
    flops_full: float
    kv_bytes: int
    kv_bytes_full: int


@dataclass(frozen=True)
class Counters:
    """All numbers of one answer. kept and total are content tokens; newlines are the separators that stayed.

    text_tokens: the prompt's other tokens. entering: visual tokens, separators included, that enter each layer.
    generated: tokens of the answer, the end token included where it came.
    """

    kept: int
    total: int
    newlines: int
    text_tokens: int
    generated: int
    entering: tuple[int, ...]
    measured: Measured
    computed: Computed
