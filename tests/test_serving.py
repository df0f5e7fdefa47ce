"""Front ends over workers: the same answers, pictures sent by content hash, and the page over a cluster."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from script_core.engine import Engine
from script_core.media import read_image
from script_core.pruners import PRUNERS
from script_core.serving import RemoteEngine, Worker
from tests.tiny import picture
from tests.workers import QUESTION, InProcess


@pytest.mark.parametrize("method", sorted(PRUNERS))
def test_a_distant_engine_says_bit_for_bit_what_a_local_one_says(llava_next: Engine, method: str) -> None:
    local, remote, image = Engine(llava_next.backend), InProcess(llava_next).engine(), picture(200, 120)
    asked: dict[str, Any] = {"pruner": method, "budget": 40, "max_new_tokens": 4}
    theirs, ours = local.ask(image, QUESTION, **asked), remote.ask(image, QUESTION, **asked)
    assert ours.token_ids == theirs.token_ids and ours.answer == theirs.answer
    assert torch.equal(ours.first_logits, theirs.first_logits)
    assert torch.equal(ours.selection.kept, theirs.selection.kept)
    assert ours.counters.computed == theirs.counters.computed
    assert ours.counters.measured.encode_cached == theirs.counters.measured.encode_cached is False
    seen = remote.select(image, QUESTION, pruner=method, budget=40)
    assert torch.equal(seen.selection.kept, local.select(image, QUESTION, pruner=method, budget=40).selection.kept)


def test_everything_the_page_asks_of_an_engine_works_from_afar(llava: Engine) -> None:
    remote, image = InProcess(llava).engine(), picture(90, 90)
    local = llava.encode(image)
    encoded = remote.encode(image)
    assert torch.equal(encoded.tokens.features, local.tokens.features) and encoded.tokens.encoder is None
    assert remote.encode(image).cached and not encoded.cached
    assert torch.equal(remote.query(QUESTION).features, llava.query(QUESTION).features)
    theirs, ours = (one.compare(image, QUESTION, budget=9, max_new_tokens=4) for one in (llava, remote))
    assert (ours.kl_answer, ours.agreement, ours.same) == (theirs.kl_answer, theirs.agreement, theirs.same)
    ids = list(theirs.full.token_ids)
    assert remote.backend.decode(ids) == llava.backend.decode(ids)
    assert (remote.info, remote.backend.eos_ids) == (llava.info, llava.backend.eos_ids)
    assert remote.text_config.hidden_size == llava.text_config.hidden_size


def test_options_of_the_engine_travel_with_each_call(llava_next: Engine) -> None:
    image, asked = picture(200, 120), {"pruner": "divprune", "budget": 30, "max_new_tokens": 3}
    cluster = InProcess(llava_next)
    for newlines, positions in (("drop", "compact"), ("row", "compact"), ("drop", "original")):
        ours = cluster.engine(newlines=newlines, positions=positions).ask(image, QUESTION, **asked)  # type: ignore[arg-type]
        local = Engine(llava_next.backend, newlines=newlines, positions=positions)
        assert torch.equal(ours.first_logits, local.ask(image, QUESTION, **asked).first_logits)  # type: ignore[arg-type]


def test_pixels_travel_once_to_each_worker_whatever_is_asked(llava: Engine) -> None:
    cluster = InProcess(llava, count=2)
    image = picture(90, 90)
    one, other = cluster.engine(), cluster.engine()  # two front ends
    for engine in (one, other):
        for budget in (4, 9, 16):
            engine.select(image, QUESTION, budget=budget)
            engine.ask(image, QUESTION, budget=budget, max_new_tokens=2)
    assert cluster.sent_pixels == 1
    assert cluster.methods["encode"] == 3  # refused without pixels, sent with them; the second front end needed none
    cluster.current = 1  # a worker that has never seen the picture
    answers = {engine.ask(image, QUESTION, max_new_tokens=3).token_ids for engine in (one, other)}
    assert cluster.sent_pixels == 2 and len(answers) == 1


def test_a_worker_that_forgot_a_picture_is_sent_it_again(llava: Engine) -> None:
    cluster = InProcess(llava)
    frame = picture(90, 90).nbytes
    cluster.workers = [Worker({"tiny": Engine(llava.backend)}, media_bytes=frame)]  # holds one picture
    engine, first, second = cluster.engine(), picture(90, 90, seed=1), picture(90, 90, seed=2)
    expected = engine.ask(first, QUESTION, max_new_tokens=3).token_ids
    engine.ask(second, QUESTION, max_new_tokens=3)
    assert engine.ask(first, QUESTION, max_new_tokens=3).token_ids == expected
    assert cluster.sent_pixels == 3


def test_the_ask_tab_answers_over_a_cluster() -> None:
    from ui.handlers import AskHandlers
    from ui.remote import over
    from ui.state import DEFAULTS, NAMES

    cluster = InProcess(Engine.load("stickers"))
    cluster.workers[0]._engines = {"stickers": cluster.workers[0]._engines.pop("tiny")}
    host = over(cluster)
    host.start()
    host.wait()
    assert host.choices() == [("Stickers, 576 tokens", "stickers")] and host.badge()[1] == "ready"
    assert host.obstacle("llava-hf/llava-v1.6-vicuna-7b-hf") and not host.loaded("llava-hf/llava-v1.6-vicuna-7b-hf")
    assert not isinstance(host.engine("stickers-video"), RemoteEngine)  # nobody serves it, so the page does
    assert isinstance(host.engine(), RemoteEngine) and host.engine(newlines="row").newlines == "row"
    handlers = AskHandlers(host)
    example = read_example()
    views = list(
        handlers.ask("", str(example.path), *(getattr(DEFAULTS.but(question=example.question), n) for n in NAMES))
    )
    final = [view["answers"] for view in views if "answers" in view][-1]
    assert final["state"] == "done" and final["pruned"]["text"]
    assert cluster.sent_pixels == 1


def read_example() -> Any:
    from ui.examples import examples

    example = examples()[0]
    assert read_image(example.path).kind == "image"
    return example
