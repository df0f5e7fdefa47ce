"""The engine against transformers' own generate, and against recomputation without a cache."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from script_core import fidelity
from script_core.cache import Store, Turns
from script_core.engine import Engine, QuestionError
from script_core.media import MediaError
from script_core.prefill import Decoding
from script_core.pruners import PRUNERS
from script_core.pruners.base import CannotPrune, Cut, LayerView
from script_core.report import Encoded, Finished, FirstToken, Selected, Text
from script_core.tokens import Query, Selection, VisualTokens
from tests.tiny import picture

QUESTION = "is there a red apple?"
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


@dataclass(frozen=True)
class Dropper:
    """An in-model method for these tests: before each layer in `at`, keep the last `keep` visual tokens."""

    at: tuple[int, ...] = (2,)
    keep: int = 5
    merge: int = 0
    positions: str = "original"
    name: ClassVar[str] = "dropper"
    title: ClassVar[str] = "Dropper"
    acts: ClassVar[str] = "inside"
    reads_question: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset({"in_model"})

    def schedule(self, budget: int, total: int, layers: int) -> tuple[int, ...]:
        return tuple(budget for _ in range(layers))

    def begin(self, tokens: VisualTokens, query: Query, budget: int, layers: int) -> _Run:
        return _Run(self, len(tokens), budget)


class _Run:
    def __init__(self, method: Dropper, total: int, budget: int) -> None:
        self.method, self.total, self.budget = method, total, budget
        self.positions = method.positions
        self.left = torch.arange(total)
        self.rows: list[Tensor] = []
        self.cuts: list[tuple[int, Tensor, Tensor | None]] = []

    def cut(self, view: LayerView) -> Cut | None:
        last = torch.tensor([len(view.hidden) - 1])
        self.rows.append(view.attention(last))
        self.rows.append(view.attention(last, of_next=True))
        if view.index not in self.method.at or self.budget >= self.total:
            return None
        visual = torch.nonzero(view.visual).flatten()
        keep = torch.cat([torch.nonzero(~view.visual).flatten(), visual[-self.method.keep :]]).sort().values
        self.left = view.source[visual[-self.method.keep :]]
        merged = view.hidden[visual[: self.method.merge]] if self.method.merge else None
        self.cuts.append((view.index, keep, merged))
        return Cut(keep, merged)

    def selection(self) -> Selection:
        return Selection.of(self.left[self.left >= 0], self.total)


def layer_by_layer(engine: Engine, prompt: Any, run: _Run, token_ids: tuple[int, ...]) -> list[int]:
    """The same cuts replayed on prompt + answer without a cache, with an explicit causal mask per layer."""
    lm, head = engine.backend.language_model, engine.backend.lm_head
    cuts = {index: (keep, merged) for index, keep, merged in run.cuts}
    chosen = []
    for count in range(len(token_ids)):
        more = lm.embed_tokens(torch.tensor([token_ids[:count]], dtype=torch.long))
        hidden = torch.cat([prompt.embeddings, more], 1)
        length = prompt.embeddings.shape[1]
        following = torch.arange(prompt.next_position, prompt.next_position + count)[None]
        positions = torch.cat([prompt.positions, following], 1)
        visual = prompt.visual
        for index, layer in enumerate(lm.layers):
            if index in cuts:
                keep, merged = cuts[index]
                rest = torch.cat([keep, torch.arange(length, length + count)])
                spot = int((keep <= int(torch.nonzero(visual).max())).sum())
                hidden, positions = hidden[:, rest], positions[:, rest]
                visual, length = visual[keep], len(keep)
                if merged is not None:
                    ids = positions[0, spot] - torch.arange(len(merged), 0, -1)
                    hidden = torch.cat([hidden[:, :spot], merged[None], hidden[:, spot:]], 1)
                    positions = torch.cat([positions[:, :spot], ids[None], positions[:, spot:]], 1)
                    visual = torch.cat([visual[:spot], torch.ones(len(merged), dtype=torch.bool), visual[spot:]])
                    length += len(merged)
                if run.positions == "compact":
                    positions = torch.arange(hidden.shape[1])[None]
            size = hidden.shape[1]
            mask = torch.full((size, size), float("-inf")).triu(1)[None, None]
            with torch.no_grad():
                hidden = layer(hidden, attention_mask=mask, position_embeddings=lm.rotary_emb(hidden, positions))
        chosen.append(int(head(lm.norm(hidden[:, -1:]))[0, 0].argmax()))
    return chosen


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


def test_events_come_in_order_and_text_grows(llava: Engine) -> None:
    events = list(llava.stream(picture(90, 90), QUESTION, pruner="script", budget=12, max_new_tokens=6))
    kinds = [type(event) for event in events]
    assert kinds[:3] == [Encoded, Selected, FirstToken] and kinds[-1] is Finished
    assert set(kinds[3:-1]) == {Text}
    texts = [event.text for event in events if isinstance(event, Text)]
    assert all(later.startswith(earlier) for earlier, later in zip(texts, texts[1:], strict=False))
    result = events[-1].result
    assert result.counters.generated == len(result.token_ids) == 6
    assert len(result.selection.kept) == 12 and result.selection.total == 36
    assert result.selection.kept.tolist() == sorted(set(result.selection.kept.tolist()))
    assert result.first_logits.shape == (260,) and result.first_logits.dtype == torch.float32
    assert events[2].token_id == result.token_ids[0] == int(result.first_logits.argmax())


def test_stop_ends_within_one_token(llava: Engine) -> None:
    stop = threading.Event()
    seen = 0
    for event in llava.stream(picture(90, 90), QUESTION, max_new_tokens=50, stop=stop):
        if isinstance(event, Text):
            seen += 1
            if seen == 3:
                stop.set()
    assert isinstance(event, Finished) and event.result.stopped
    assert len(event.result.token_ids) in (3, 4)


def test_it_stops_at_the_end_token(llava: Engine) -> None:
    free = llava.ask(picture(90, 90), QUESTION, max_new_tokens=6)
    backend = llava.backend
    before, backend.eos_ids = backend.eos_ids, frozenset({free.token_ids[2]})
    try:
        first = free.token_ids.index(free.token_ids[2])
        ended = llava.ask(picture(90, 90), QUESTION, max_new_tokens=6)
    finally:
        backend.eos_ids = before
    assert ended.token_ids == free.token_ids[: first + 1] and not ended.stopped


def test_two_streams_alternate_and_do_not_mix(llava: Engine) -> None:
    alone = {seed: llava.ask(picture(90, 90, seed), QUESTION, budget=10, max_new_tokens=8).token_ids for seed in (1, 2)}
    streams = {seed: llava.stream(picture(90, 90, seed), QUESTION, budget=10, max_new_tokens=8) for seed in (1, 2)}
    results = {}
    while len(results) < 2:
        for seed, stream in streams.items():
            event = next(stream, None)
            if isinstance(event, Finished):
                results[seed] = event.result.token_ids
    assert results == alone


def test_many_threads_get_their_own_answers(llava: Engine) -> None:
    images = {seed: picture(90, 90, seed) for seed in range(6)}
    alone = {seed: llava.ask(image, QUESTION, budget=10, max_new_tokens=5).token_ids for seed, image in images.items()}
    fresh, got = Engine(llava.backend), {}

    def work(seed: int) -> None:
        got[seed] = fresh.ask(images[seed], QUESTION, budget=10, max_new_tokens=5).token_ids

    threads = [threading.Thread(target=work, args=(seed,)) for seed in images]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == alone


def test_encoding_is_shared_by_content(llava: Engine) -> None:
    engine = Engine(llava.backend)
    first = engine.encode(picture(90, 90))
    again = engine.encode(picture(90, 90).copy())
    assert not first.cached and again.cached
    assert again.tokens is first.tokens and again.encode_ms == first.encode_ms
    other = picture(90, 90)
    other[0, 0, 0] ^= 1
    assert not engine.encode(other).cached


def test_selecting_does_not_run_the_language_model(llava: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = llava.encode(picture(90, 90))
    llava.query(QUESTION)
    layer = llava.backend.language_model.layers[0]
    monkeypatch.setattr(layer, "forward", lambda *a, **k: pytest.fail("the language model ran"))
    selected = llava.select(encoded, QUESTION, pruner=PRUNERS["script"](tau=0.3), budget=7)
    assert len(selected.selection.kept) == 7 and selected.method == "script"


def test_select_agrees_with_ask(llava_next: Engine) -> None:
    image = picture(200, 120)
    selected = llava_next.select(image, QUESTION, budget=11)
    assert torch.equal(selected.selection.kept, llava_next.ask(image, QUESTION, budget=11).selection.kept)
    inside = llava_next.select(image, QUESTION, pruner=Dropper(), budget=11)
    assert len(inside.selection.kept) == 5


def test_comparison_of_everything_with_itself_is_zero(llava: Engine) -> None:
    image = picture(90, 90)
    same = llava.compare(image, QUESTION, budget=36, max_new_tokens=4)
    assert (same.kl_first, same.kl_answer, same.agreement, same.same) == (0.0, 0.0, 1.0, True)
    few = llava.compare(image, QUESTION, budget=2, max_new_tokens=4)
    assert few.kl_first > 0 and few.kl_answer > 0
    assert few.kl_first == pytest.approx(fidelity.kl(few.full.first_logits, few.pruned.first_logits), rel=1e-4)


@pytest.mark.parametrize("question", ["", "  \n", "x" * 2001, "q" * 100_000])
def test_questions_that_cannot_be_asked(llava: Engine, question: str) -> None:
    with pytest.raises(QuestionError) as caught:
        llava.stream(picture(90, 90), question)
    assert str(caught.value).endswith(".") and len(str(caught.value)) < 200


STRANGE = ["есть ли яблоко?", "りんごはありますか", "\N{RED APPLE}?", "<image> </s> <s>", "{{ 1 }} {% x", "\ud800"]


@pytest.mark.parametrize("question", STRANGE)
def test_questions_in_any_script(llava: Engine, question: str) -> None:
    result = llava.ask(picture(90, 90), question, budget=9, max_new_tokens=2)
    assert len(result.token_ids) == 2


@pytest.mark.parametrize("budget", [0, -3, 1.5, "8", None, True])
def test_budgets_that_cannot_be(llava: Engine, budget: Any) -> None:
    with pytest.raises(CannotPrune, match="budget"):
        llava.ask(picture(90, 90), QUESTION, budget=budget)


def test_other_things_that_cannot_be(llava: Engine) -> None:
    with pytest.raises(CannotPrune, match="There is no method 'magic'"):
        llava.stream(picture(90, 90), QUESTION, pruner="magic")
    with pytest.raises(MediaError):
        llava.stream("no/such/file.png", QUESTION)
    with pytest.raises(QuestionError, match="1 to 1024"):
        llava.stream(picture(90, 90), QUESTION, max_new_tokens=0)
    with pytest.raises(ValueError, match="newlines"):
        Engine(llava.backend, newlines="some")


def test_a_method_is_refused_what_the_model_lacks(llava: Engine) -> None:
    @dataclass(frozen=True)
    class Demanding(Dropper):
        title: ClassVar[str] = "Demanding"
        needs: ClassVar[frozenset[str]] = frozenset({"telepathy"})

    with pytest.raises(CannotPrune, match="Demanding needs telepathy"):
        llava.stream(picture(90, 90), QUESTION, pruner=Demanding())


def test_store_drops_the_least_recently_used() -> None:
    store: Store[str] = Store(10, len)
    store.put("a", "aaaa")
    store.put("b", "bbbb")
    assert store.get("a") == "aaaa"
    store.put("c", "cccc")
    assert store.get("b") is None and store.get("a") == "aaaa" and store.get("c") == "cccc"
    assert store.nbytes == 8 and len(store) == 2
    store.put("d", "d" * 11)
    assert store.get("d") is None and store.nbytes == 8
    store.put("a", "aa")
    assert store.nbytes == 6


def test_turns_are_taken_in_the_order_of_asking() -> None:
    turns, order, asked = Turns(), [], threading.Event()

    def work(number: int) -> None:
        with turns:
            order.append(number)

    threads = []
    with turns:
        for number in range(5):
            thread = threading.Thread(target=work, args=(number,))
            thread.start()
            while len(turns._waiting) <= number:
                asked.wait(0.001)
            threads.append(thread)
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]


def test_turns_survive_an_error() -> None:
    turns = Turns()
    with pytest.raises(KeyError), turns:
        raise KeyError
    with turns:
        pass


def test_an_abandoned_stream_leaves_the_model_free(llava: Engine) -> None:
    stream: Iterator[Any] = llava.stream(picture(90, 90), QUESTION, max_new_tokens=20)
    for event in stream:
        if isinstance(event, Text):
            break
    del stream
    assert llava.ask(picture(90, 90), QUESTION, max_new_tokens=1).token_ids
