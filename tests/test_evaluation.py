"""Evaluation: fixed questions, methods as typed, and a journal that survives being killed."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from script_core.evaluation import Job, Journal, JournalError, run
from script_core.evaluation.methods import parse, parse_list
from script_core.evaluation.questions import SEEDS, digest, sheets
from script_core.evaluation.results import summarise
from script_core.evaluation.runner import Progress, header
from script_core.pruners.base import CannotPrune
from script_core.stickers.batches import TRAINING_SEED
from tests.evaluated import PROVENANCE, Answering, finished, right

# ---- questions ---------------------------------------------------------------------------------------------------


def test_fewer_questions_are_the_beginning_of_more_and_suites_cover_popes_negatives() -> None:
    many = [item for sheet in sheets("image", 120) for item in sheet.items]
    few = [item for sheet in sheets("image", 25) for item in sheet.items]
    assert many[:25] == few and len(many) == 120
    assert len({item.key for item in many}) == 120
    suites = {item.suite for item in many}
    assert {"existence, random", "existence, popular", "existence, adversarial", "count", "colour", "where"} <= suites
    asked = [item.answer for item in many if item.yes_no]
    assert 0.35 < asked.count("yes") / len(asked) < 0.65
    assert max(SEEDS.values()) < TRAINING_SEED


def test_the_question_sequence_of_this_version_has_not_changed() -> None:
    assert digest("image") == "fec61a4b589cf688"
    assert digest("video") == "e46e1ab6387e811e"
    assert digest("tiles") == "fbd44b75bb31d47d"


def test_tiles_are_asked_of_pictures_that_need_them() -> None:
    sheet = next(sheets("tiles", 5))
    assert sheet.media().frames[0].shape == (672, 672, 3) and len(sheet.items) == 5
    assert all(24 <= sticker.size * 672 <= 61 for sticker in sheet.scenes[0].stickers)


def test_video_questions_come_with_as_many_frames_as_times() -> None:
    sheet = next(sheets("video", 3))
    media = sheet.media()
    assert media.kind == "video" and len(media.frames) == len(media.times) == 8
    assert {item.suite for item in sheet.items} <= {"appears", "moves", "first"}


@pytest.mark.parametrize(("kind", "count"), [("image", 0), ("image", 2001), ("video", 501), ("sound", 1)])
def test_questions_that_do_not_exist_are_refused(kind: str, count: int) -> None:
    with pytest.raises(ValueError, match="ask for|no 'sound'"):
        list(sheets(kind, count))


# ---- methods -----------------------------------------------------------------------------------------------------


def test_methods_are_read_as_typed() -> None:
    first, second = parse_list("script(p=0.3,tau=0.2,scope=global,gsp=true), random")
    assert (first.pruner.p, first.pruner.tau, first.pruner.scope) == (0.3, 0.2, "global")
    assert second.is_random and second.seeded(7).seed == 7 and not first.is_random
    assert parse("script(gsp=false,qcrs=false,dpp=false)").is_random
    assert parse("script(sign=-1)").pruner.sign == -1 and parse("script(sign=none)").pruner.sign is None
    assert parse("script").key == parse(f"script(p={parse('script').pruner.p})").key != parse("script(p=0.11)").key
    assert len(parse_list("script,script(),random")) == 2


def test_texts_that_mean_the_same_are_one_method() -> None:
    for first, second in (("script(sign=1)", "script(sign=1.0)"), ("script(tau=0)", "script(tau=-0.0)")):
        assert parse(first).key == parse(second).key and len(parse_list(f"{first},{second}")) == 1
    assert parse("fastv(k=2)").pruner.k == 2 and parse("fastv(k=none)").key == parse("fastv").key


@pytest.mark.parametrize("text", ["random(seed=5)", "random( seed = 0)", "script(seed=1)", "random,random(seed=1)"])
def test_a_seed_that_would_not_be_used_is_refused(text: str) -> None:
    with pytest.raises(CannotPrune, match=r"Leave seed out of \w+\(.*\): .* seeds 0, 1, 2 and so on.*[.]$"):
        parse_list(text)
    assert parse("random(seed=5)").pruner.seed == 5  # one method, asked once, may have the seed that it was given


@pytest.mark.parametrize(
    "text",
    [
        "skript", "script(q=1)", "script(p)", "script(p=high)", "script(scope=3)", "script(gsp=1)", "script(p=2)", "",
        "script(sign=true)", "fastv(k=2.5)", "script(gamma=1" + 400 * "0" + ")",
    ],
)  # fmt: skip
def test_what_is_not_a_method_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(CannotPrune, match=r"[a-z].*[.]$"):
        parse_list(text)


# ---- journal and resumption --------------------------------------------------------------------------------------


def test_a_killed_run_goes_on_with_nothing_lost_or_counted_twice(tmp_path: Path) -> None:
    job = Job(parse_list("random,script"), (64, 16), questions=20, seeds=2)
    total = 20 * (1 + 2 * 2 + 2)
    path = tmp_path / "run.jsonl"

    class Killed(Exception):
        pass

    engine = right(20)
    plain = engine.ask

    def ask(*args: Any, **more: Any) -> Any:
        if engine.asked == 57:
            raise Killed
        return plain(*args, **more)

    engine.ask = ask  # type: ignore[method-assign]
    journal = Journal(path, header(engine, "image"))
    with pytest.raises(Killed):
        run(engine, job, journal)
    # No close: what the process had handed over is on disk already, and the kill cut the next line short.
    assert len(path.read_bytes().splitlines()) == 1 + 57
    with path.open("ab") as file:
        file.write(b'{"key":"random(scope=crop)|64|0|ima')

    again = right(20)
    seen: list[Progress] = []
    with Journal(path, header(again, "image")) as resumed:
        assert resumed.resumed == 57
        assert run(again, job, resumed, seen.append)
        results = summarise(job, resumed, PROVENANCE)
    assert again.asked == total - 57
    assert seen[-1].answered == seen[-1].total == total
    keys = [json.loads(line)["key"] for line in path.read_bytes().splitlines()[1:]]
    assert len(keys) == len(set(keys)) == total
    journal.close()
    _, unbroken = finished(right(20), job)
    assert results["rows"] == unbroken["rows"]

    with Journal(path, header(again, "image")) as third:
        idle = right(20)
        assert run(idle, job, third)
        assert idle.asked == idle.encoded == 0


def test_a_line_that_stands_twice_counts_once_and_a_damaged_middle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path, {"set": "a"}) as journal:
        journal.add("one", {"right": True})
        journal.add("one", {"right": False})
        journal.add("two", {"right": True})
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3
    path.write_bytes(b"".join([*lines, lines[1].replace(b"true", b"false")]))
    with Journal(path, {"set": "a"}) as journal:
        assert journal.records["one"]["right"] and len(journal.records) == 2
    path.write_bytes(lines[0] + b"garbage\n" + lines[1] + lines[2])
    with pytest.raises(JournalError, match="Line 2"):
        Journal(path, {"set": "a"})


def test_a_journal_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    Journal(path, {"set": "a", "weights": "1"}).close()
    with pytest.raises(JournalError, match="weights differ"):
        Journal(path, {"set": "a", "weights": "2"})


def test_stopping_leaves_whole_questions_to_compare() -> None:
    job = Job(parse_list("random"), (16,), questions=12, seeds=1)
    engine, stop = right(12), threading.Event()
    journal = Journal(None, header(engine, "image"))

    def watch(at: Progress) -> None:
        if at.answered == 9:
            stop.set()

    assert not run(engine, job, journal, watch, stop)
    results = summarise(job, journal, PROVENANCE)
    assert (results["questions"], results["asked_for"]) == (4, 12)  # nine answers, two to a question
    assert {row["questions"] for row in results["rows"]} == {4}
    assert run(engine, job, journal) and engine.asked == 24


def test_what_a_method_cannot_do_is_noted_once_with_its_reason() -> None:
    def rule(pruner: Any, budget: int, question: str) -> str:
        if pruner.name == "fastv":
            raise CannotPrune("FastV cannot.")
        return "no"

    engine = Answering(rule)
    journal, results = finished(engine, Job(parse_list("fastv,uniform"), (8,), questions=10))
    assert results["impossible"] == [{"method": "fastv", "budget": 8, "reason": "FastV cannot."}]
    assert [row["method"] for row in results["rows"]] == ["full", "uniform"]
    assert engine.asked == 10 + 10 + 1
