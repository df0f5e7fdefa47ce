"""Between encoding and the first logits nothing waits for the device, as far as that can be told without one.

On the "meta" device tensors have shapes and no values, so everything that a GPU would have to be waited for raises:
`.item()`, `bool()`, `.cpu()`, `nonzero`. What goes the other way is recorded.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from script_core import prefill, similarity, step
from script_core.engine import Engine
from script_core.media import read_media
from script_core.prefill import Decoding
from script_core.pruners import PRUNERS
from script_core.pruners.fastv import FastV
from script_core.pruners.pdrop import PDrop
from script_core.pruners.script import QCSP, Script
from script_core.pruners.sparsevlm import SparseVLM
from tests import made
from tests.tiny import picture

QUESTION = "is there a red apple?"


class Crossings(TorchDispatchMode):
    """Notes the shape of every tensor that goes from one device to another while somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.name() in ("aten::_to_copy", "aten::copy_"):
            source = args[func.name() == "aten::copy_"]
            if source.device != out.device and not (kwargs or {}).get("non_blocking", False):
                self.waited.append(tuple(source.shape))
        return out


@pytest.fixture(scope="module")
def elsewhere(next_folder: Path) -> Any:
    """A backend whose model is on another device than the host."""
    backend: Any = Engine.load(next_folder, device="cpu").backend
    backend.model.to("meta")
    joint = backend._joint
    backend._joint = dataclasses.replace(
        joint, projection=joint.projection.to("meta"), text_tower=joint.text_tower.to("meta")
    )
    return backend


def test_tokens_and_questions_stay_where_the_model_is(elsewhere: Any) -> None:
    with Crossings() as crossings:
        tokens = elsewhere.encode(read_media(picture(200, 120), 0))
    assert len(crossings.waited) == 1 and len(crossings.waited[0]) == 4  # the pixels, and nothing else
    query = elsewhere.query(QUESTION)
    state = tokens.encoder
    held = (tokens.features, tokens.joint, tokens.cls_attention, query.features, query.joint)
    for tensor in (*held, state.hidden, state.keys, state.cls_attention):
        assert tensor.device.type == "meta" and tensor.dtype == torch.float32
    for index in (tokens.grid.block, tokens.grid.row, tokens.grid.col, tokens.newlines):
        assert index.device.type == "cpu"


@pytest.mark.parametrize("method", [None, FastV(), PDrop(), SparseVLM()])
def test_no_prefill_waits_for_the_device(elsewhere: Any, method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[list[Tensor]] = []
    monkeypatch.setattr(prefill, "_check", checked.append)  # it reads one value, once the logits are there
    tokens = elsewhere.encode(read_media(picture(200, 120), 0))
    prompt = elsewhere.build(QUESTION, tokens, None, newlines="none")
    total = len(tokens)
    run = None if method is None else method.begin(tokens, elsewhere.query(QUESTION), 2 * total // 3, 4)
    with Crossings() as crossings:
        decoding = Decoding(elsewhere, prompt, run)
        decoding.push(3)
    assert decoding.logits.device.type == "meta" and decoding.logits.shape == (260,)
    assert crossings.waited == []
    assert len(checked) == 1 and len(checked[0]) == len(set(decoding.entering)) - 1
    if method is not None:
        assert decoding.entering == method.schedule(2 * total // 3, total, 4)


@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("method", [Script(), QCSP(), Script(tau=0.2, scope="global"), PRUNERS["cdpruner"]()])
def test_what_a_gpu_is_asked_for_is_what_the_host_computes(
    method: Any, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, budget = made.question(), 25 * blocks
    here = method.select(made.tokens(blocks=blocks, kind="tile"), query, budget)
    monkeypatch.setattr(similarity, "on_gpu", lambda tokens: True)
    tokens = made.tokens(blocks=blocks, kind="tile")
    there, whole = (method.select(tokens, query, count) for count in (budget, len(tokens)))
    assert torch.equal(there.kept, here.kept) and torch.equal(whole.order, here.order)
    for name, values in here.scores.items():
        torch.testing.assert_close(there.scores[name], values)


def test_a_gpu_walks_no_further_than_the_budget_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, query = made.tokens(blocks=2, kind="tile"), made.question()
    whole, half = Script().select(tokens, query, 10).order, len(tokens) // 2
    monkeypatch.setattr(similarity, "on_gpu", lambda tokens: True)
    part = Script().select(made.tokens(blocks=2, kind="tile"), query, 10).order
    assert part.tolist() == [*whole[:8].tolist(), *whole[half : half + 8].tolist()]
    # Where the graph turns most of a walk's first picks down, it goes on.
    crowded = Script(tau=-1.0, p=0.9).select(tokens, query, 10)
    assert len(crowded.kept) == 10 and len(crowded.order) > 16


def test_blocks_of_one_size_are_taken_together() -> None:
    members = [torch.arange(4), torch.arange(4, 6), torch.arange(6, 10), torch.empty(0, dtype=torch.int64)]
    (first, large), (second, small) = similarity.by_size(members)
    assert first == [0, 2] and second == [1]
    assert large.tolist() == [[0, 1, 2, 3], [6, 7, 8, 9]] and small.tolist() == [[4, 5]]


@pytest.mark.parametrize("family", ["llava", "llava_next"])
@pytest.mark.parametrize("positions", ["compact", "original"])
def test_steps_of_a_fixed_shape_decode_as_a_growing_cache_does(
    request: Any, family: str, positions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = request.getfixturevalue(family)
    encoded = engine.encode(picture(200, 120))
    selection = engine.select(encoded, QUESTION, pruner="random", budget=9).selection
    prompt = engine.backend.build(QUESTION, encoded.tokens, selection, newlines="none", positions=positions)
    growing = Decoding(engine.backend, prompt)
    monkeypatch.setattr(step, "replayable", lambda backend: True)
    fixed = Decoding(engine.backend, prompt, room=6)
    assert torch.equal(fixed.logits, growing.logits)
    for _ in range(6):
        token = int(growing.logits.argmax())
        assert torch.allclose(fixed.push(token), growing.push(token), atol=1e-4)
    for ours, theirs in zip(fixed.cache.layers, growing.cache.layers, strict=True):
        assert torch.allclose(ours.keys, theirs.keys, atol=1e-4) and torch.allclose(
            ours.values, theirs.values, atol=1e-4
        )
    with pytest.raises(RuntimeError, match="longer than the room"):
        fixed.push(3)


def test_a_step_of_fixed_shape_asks_nothing_of_the_host(elsewhere: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "replayable", lambda backend: True)
    tokens = elsewhere.encode(read_media(picture(200, 120), 0))
    decoding = Decoding(elsewhere, elsewhere.build(QUESTION, tokens, None), room=2)
    before = decoding.push(3).shape
    addresses = [layer.keys for layer in decoding.cache.layers]
    with Crossings() as crossings:
        assert decoding.push(4).shape == before
    assert crossings.waited == [] and all(a is b.keys for a, b in zip(addresses, decoding.cache.layers, strict=True))


def test_in_model_methods_and_cpus_keep_the_growing_cache(llava: Engine) -> None:
    assert not step.replayable(llava.backend)
    encoded = llava.encode(picture(84, 84))
    prompt = llava.backend.build(QUESTION, encoded.tokens, None, newlines="none")
    run = FastV().begin(encoded.tokens, llava.query(QUESTION), 20, 4)
    decoding = Decoding(llava.backend, prompt, run, room=4)
    decoding.push(3)
    assert len({layer.keys.shape[2] for layer in decoding.cache.layers}) == 2
