"""FLOPs and bytes against published figures, a FLOP counter, and the tensors themselves."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from script_core.counters import cache_bytes, full_flops, kv_cache_bytes, prefill_flops
from script_core.engine import Engine
from script_core.fidelity import agreement, kl, mean_kl
from script_core.prefill import Decoding
from tests.tiny import picture

LLAMA_7B = SimpleNamespace(
    hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32, vocab_size=32000
)


@pytest.mark.parametrize("tokens, tera", [(576, 3.817), (192, 1.253), (2880, 20.825), (320, 2.099)])
def test_published_flops(tokens: int, tera: float) -> None:
    assert prefill_flops(tokens, LLAMA_7B) / 1e12 == pytest.approx(tera, abs=5e-4)
    assert prefill_flops([tokens] * 32, LLAMA_7B) == prefill_flops(tokens, LLAMA_7B)


def test_published_cache_sizes() -> None:
    assert kv_cache_bytes(2880, LLAMA_7B) == 1440 * 2**20
    assert kv_cache_bytes(320, LLAMA_7B) == 160 * 2**20
    assert kv_cache_bytes(1, LLAMA_7B, bytes_per_value=4) == 2**20
    qwen = SimpleNamespace(hidden_size=3584, num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4)
    assert kv_cache_bytes(1, qwen) == 56 * 2**10


def test_a_schedule_costs_the_sum_of_its_layers() -> None:
    half = [576] * 2 + [288] * 30
    parts = 2 * prefill_flops(576, LLAMA_7B) / 32 + 30 * prefill_flops(288, LLAMA_7B) / 32
    assert prefill_flops(half, LLAMA_7B) == pytest.approx(parts)
    assert kv_cache_bytes(half, LLAMA_7B) == sum(half) * kv_cache_bytes(1, LLAMA_7B) // 32
    with pytest.raises(ValueError, match="31 per-layer counts"):
        prefill_flops([1] * 31, LLAMA_7B)


def test_a_model_config_serves_as_well_as_its_text_config(llava: Engine) -> None:
    config = llava.backend.model.config
    assert prefill_flops(100, config) == prefill_flops(100, config.text_config) > 0
    assert kv_cache_bytes(100, config) == kv_cache_bytes(100, llava.text_config)


def test_full_flops_are_what_a_counter_sees(llava: Engine) -> None:
    tokens = llava.encode(picture(90, 90)).tokens
    prompt = llava.backend.build("how many?", tokens, None)
    model = llava.backend.language_model
    model.set_attn_implementation("eager")  # the counter does not see CPU attention kernels
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            states = model(inputs_embeds=prompt.embeddings, use_cache=False).last_hidden_state
            llava.backend.lm_head(states[:, -1:])
    finally:
        model.set_attn_implementation("sdpa")
    rotary = counter.get_flop_counts()["Global"]
    total = sum(rotary.values())
    assert total == pytest.approx(full_flops(len(prompt), llava.text_config), rel=0.001)


def test_computed_cache_is_the_measured_one(llava_next: Engine) -> None:
    for budget in (5, 10_000):
        counters = llava_next.ask(picture(200, 120), "how many?", budget=budget, max_new_tokens=3).counters
        assert counters.measured.cache_bytes == counters.computed.kv_bytes
        assert counters.computed.kv_bytes <= counters.computed.kv_bytes_full
    assert counters.newlines > 0
    assert counters.entering == (counters.total + counters.newlines,) * 4


def test_cache_bytes_grow_by_one_token_per_step(llava: Engine) -> None:
    tokens = llava.encode(picture(90, 90)).tokens
    decoding = Decoding(llava.backend, llava.backend.build("a", tokens, None))
    before = cache_bytes(decoding.cache)
    decoding.push(7)
    assert cache_bytes(decoding.cache) - before == kv_cache_bytes(1, llava.text_config, 4)


def test_times_add_up(llava: Engine) -> None:
    measured: Any = llava.ask(picture(91, 90), "how many?", budget=5, max_new_tokens=3).counters.measured
    parts = measured.encode_ms + measured.query_ms + measured.select_ms + measured.prefill_ms
    assert measured.ttft_ms == pytest.approx(parts)
    assert measured.decode_ms > 0 and measured.peak_bytes is None
    again: Any = llava.ask(picture(91, 90), "how many?", budget=5, max_new_tokens=1).counters.measured
    assert again.encode_cached and again.encode_ms == measured.encode_ms and again.query_ms == 0
    assert again.decode_ms is None


def test_kl_by_hand() -> None:
    p, q = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.25, 0.5, 0.25])
    expected = 0.5 * torch.log(torch.tensor(2.0)) + 0.25 * torch.log(torch.tensor(0.5))
    assert kl(p.log(), q.log() + 3.0) == pytest.approx(float(expected), abs=1e-6)
    assert kl(p.log(), p.log()) == 0.0
    assert mean_kl([p.log(), p.log()], [q.log(), p.log()]) == pytest.approx(float(expected) / 2, abs=1e-6)
    assert agreement([p, p], [q, p]) == 0.5
    with pytest.raises(ValueError, match="at least one"):
        mean_kl([], [])


def test_kl_of_what_is_no_distribution_is_no_agreement() -> None:
    nothing, even = torch.full((3,), torch.nan), torch.zeros(3)
    for full, pruned in ((nothing, even), (even, nothing), (nothing, nothing)):
        assert math.isnan(kl(full, pruned)) and math.isnan(mean_kl([full], [pruned]))
        assert agreement([full], [pruned]) == 0.0
    never = torch.tensor([0.0, 0.0, -torch.inf])
    # Full: a half each. Pruned: e^3, 1 and 1 parts; log(e^3 + 2) - 1.5 - log 2.
    assert kl(never, torch.tensor([3.0, 0.0, 0.0])) == pytest.approx(math.log(math.exp(3) + 2) - 1.5 - math.log(2))
    assert kl(even, never) == math.inf
