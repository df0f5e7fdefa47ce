"""The evaluation's command: what it refuses before a model is loaded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from script_core.engine import Engine
from script_core.evaluation.__main__ import main
from tests.test_cli_unread import unread

SMALL = ("--methods", "uniform", "--budgets", "6", "--questions", "3", "--device", "cpu")


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: object, **options: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(Engine, "load", load)


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("found.csv", "overwritten by the table"),
        ("found.CSV", "overwritten by the table"),
        ("folder", "is a folder"),
        ("table", "is a folder"),
        (".", "is a folder"),
        ("file/found.json", "cannot be written"),
        ("/proc/nope/found.json", "cannot be written"),
        ("held.json", "cannot be written"),
        (300 * "x", "cannot be written"),
    ],
)
def test_results_that_could_not_be_written_are_refused_before_a_model_is_loaded(
    out: str, words: str, unloaded: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("folder", "table.csv", "held.journal.jsonl"):
        (tmp_path / folder).mkdir()
    (tmp_path / "file").write_text("")
    before = sorted(os.listdir(tmp_path))
    assert main([*SMALL, "--out", str(tmp_path / out)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and words in told and told.endswith(".\n") and told.count("\n") == 1
    assert sorted(os.listdir(tmp_path)) == before


def test_a_place_that_is_not_there_yet_is_made(
    llava_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "place" / "found"
    assert main([*SMALL, "--out", str(out), "--model", str(llava_folder)]) == 0
    assert {path.name for path in out.parent.iterdir()} == {"found", "found.csv", "found.journal.jsonl"}


def test_a_table_that_nobody_reads_ends_quietly(llava_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    code, told = unread("script_core.evaluation", *SMALL, "--out", str(out), "--model", str(llava_folder))
    assert code == 141 and out.is_file() and "Traceback" not in told and "Exception" not in told
