"""Prefill and decoding against transformers' own generate, and against recomputation without a cache."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from script_core import fidelity
from script_core.engine import Engine
from script_core.prefill import Decoding
from script_core.pruners import PRUNERS
from script_core.pruners.base import Cut
from tests.recomputed import QUESTION, Dropper, layer_by_layer
from tests.tiny import picture

SHAPES = [(84, 84), (200, 120), (100, 260), (40, 300)]  # (width, height)


def oracle(engine: Engine, folder: Any, image: np.ndarray, count: int) -> tuple[list[int], Tensor]:
    """Token ids and first logits from transformers' own processor and generate."""
    from PIL import Image
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(folder, backend="pil")
    parts = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    text = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
    inputs = processor(images=Image.fromarray(image), text=text, return_tensors="pt")
    out = engine.backend.model.generate(
        **inputs, do_sample=False, max_new_tokens=count, output_logits=True, return_dict_in_generate=True
    )
    return out.sequences[0, inputs["input_ids"].shape[1] :].tolist(), out.logits[0][0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", ["llava", "llava_next"])
def test_keeping_all_is_what_transformers_generates(request: Any, family: str, shape: tuple[int, int]) -> None:
    engine = request.getfixturevalue(family)
    folder = request.getfixturevalue("llava_folder" if family == "llava" else "next_folder")
    image = picture(*shape)
    ids, logits = oracle(engine, folder, image, 8)
    result = engine.ask(image, QUESTION, pruner="full", max_new_tokens=8)
    assert list(result.token_ids) == ids
    assert torch.allclose(result.first_logits, logits, atol=1e-4)


@pytest.mark.parametrize("method", sorted(PRUNERS))
@pytest.mark.parametrize("family", ["llava", "llava_next"])
def test_a_budget_of_everything_changes_nothing(request: Any, family: str, method: str) -> None:
    engine = request.getfixturevalue(family)
    image = picture(200, 120)
    full = engine.ask(image, QUESTION, pruner="full", max_new_tokens=5)
    for extra in (0, 7):
        result = engine.ask(image, QUESTION, pruner=method, budget=full.selection.total + extra, max_new_tokens=5)
        assert torch.equal(result.first_logits, full.first_logits)
        assert result.token_ids == full.token_ids
        assert result.counters.computed.flops == result.counters.computed.flops_full
        assert fidelity.kl(full.first_logits, result.first_logits) == 0.0


def recompute(engine: Engine, prompt: Any, token_ids: tuple[int, ...]) -> list[int]:
    """Greedy choices of the language model without any cache, on the prompt's own positions."""
    lm, head = engine.backend.language_model, engine.backend.lm_head
    chosen = []
    for count in range(len(token_ids)):
        more = lm.embed_tokens(torch.tensor([token_ids[:count]], dtype=torch.long))
        embeddings = torch.cat([prompt.embeddings, more], 1)
        following = torch.arange(prompt.next_position, prompt.next_position + count)[None]
        with torch.no_grad():
            states = lm(
                inputs_embeds=embeddings,
                position_ids=torch.cat([prompt.positions, following], 1),
                attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.long),  # gaps are not packed sequences
                use_cache=False,
            ).last_hidden_state
            chosen.append(int(head(states[:, -1:])[0, 0].argmax()))
    return chosen


@pytest.mark.parametrize("positions", ["compact", "original"])
@pytest.mark.parametrize("newlines", ["drop", "row"])
@pytest.mark.parametrize("family", ["llava", "llava_next"])
def test_pruned_decoding_equals_recomputation(request: Any, family: str, newlines: str, positions: str) -> None:
    backend = request.getfixturevalue(family).backend
    engine = Engine(backend, newlines=newlines, positions=positions)
    image = picture(200, 120)
    result = engine.ask(image, QUESTION, pruner="random", budget=9, max_new_tokens=6)
    tokens = engine.encode(image).tokens
    prompt = backend.build(
        QUESTION, tokens, result.selection, newlines={"drop": "none"}.get(newlines, newlines), positions=positions
    )
    assert recompute(engine, prompt, result.token_ids) == list(result.token_ids)
    assert int((prompt.source >= 0).sum()) == 9
    assert result.counters.text_tokens + result.counters.newlines + 9 == len(prompt)


def test_original_and_compact_positions_differ(llava: Engine) -> None:
    image = picture(120, 120)
    compact = llava.ask(image, QUESTION, pruner="random", budget=9)
    original = Engine(llava.backend, positions="original").ask(image, QUESTION, pruner="random", budget=9)
    assert not torch.allclose(compact.first_logits, original.first_logits, atol=1e-2)


@pytest.mark.parametrize(
    "method",
    [
        Dropper(),
        Dropper(positions="compact"),
        Dropper(at=(1, 3), keep=4),
        Dropper(at=(1, 2, 3), keep=6, merge=2),
        Dropper(at=(2,), keep=6, merge=2, positions="compact"),
    ],
)
@pytest.mark.parametrize("family", ["llava", "llava_next"])
def test_dropping_inside_equals_recomputation(request: Any, family: str, method: Dropper) -> None:
    engine = request.getfixturevalue(family)
    encoded = engine.encode(picture(200, 120))
    prompt = engine.backend.build(QUESTION, encoded.tokens, None, newlines="none")
    run = method.begin(encoded.tokens, engine.query(QUESTION), 5, 4)
    decoding = Decoding(engine.backend, prompt, run)
    ids = [int(decoding.logits.argmax())]
    for _ in range(5):
        ids.append(int(decoding.push(ids[-1]).argmax()))
    assert layer_by_layer(engine, prompt, run, tuple(ids)) == ids
    lengths = [layer.keys.shape[2] - 5 for layer in decoding.cache.layers]
    assert lengths == list(decoding.lengths)
    assert decoding.entering[-1] == method.keep + method.merge
    assert engine.ask(encoded, QUESTION, pruner=method, budget=5, max_new_tokens=6).token_ids == tuple(ids)


def test_attention_by_hand_equals_the_eager_one(llava: Engine) -> None:
    encoded = llava.encode(picture(100, 100))
    prompt = llava.backend.build(QUESTION, encoded.tokens, None)
    run = Dropper(at=()).begin(encoded.tokens, llava.query(QUESTION), 5, 4)
    Decoding(llava.backend, prompt, run)
    lm = llava.backend.language_model
    lm.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            seen = lm(inputs_embeds=prompt.embeddings, output_attentions=True, use_cache=False).attentions
    finally:
        lm.set_attn_implementation("sdpa")
    for layer in range(3):
        assert torch.allclose(run.rows[2 * layer][:, 0], seen[layer][0, :, -1], atol=1e-5)
        assert torch.allclose(run.rows[2 * layer + 1][:, 0], seen[layer + 1][0, :, -1], atol=1e-5)


def test_an_inside_method_may_not_drop_text(llava: Engine) -> None:
    encoded = llava.encode(picture(100, 100))
    prompt = llava.backend.build(QUESTION, encoded.tokens, None)
    run = Dropper().begin(encoded.tokens, llava.query(QUESTION), 5, 4)
    run.cut = lambda view: Cut(torch.arange(3))  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="keep every text position"):
        Decoding(llava.backend, prompt, run)
