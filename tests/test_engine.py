"""The engine: its events, what it shares and what it refuses."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch

from script_core import fidelity
from script_core.cache import Store, Turns
from script_core.engine import Engine, QuestionError
from script_core.media import MediaError, read_image
from script_core.pruners import PRUNERS
from script_core.pruners.base import CannotPrune
from script_core.report import Encoded, Finished, FirstToken, Selected, Text
from tests.recomputed import QUESTION, Dropper
from tests.tiny import picture
from tests.workers import InProcess


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


def test_what_is_said_about_a_file_is_said_to_who_gave_it(llava: Engine) -> None:
    here, remote = Engine(llava.backend), InProcess(llava).engine()
    plain = read_image(picture(90, 90))
    for engine in (here, remote):
        for note in ("the first page", "turned upright"):
            told = engine.ask(replace(plain, notes=(note,)), QUESTION, budget=9, max_new_tokens=1)
            assert told.notice == note
        assert engine.encode(plain).cached and engine.encode(plain).media.notes == ()


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


def test_a_turn_that_was_waited_for_in_vain_goes_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        """A lock whose second acquisition, the wait, is interrupted; `granted` before, if the turn has come already."""

        def __init__(self) -> None:
            self.asked = 0

        def acquire(self) -> None:
            self.asked += 1
            if self.asked == 2:
                if granted:
                    turns.__exit__()
                raise KeyboardInterrupt

        def release(self) -> None:
            pass

    for granted in (False, True):
        turns = Turns()
        turns.__enter__()
        with monkeypatch.context() as patch:
            patch.setattr("script_core.cache.threading.Lock", Interrupted)
            with pytest.raises(KeyboardInterrupt):
                turns.__enter__()
        assert not turns._waiting
        if not granted:
            assert turns._taken
            turns.__exit__()
        assert not turns._taken


def test_an_abandoned_stream_leaves_the_model_free(llava: Engine) -> None:
    stream: Iterator[Any] = llava.stream(picture(90, 90), QUESTION, max_new_tokens=20)
    for event in stream:
        if isinstance(event, Text):
            break
    del stream
    assert llava.ask(picture(90, 90), QUESTION, max_new_tokens=1).token_ids
