"""Evaluation: fixed questions, methods as typed, a journal that survives being killed, and the arithmetic."""

from __future__ import annotations

import csv
import io
import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from script_core.engine import Engine
from script_core.evaluation import Job, Journal, JournalError, run, statistics
from script_core.evaluation.__main__ import main
from script_core.evaluation.methods import parse, parse_list
from script_core.evaluation.questions import SEEDS, digest, sheets
from script_core.evaluation.results import COLUMNS, as_csv, summarise, write_json
from script_core.evaluation.runner import LONGEST, Progress, header
from script_core.pruners.base import CannotPrune
from script_core.stickers.batches import TRAINING_SEED

PROVENANCE = {"date": "2026-01-01 00:00", "commit": "abc", "machine": {"title": "a machine"}}


class Answering:
    """An engine that answers by rule, and counts. `rule(pruner, budget, question) -> answer`."""

    def __init__(self, rule: Any) -> None:
        self.rule, self.encoded, self.asked = rule, 0, 0
        weights = torch.nn.Linear(2, 2)
        torch.nn.init.ones_(weights.weight)
        torch.nn.init.zeros_(weights.bias)
        self.backend = SimpleNamespace(language_model=weights)
        self.info = SimpleNamespace(name="rule", dtype="float32", frames=8)
        self.newlines, self.positions = "drop", "compact"

    def encode(self, media: Any) -> Any:
        self.encoded += 1
        return SimpleNamespace(tokens=range(576))

    def ask(self, encoded: Any, question: str, *, pruner: Any, budget: int, max_new_tokens: int) -> Any:
        assert max_new_tokens == LONGEST
        self.asked += 1
        measured = SimpleNamespace(decode_ms=None, select_ms=1.0, prefill_ms=budget / 10)
        computed = SimpleNamespace(paper_flops=budget * 1e6, flops=budget * 2e6, kv_bytes=budget * 1024)
        counters = SimpleNamespace(
            kept=budget, entering=(budget, budget), generated=1, measured=measured, computed=computed
        )
        return SimpleNamespace(answer=self.rule(pruner, budget, question), counters=counters)


def truths(count: int) -> dict[str, str]:
    return {item.text: item.answer for sheet in sheets("image", count) for item in sheet.items}


def right(count: int) -> Answering:
    known = truths(count)
    return Answering(lambda pruner, budget, question: known[question])


def finished(engine: Any, job: Job) -> tuple[Journal, dict[str, Any]]:
    journal = Journal(None, header(engine, job.kind))
    assert run(engine, job, journal)
    return journal, summarise(job, journal, PROVENANCE)


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
    assert digest("image") == "d53100ea13540336"
    assert digest("video") == "4b9fa6ef6de6609c"


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


@pytest.mark.parametrize(
    "text",
    ["skript", "script(q=1)", "script(p)", "script(p=high)", "script(scope=3)", "script(gsp=1)", "script(p=2)", ""],
)
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


# ---- arithmetic --------------------------------------------------------------------------------------------------


def test_rows_by_hand() -> None:
    """Random is right with seed 0 only; uniform is right on existence only; the full model knows everything."""
    known = truths(40)
    existence = {i.text for s in sheets("image", 40) for i in s.items if i.yes_no}

    def rule(pruner: Any, budget: int, question: str) -> str:
        if pruner.name == "random":
            return known[question] if pruner.seed == 0 else "wrong"
        return known[question] if pruner.name == "full" or question in existence else "wrong"

    _, results = finished(Answering(rule), Job(parse_list("uniform,random"), (64,), questions=40, seeds=2))
    full, uniform, random = results["rows"]
    assert (full["budget"], full["accuracy"], full["f1"], full["ratio_of_means"]) == (576, 1.0, 1.0, 1.0)
    assert random["accuracy"] == random["mean_of_ratios"] == random["same_as_full"] == 0.5 and random["seeds"] == 2
    share = sum(i.yes_no for s in sheets("image", 40) for i in s.items) / 40
    assert uniform["accuracy"] == pytest.approx(share, rel=1e-5) and uniform["f1"] == 1.0
    wide = [uniform["suites"][s] for s in results["suites"]]
    assert set(wide) == {0.0, 1.0} and uniform["mean_of_suites"] == pytest.approx(np.mean(wide), rel=1e-5)
    assert (uniform["average_tokens"], uniform["paper_gflops"], uniform["prefill_ms"]) == (64.0, 0.064, 6.4)
    assert sum(results["suites"].values()) == 40
    against = {t["second"]: t for t in results["tests"]}
    assert set(against) == {"full", "random"} and against["full"]["difference"] == pytest.approx(share - 1, rel=1e-4)
    assert against["full"]["p_t"] > 0.99


def test_f1_and_ratios_by_hand() -> None:
    assert statistics.f1(["yes", "yes", "no", "no"], ["yes", "no", "yes", "no"]) == 0.5
    assert statistics.f1(["no"], ["no"]) is None
    assert statistics.f1(["maybe"], ["yes"]) == 0.0
    ours, full = {"a": 0.5, "b": 0.2}, {"a": 1.0, "b": 0.25}
    assert statistics.ratio_of_means(ours, full) == pytest.approx(0.7 / 1.25)
    assert statistics.mean_of_ratios(ours, full) == pytest.approx((0.5 + 0.8) / 2)
    assert statistics.mean_of_ratios({"a": 0.0}, {"a": 0.0}) is None
    with pytest.raises(ValueError, match="same suites"):
        statistics.ratio_of_means({"a": 1.0}, {"b": 1.0})


def test_paired_t_is_the_textbooks() -> None:
    ours, theirs = np.array([0.9, 0.8, 0.7, 1.0, 0.6]), np.array([0.5, 0.6, 0.7, 0.7, 0.5])
    gap = ours - theirs
    t = gap.mean() / (gap.std(ddof=1) / np.sqrt(5))
    found = statistics.paired(ours, theirs)
    assert found.p_t == pytest.approx(stats.t.sf(t, 4))
    assert statistics.paired(theirs, ours).p_t == pytest.approx(1 - found.p_t)
    assert found.difference == pytest.approx(0.2) and found.low < 0.2 < found.high
    # One question of difference in a scene of two against three of six in the other direction.
    assert (
        statistics.paired([1.0, 0.0], [0.5, 0.5], [2, 6]).p_t
        > 0.5
        > statistics.paired([1.0, 0.2], [0.5, 0.5], [6, 2]).p_t
    )
    assert found.p_wilcoxon < 0.06 < statistics.paired(theirs, ours).p_wilcoxon


def test_tests_without_a_difference_find_none() -> None:
    same = statistics.paired([0.5, 1.0, 0.0], [0.5, 1.0, 0.0])
    assert (same.p_t, same.p_wilcoxon, same.difference, same.low, same.high) == (1.0, 1.0, 0.0, 0.0, 0.0)
    constant = statistics.paired([1.0, 1.0, 1.0], [0.5, 0.5, 0.5])
    assert constant.p_t == 0.0 and constant.p_wilcoxon < 0.1 and constant.low == constant.high == 0.5
    assert statistics.paired([1.0], [0.0]).p_t == 1.0


def test_intervals_resample_scenes_with_their_questions() -> None:
    even = statistics.interval([0.0, 1.0] * 50, [1.0] * 100)
    assert even.low == pytest.approx(0.40, abs=0.03) and even.high == pytest.approx(0.60, abs=0.03)
    heavy = statistics.interval([0.0, 1.0], [1.0, 9.0])
    assert (heavy.low, heavy.high) == (0.0, 1.0)
    assert np.isnan(statistics.interval([1.0], [6.0]).low)


# ---- files -------------------------------------------------------------------------------------------------------


def test_json_and_csv_hold_every_row_with_its_provenance(tmp_path: Path) -> None:
    _, results = finished(right(10), Job(parse_list("uniform"), (32, 8), questions=10))
    write_json(tmp_path / "results.json", results)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert not list(tmp_path.glob("*.part"))
    lines = list(csv.DictReader(io.StringIO(as_csv(results))))
    assert [(line["method"], line["budget"]) for line in lines] == [
        ("full", "576"),
        ("uniform", "32"),
        ("uniform", "8"),
    ]
    assert {(line["machine"], line["commit"]) for line in lines} == {("a machine", "abc")}
    assert set(COLUMNS) <= set(lines[0]) and set(results["suites"]) <= set(lines[0])


def test_nothing_answered_gives_no_results() -> None:
    with pytest.raises(ValueError, match="nothing to summarise"):
        summarise(Job(parse_list("uniform"), (8,)), Journal(None, header(right(1), "image")), PROVENANCE)


def test_the_real_engine_is_asked_the_same_way(llava: Engine) -> None:
    job = Job(parse_list("script,random,fastv"), (9,), questions=4, seeds=2)
    journal, results = finished(llava, job)
    script = next(row for row in results["rows"] if row["method"] == "script")
    assert script["average_tokens"] == 9 and results["rows"][0]["average_tokens"] == 36
    sheet = next(sheets("image", 4))
    alone = llava.ask(sheet.media(), sheet.items[0].text, pruner="script", budget=9, max_new_tokens=LONGEST)
    key = f"{parse('script').key}|9|0|{sheet.items[0].key}"
    assert journal.records[key]["answer"] == alone.answer


def test_the_command_writes_both_files_and_goes_on_from_its_journal(
    tmp_path: Path, llava_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found.json"
    words = [
        "--methods",
        "uniform",
        "--budgets",
        "6",
        "--questions",
        "3",
        "--out",
        str(out),
        "--model",
        str(llava_folder),
    ]
    assert main([*words, "--device", "cpu"]) == 0
    first = json.loads(out.read_text())
    assert [row["method"] for row in first["rows"]] == ["full", "uniform"]
    assert out.with_suffix(".csv").is_file() and "uniform" in capsys.readouterr().out
    assert main([*words, "--device", "cpu", "--budgets", "6,3"]) == 0
    assert "6 answers are there already" in capsys.readouterr().err
    assert main(["--methods", "skript"]) == 2
    assert capsys.readouterr().err.startswith("error: There is no method 'skript'")
    assert main(["--budgets", "many"]) == 2
