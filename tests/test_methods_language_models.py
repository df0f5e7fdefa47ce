"""Methods inside language models of other shapes: all heads with keys of their own, grouped queries, Qwen2's biases."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, Qwen2Config

from script_core.engine import Engine
from script_core.pruners import PRUNERS
from script_core.pruners.sparsevlm import SparseVLM, raters
from tests import tiny
from tests.recomputed import QUESTION, layer_by_layer
from tests.test_methods_inside import start

INSIDE = [name for name, method in PRUNERS.items() if method.acts == "inside"]
SIZES = {
    "vocab_size": 260, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 4, "num_attention_heads": 4,
    "max_position_embeddings": 4096, "initializer_range": 0.25, "tie_word_embeddings": False,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
TEXTS = {
    "llama": LlamaConfig(**SIZES, num_key_value_heads=4),
    "llama, one key head": LlamaConfig(**SIZES, num_key_value_heads=1),
    "llama, wide heads": LlamaConfig(**SIZES, num_key_value_heads=2, head_dim=16),
    "qwen2": Qwen2Config(**SIZES, num_key_value_heads=2),
}


@pytest.fixture(scope="module", params=list(TEXTS))
def engine(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    made = Engine.load(tiny.save_llava(tmp_path_factory.mktemp("text"), text=TEXTS[request.param]), device="cpu")
    assert made.text_config.model_type == request.param.split(",")[0] and made.info.dtype == "float32"
    return made


def test_all_three_are_here() -> None:
    assert INSIDE == ["fastv", "pdrop", "sparsevlm"]


@pytest.mark.parametrize("method", INSIDE)
def test_keeping_all_is_exactly_the_unpruned_run(engine: Engine, method: str) -> None:
    picture = tiny.picture(84, 84)
    full = engine.ask(picture, QUESTION, pruner="full", budget=36, max_new_tokens=6)
    inside = engine.ask(picture, QUESTION, pruner=method, budget=36, max_new_tokens=6)
    assert torch.equal(full.first_logits, inside.first_logits) and full.token_ids == inside.token_ids
    assert len(set(full.token_ids)) > 1, "a model that repeats itself would hide a difference"
    theirs = engine.forced_logits(picture, QUESTION, full.token_ids, pruner="full", budget=36)
    ours = engine.forced_logits(picture, QUESTION, full.token_ids, pruner=method, budget=36)
    assert all(torch.equal(a, b) for a, b in zip(theirs, ours, strict=True))


@pytest.mark.parametrize("budget", [20, 27])
@pytest.mark.parametrize("method", INSIDE)
def test_pruned_decoding_with_a_cache_is_decoding_without_one(engine: Engine, method: str, budget: int) -> None:
    run, decoding, prompt, _ = start(engine, PRUNERS[method](), budget)
    ids = [int(decoding.logits.argmax())]
    for _ in range(5):
        ids.append(int(decoding.push(ids[-1]).argmax()))
    assert run.cuts and layer_by_layer(engine, prompt, run, tuple(ids)) == ids


def test_an_adaptive_sparsevlm_keeps_as_many_as_the_rank_of_the_raters_attention(engine: Engine) -> None:
    run, decoding, prompt, tokens = start(engine, SparseVLM(adaptive=True), 27)
    visual = torch.nonzero(prompt.visual).flatten()
    first, end = int(visual[0]), int(visual[-1]) + 1
    chosen = raters(prompt.embeddings[0, first:end], prompt.embeddings[0, end:])[1]
    assert run.cuts and 1 < len(chosen) < len(prompt) - end
    for index, keep, merged in run.cuts:
        view = next(view for view in run.views if view.index == index)
        after = len(view.hidden) - (len(prompt) - end)
        rows = view.attention(after + chosen)[:, :, view.visual].double().mean(0)
        rank = int(torch.linalg.matrix_rank(rows))
        assert int(view.visual[keep].sum()) == min(rank, int(view.visual.sum()) - 1) <= len(chosen)
        assert merged is not None and len(merged) > 0
    notes = run.run.selection().notes
    assert notes == ("The rank of the raters' attention chose the counts; the budget of 27 was not used.",)
