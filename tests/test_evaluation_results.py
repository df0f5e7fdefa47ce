"""Evaluation: the arithmetic of results by hand, and the files and the command that write them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from script_core.engine import Engine
from script_core.evaluation import Job, Journal, statistics
from script_core.evaluation.__main__ import main
from script_core.evaluation.methods import parse, parse_list
from script_core.evaluation.questions import sheets
from script_core.evaluation.results import COLUMNS, as_csv, summarise, write_json
from script_core.evaluation.runner import LONGEST, header
from tests.evaluated import PROVENANCE, Answering, finished, right, truths

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
    alone = statistics.paired([1.0], [0.0])
    assert alone.p_t == 1.0 and alone.difference == 1.0 and np.isnan(alone.low) and np.isnan(alone.high)


def test_the_noise_of_sums_is_no_difference() -> None:
    noise = statistics.paired([0.1 + 0.2] * 4, [0.3] * 4, [6, 6, 6, 2])
    assert (noise.difference, noise.p_t, noise.p_wilcoxon, noise.low, noise.high) == (0.0, 1.0, 1.0, 0.0, 0.0)
    # One question more on every scene, whatever the scene's size: the same gain but for its last digits.
    constant = statistics.paired([1 / 3, 1 / 6, 0.2 + 0.1], [0.0, 0.0, 0.2], [3, 6, 10])
    assert constant.p_t == 0.0
    assert constant.p_wilcoxon == statistics.paired([1.0] * 3, [0.0] * 3).p_wilcoxon


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
    table = capsys.readouterr().out
    assert out.with_suffix(".csv").is_file() and "uniform" in table
    assert first["scenes"] == 1 and table.count("-)") == 3 and "0.0 .. " not in table  # one scene has no interval
    assert main([*words, "--device", "cpu", "--budgets", "6,3"]) == 0
    assert "6 answers are there already" in capsys.readouterr().err
    assert main(["--methods", "skript"]) == 2
    assert capsys.readouterr().err.startswith("error: There is no method 'skript'")
    assert main(["--budgets", "many"]) == 2
