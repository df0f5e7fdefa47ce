"""Workers and front ends without Ray: the cluster here calls workers in this process, through pickled messages."""

from __future__ import annotations

import ast
import pickle
import re
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from script_core.backends.base import CannotLoad
from script_core.engine import Engine, QuestionError
from script_core.media import MediaError, read_image
from script_core.pruners import PRUNERS
from script_core.pruners.base import CannotPrune
from script_core.report import Encoded, Finished, FirstToken, Selected, Text
from script_core.serving import Busy, Lost, RemoteEngine, Unreachable, Worker, messages, replay
from script_core.serving.cluster import parse
from script_core.serving.messages import Missing, Refused, Reply, Request, portable
from script_core.serving.plan import Plan
from script_core.serving.worker import Broken
from tests.tiny import picture

QUESTION = "is there a red apple?"
ROOT = Path(__file__).parent.parent


class InProcess:
    """Workers over their own engines of one model; `current` takes the calls. What passes is pickled both ways.

    cuts: for each stream in turn, after how many events its worker dies (-1: not at all); the next one then takes over.
    """

    def __init__(self, engine: Engine, count: int = 1, cuts: tuple[int, ...] = ()) -> None:
        self.workers = [Worker({"tiny": Engine(engine.backend)}) for _ in range(count)]
        self.current = 0
        self.cuts = list(cuts)
        self.methods: Counter[str] = Counter()
        self.sent_pixels = 0

    def engine(self, model: str = "tiny", **options: Any) -> RemoteEngine:
        return RemoteEngine(self, model, wire(self.workers[0].describe())[model], **options)

    def describe(self) -> dict[str, messages.Facts]:
        return self.workers[0].describe()

    def call(self, request: Request, affinity: str) -> Reply:
        self._count(request)
        return wire(self.workers[self.current].call(wire(request)))

    def stream(self, request: Request, affinity: str) -> Generator[Reply, None, None]:
        self._count(request)
        left = self.cuts[0] if self.cuts else -1
        events = self.workers[self.current].stream(wire(request))
        try:
            for event in events:
                if left == 0 and not isinstance(event, Missing):
                    self.cuts.pop(0)
                    self.current = (self.current + 1) % len(self.workers)
                    raise Lost("killed")
                left -= not isinstance(event, Missing)
                yield wire(event)
        finally:
            events.close()  # type: ignore[attr-defined]

    def stop(self, run: str) -> None:
        for worker in self.workers:
            worker.stop(run)

    def _count(self, request: Request) -> None:
        self.methods[request.method] += 1
        self.sent_pixels += request.media is not None


def wire(message: Any) -> Any:
    return pickle.loads(pickle.dumps(message))


def said(events: list[Any]) -> list[tuple[Any, ...]]:
    """The events without their times."""
    out: list[tuple[Any, ...]] = []
    for event in events:
        match event:
            case Encoded():
                out.append(("encoded", event.media.key, len(event.tokens)))
            case Selected():
                out.append(("selected", event.selection.kept.tolist(), event.method, event.budget))
            case FirstToken():
                out.append(("first", event.token_id))
            case Text():
                out.append(("text", event.text, event.token_id, event.count))
            case Finished():
                out.append(("finished", event.result.answer, event.result.token_ids))
    return out


# ---- the same answers ------------------------------------------------------------------------------------------------


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


# ---- pictures by content hash ----------------------------------------------------------------------------------------


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


# ---- a worker dies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["script", "fastv"])  # known before, and only after, the prefill
def test_a_death_at_any_point_of_an_answer_is_not_seen_by_its_reader(llava: Engine, method: str) -> None:
    image, asked = picture(90, 90), {"pruner": method, "budget": 16, "max_new_tokens": 4}
    whole = said(list(InProcess(llava).engine().stream(image, QUESTION, **asked)))  # type: ignore[arg-type]
    for cut in range(len(whole) - 1):
        cluster = InProcess(llava, count=2, cuts=(cut,))
        events = list(cluster.engine().stream(image, QUESTION, **asked))  # type: ignore[arg-type]
        assert said(events) == whole
        assert events[-1].result.notice.endswith(replay.BEGAN_AGAIN)
        assert cluster.methods["stream"] == 3 and cluster.sent_pixels == 2  # the second worker had to be sent it


def test_two_deaths_in_one_answer(llava: Engine) -> None:
    whole = said(list(InProcess(llava).engine().stream(picture(90, 90), QUESTION, max_new_tokens=5)))
    cluster = InProcess(llava, count=3, cuts=(3, 1))
    assert said(list(cluster.engine().stream(picture(90, 90), QUESTION, max_new_tokens=5))) == whole


def test_if_all_workers_fail_the_reader_gets_a_sentence(llava: Engine) -> None:
    cluster = InProcess(llava, count=2, cuts=(1,) * 9)
    with pytest.raises(Unreachable, match="try again in a minute"):
        list(cluster.engine().stream(picture(90, 90), QUESTION, max_new_tokens=3))
    assert issubclass(Unreachable, CannotLoad) and issubclass(Busy, CannotLoad)  # which the page shows as they are


def test_a_call_is_made_again_only_if_its_worker_was_lost() -> None:
    calls: list[str] = []

    def fails(*problems: Exception | str) -> Callable[[], str]:
        left = list(problems)

        def call() -> str:
            calls.append("call")
            outcome = left.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        return call

    assert replay.again(fails(Lost("1"), Lost("2"), "answer")) == "answer" and len(calls) == 3
    for final in (Busy("full"), RuntimeError("bug")):
        calls.clear()
        with pytest.raises(type(final)):
            replay.again(fails(final, "answer"))
        assert len(calls) == 1
    with pytest.raises(Unreachable):
        replay.again(fails(*[Lost("gone")] * replay.TRIES))


def test_a_second_worker_that_rounds_otherwise_replaces_the_text_from_there_on() -> None:
    first = [FirstToken(5, 1.0, 2.0), Text("a", 5, 1), Text("a b", 6, 2), Text("a b c", 7, 3)]
    second = [FirstToken(5, 9.0, 9.0), Text("a", 5, 1), Text("a x", 8, 2), Text("a x c", 7, 3), Text("a x c d", 9, 4)]
    attempts = iter([first, second])

    def begin() -> Iterator[Any]:
        attempt = next(attempts)
        yield from attempt
        if attempt is first:
            raise Lost("killed")

    texts = [event.text for event in replay.once(begin) if isinstance(event, Text)]
    assert texts == ["a", "a b", "a b c", "a x", "a x c", "a x c d"]


# ---- leaving ---------------------------------------------------------------------------------------------------------


def test_stop_ends_the_worker_within_a_token_and_the_answer_says_so(llava: Engine) -> None:
    cluster, stop, counts = InProcess(llava), threading.Event(), []
    for event in cluster.engine().stream(picture(90, 90), QUESTION, max_new_tokens=200, stop=stop):
        if isinstance(event, Text):
            counts.append(event.count)
            if event.count == 3:
                stop.set()
    assert counts[-1] <= 5 and isinstance(event, Finished) and event.result.stopped
    assert cluster.workers[0].streams == 0


def test_a_reader_who_leaves_takes_the_work_along(llava: Engine) -> None:
    cluster = InProcess(llava)
    events = cluster.engine().stream(picture(90, 90), QUESTION, max_new_tokens=200)
    while not isinstance(next(events), Text):
        assert cluster.workers[0].streams <= 1
    assert cluster.workers[0].streams == 1
    events.close()  # type: ignore[attr-defined]
    assert cluster.workers[0].streams == 0
    cluster.stop("nobody's")  # a stop that comes late is no error


# ---- failures are sentences ------------------------------------------------------------------------------------------


def test_a_refusal_is_the_engine_s_own(llava: Engine) -> None:
    cluster = InProcess(llava)
    engine = cluster.engine()
    with pytest.raises(CannotPrune, match="There is no method"):
        engine.ask(picture(90, 90), QUESTION, pruner="nonsense")
    with pytest.raises(CannotPrune, match="at least 1"):
        list(engine.stream(picture(90, 90), QUESTION, budget=0))
    with pytest.raises(QuestionError):
        engine.stream(picture(90, 90), " ")
    with pytest.raises(QuestionError):
        engine.stream(picture(90, 90), QUESTION, max_new_tokens=0)
    with pytest.raises(MediaError):
        engine.encode(b"no picture")
    with pytest.raises(CannotLoad, match="they serve tiny"):
        RemoteEngine(cluster, "other", cluster.describe()["tiny"]).encode(picture(90, 90))


def test_what_only_the_worker_s_log_should_say_stays_there(llava: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = InProcess(llava)
    engine = cluster.engine()
    engine.encode(picture(90, 90))

    def fail(*_: Any, **__: Any) -> Any:
        raise KeyError("/secret/path")

    monkeypatch.setattr(cluster.workers[0]._engines["tiny"], "select", fail)
    with pytest.raises(RuntimeError) as caught:
        engine.select(picture(90, 90), QUESTION)
    assert "secret" not in str(caught.value) and "KeyError" in str(caught.value)
    reply = cluster.call(Request("tiny", "__class__"), "")
    assert isinstance(reply, Refused)  # a request cannot name just any method


def test_a_worker_whose_gpu_has_failed_asks_to_be_replaced(llava: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker({"tiny": Engine(llava.backend)})
    request = Request("tiny", "query", arguments={"question": QUESTION})
    problems: list[Exception] = [
        torch.OutOfMemoryError("CUDA out of memory"),
        torch.AcceleratorError("illegal address"),
    ]

    def fail(question: str) -> Any:
        raise problems[0]

    monkeypatch.setattr(worker._engines["tiny"], "query", fail)
    reply = worker.call(request)
    assert isinstance(reply, Refused) and isinstance(reply.problem, torch.OutOfMemoryError)
    worker.check()  # memory can be had again
    problems.pop(0)
    with pytest.raises(Broken):
        worker.call(request)
    with pytest.raises(Broken):
        worker.check()


# ---- small parts -----------------------------------------------------------------------------------------------------


def test_what_is_sent_drags_nothing_along() -> None:
    large = torch.randn(1000, 64)
    assert len(pickle.dumps(portable(large[3]))) < 2000 < len(pickle.dumps(large[3]))
    row = portable({"scores": (large[3], large[4].to(torch.bfloat16)), "name": "x"})
    assert torch.equal(row["scores"][0], large[3]) and row["scores"][1].dtype == torch.bfloat16 and row["name"] == "x"


def test_an_address_names_a_cluster_and_an_application() -> None:
    assert parse("ray://auto") == ("auto", "default") == parse("ray://")
    assert parse("ray://head:6379") == ("head:6379", "default")
    assert parse("ray://10.0.0.1:6379/llava") == ("10.0.0.1:6379", "llava")
    for wrong in ("head:6379", "http://head:6379", "ray://head", "ray://head:x/llava"):
        with pytest.raises(ValueError, match="ray://|6379"):
            parse(wrong)


def test_a_plan_comes_from_strings_and_is_checked() -> None:
    plan = Plan.of({"models": "stickers, toy", "replicas": "2", "gpus": "0.5", "most": "4"})
    assert plan.names == ("stickers", "toy")
    options = plan.options()
    assert options["autoscaling_config"]["min_replicas"] == 2 and options["autoscaling_config"]["max_replicas"] == 4
    assert options["ray_actor_options"] == {"num_gpus": 0.5, "num_cpus": 1.0} and "num_replicas" not in options
    assert Plan.of({}).options()["num_replicas"] == 1
    assert {one.name for one in fields(Plan)} >= {"models", "replicas", "most", "gpus", "cpus", "ongoing", "queued"}
    wrongs = ({"replica": "2"}, {"replicas": "two"}, {"replicas": "0"}, {"replicas": "3", "most": "2"}, {"gpus": "1.5"},
              {"models": ","}, {"ongoing": "0"})  # fmt: skip
    for wrong in wrongs:
        with pytest.raises(ValueError, match=r"\w+ \w+"):
            Plan.of(wrong)


def test_the_document_names_the_settings_that_there_are() -> None:
    document = (ROOT / "docs" / "scale.md").read_text()
    table = document.partition("| setting of")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in table.splitlines()[2:]))) == {
        one.name for one in fields(Plan)
    }
    assert f"Ray {re.search(r'==([0-9.]+)', (ROOT / 'requirements-ray.txt').read_text())[1]}" in document  # type: ignore[index]


def test_only_the_deployment_imports_ray_when_it_is_imported() -> None:
    for path in (ROOT / "script_core").glob("**/*.py"):
        names = {
            name.split(".")[0]
            for node in ast.parse(path.read_text()).body
            for name in (
                [alias.name for alias in node.names] if isinstance(node, ast.Import)
                else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            )
        }  # fmt: skip
        assert ("ray" in names) == (path.match("serving/app.py")), path


# ---- the page over a cluster -----------------------------------------------------------------------------------------


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
