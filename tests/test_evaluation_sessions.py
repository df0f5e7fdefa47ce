"""Where the answers of a journal come from: told session by session, whatever has changed in between."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from script_core.evaluation import Job, Journal, provenance, run
from script_core.evaluation.__main__ import main
from script_core.evaluation.methods import parse_list
from script_core.evaluation.results import as_csv, summarise
from script_core.evaluation.runner import header
from tests.evaluated import right

JOB = Job(parse_list("uniform"), (8,), questions=6)
MACHINE = {"title": "a processor, 1 of 2 cores", "device": "cpu", "threads": 1}


def session(commit: str = "abc", date: str = "2026-01-01 00:00", **machine: Any) -> dict[str, Any]:
    return {"date": date, "commit": commit, "machine": MACHINE | machine}


def asked(path: Path, here: dict[str, Any] | None, most: int = 100) -> dict[str, Any]:
    """Results after at most so many more answers."""
    engine = right(6)
    with Journal(path, header(engine, "image"), here) as journal:
        stop = type("Stop", (), {"is_set": lambda self: engine.asked >= most})()
        run(engine, JOB, journal, stop=stop)  # type: ignore[arg-type]
        return summarise(JOB, journal, here or {})


def test_a_run_that_goes_on_elsewhere_names_every_commit_and_machine(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    first = asked(path, session(), most=4)
    assert (first["commit"], first["machine"], len(first["sessions"])) == ("abc", MACHINE, 1)
    gpu = {"title": "a GPU", "device": "cuda"}
    results = asked(path, session("def+", "2026-01-02 00:00", **gpu))
    assert (results["commit"], results["date"]) == ("abc; def+", "2026-01-02 00:00")
    assert results["machine"] == {"title": f"{MACHINE['title']}; a GPU", "device": "cpu; cuda", "threads": 1}
    assert [(s["commit"], s["answers"]) for s in results["sessions"]] == [("abc", 4), ("def+", 8)]
    assert as_csv(results).splitlines()[1].count("abc; def+") == 1
    # What was measured stays as it was, whoever summarises it again.
    assert asked(path, session("ghi", "2026-01-03 00:00")) == results


def test_a_run_that_goes_on_after_a_crash_is_one_run(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    asked(path, session(), most=4)
    with path.open("ab") as file:
        file.write(b'{"session":{"date":"2026-')  # cut off by the crash
    results = asked(path, session(date="2026-01-02 00:00"))
    assert results["sessions"] == [session(date="2026-01-02 00:00") | {"answers": 12}]
    assert (results["commit"], results["machine"]) == ("abc", MACHINE)


def test_an_old_journal_goes_on_and_says_what_it_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    asked(path, None, most=4)
    assert b"session" not in path.read_bytes()
    results = asked(path, session())
    assert (results["commit"], results["date"]) == ("unknown; abc", "2026-01-01 00:00")
    assert results["machine"]["title"] == f"unknown; {MACHINE['title']}"
    assert [s["answers"] for s in results["sessions"]] == [4, 8]


def test_only_answers_that_count_are_told_of(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    engine = right(6)
    with Journal(path, header(engine, "image"), session("old")) as journal:
        journal.add("similarity(scope=crop)|8|0|image-0-0", {"right": True})
    assert asked(path, session())["commit"] == "abc"


def test_the_command_says_so_when_it_goes_on_under_another_commit(
    tmp_path: Path, llava_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found.json"
    words = ["--methods", "uniform", "--questions", "3", "--device", "cpu", "--model", str(llava_folder)]
    for commit, budgets, note in (("abc", "6", False), ("abc", "6,3", False), ("def+", "6,3,2", True)):
        monkeypatch.setattr(provenance, "commit", lambda commit=commit: commit)
        assert main([*words, "--budgets", budgets, "--out", str(out)]) == 0
        told = capsys.readouterr().err
        assert ("(commit: other or not known)" in told) == note
    assert json.loads(out.read_text())["commit"] == "abc; def+"


def test_results_that_were_written_do_not_count_as_changed_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "assets" / "results").mkdir(parents=True)
    found, code = tmp_path / "assets" / "results" / "found.json", tmp_path / "assets" / "model.json"
    found.write_text("1")
    code.write_text("1")
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-q", "-m", "all")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    found.write_text("2")
    assert not provenance.commit().endswith(("+", "unknown"))
    code.write_text("2")
    assert provenance.commit().endswith("+")
