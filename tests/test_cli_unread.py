"""Commands whose reader has gone, as in `| head -1`: they end without a word, as other tools do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.tiny import picture

ROOT = Path(__file__).parents[1]


def unread(module: str, *words: str) -> tuple[int, str]:
    """Exit code and stderr of a command that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *words], stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
    finally:
        os.close(writer)
    return done.returncode, done.stderr


@pytest.mark.parametrize("words", [["models"], ["models", "--json"], ["methods"], ["budget"]])
def test_lists_end_quietly(words: list[str]) -> None:
    assert unread("script_core", *words) == (141, "")


def test_help_ends_quietly() -> None:
    code, told = unread("script_core", "--help")
    assert code in (0, 141) and told == ""  # argparse takes no notice where output is not buffered


def test_an_answer_ends_quietly(llava_folder: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(picture(90, 90)).save(photo)
    model = ("--model", str(llava_folder), "--device", "cpu", "--budget", "9", "--max-new-tokens", "2")
    assert unread("script_core", "ask", str(photo), "what is it?", *model) == (141, "")


def test_what_goes_wrong_is_still_told() -> None:
    code, told = unread("script_core", "dance")
    assert code == 2 and told.startswith("error: ")
