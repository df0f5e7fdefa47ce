"""Published shapes with random weights on a GPU: LLaVA-NeXT-7B on a picture, LLaVA-Video-7B on 64 frames.

Time and memory of a prefill depend on shapes, not on what the weights say, so no checkpoint is fetched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from script_core import kernels
from script_core.backends.base import Prompt
from script_core.bench import inputs
from script_core.bench.tables import Cell
from script_core.bench.timing import Effort, Timing, timed
from script_core.counters import cache_bytes
from script_core.prefill import Decoding, clock

TEXT = 40  # text tokens of a prompt
DECODED = 32


@dataclass(frozen=True)
class Model:
    """A language model's shape, the crops or frames it reads, and the budgets of each crop or frame."""

    name: str
    family: str  # of the language model, as transformers calls it
    config: dict[str, int | float]
    blocks: int
    tokens: int  # of each crop or frame
    budgets: tuple[int, ...]


NEXT_7B = Model(
    "LLaVA-NeXT-7B shape",
    "llama",
    {
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "vocab_size": 32064, "max_position_embeddings": 4096,
    },
    5,
    576,
    (128, 64, 32),
)  # fmt: skip
VIDEO_7B = Model(
    "LLaVA-Video-7B shape",
    "qwen2",
    {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 32768, "rope_theta": 1000000.0,
    },
    64,
    169,
    (16,),
)  # fmt: skip


class Shaped:
    """As much of a backend as a prefill reads, over a language model of a given shape with random weights."""

    def __init__(self, model: Model, device: torch.device, dtype: torch.dtype) -> None:
        from transformers import AutoConfig, AutoModelForCausalLM

        config = AutoConfig.for_model(model.family, **model.config)
        with torch.device(device):
            made = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa").eval()
        self.language_model: Any = made.model
        self.lm_head: Any = made.lm_head
        self.text_config: Any = config

    def new_cache(self) -> Any:
        from transformers.cache_utils import DynamicCache

        return DynamicCache(config=self.text_config)

    def prompt(self, visual: int) -> Prompt:
        length, head = visual + TEXT, self.lm_head.weight
        mask = torch.zeros(length, dtype=torch.bool)
        mask[TEXT // 2 : TEXT // 2 + visual] = True
        source = torch.full((length,), -1)
        source[mask] = torch.arange(visual)
        rows = torch.randn(1, length, head.shape[1], device=head.device, dtype=head.dtype)
        return Prompt(rows, torch.arange(length, device=head.device)[None], mask, source, length)


def shapes(model: Model, device: torch.device, dtype: torch.dtype, effort: Effort) -> Iterator[dict[str, Cell]]:
    """Prefill, decode, cache and peak memory with every token and at each budget, and the kernels' walk beside them."""
    backend: Any = Shaped(model, device, dtype)
    width, n = int(model.config["hidden_size"]), model.tokens
    x = inputs.features(model.blocks * n, width).view(model.blocks, n, width).to(device)
    r = inputs.relevance(model.blocks * n).view(model.blocks, n).to(device)
    base: Timing | None = None
    for budget in (n, *model.budgets):
        held = _reset(device)
        prompt = backend.prompt(model.blocks * budget)
        prefill = timed(partial(Decoding, backend, prompt), effort, device)
        peak = _peak(device)
        decoding = Decoding(backend, prompt)
        cache = cache_bytes(decoding.cache)
        select = None if budget == n else timed(partial(kernels.greedy_map, x, r, budget), effort, device)
        base = base or prefill
        yield {
            "model": model.name,
            "visual tokens": model.blocks * budget,
            "walk, ms": select,
            "prefill, ms": prefill,
            "full / pruned": round(base.median / prefill.median, 2),
            "decode, ms/token": Timing.of([_step(decoding, device) for _ in range(DECODED)]),
            "KV cache, MB": round(cache / 1e6, 1),
            "before, GB": None if held is None else round(held / 1e9, 2),
            "peak, GB": None if peak is None else round(peak / 1e9, 2),
        }


def _step(decoding: Decoding, device: torch.device) -> float:
    started = clock(device)
    decoding.push(1)
    return clock(device) - started


def _reset(device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _peak(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
