"""The command line: what it prints, and one line with exit code 2 for whatever goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from script_core.__main__ import main
from tests.tiny import picture


@pytest.fixture
def photo(tmp_path: Path) -> str:
    path = tmp_path / "photo.png"
    Image.fromarray(picture(90, 90)).save(path)
    return str(path)


def test_ask_prints_the_answer_and_the_numbers(
    photo: str, llava_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["ask", photo, "what is it?", "--model", str(llava_folder), "--budget", "9", "--max-new-tokens", "3"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "9 of 36 visual tokens by script" in out and "measured:" in out and "computed:" in out


def test_ask_prints_json(photo: str, llava_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["ask", photo, "what is it?", "--model", str(llava_folder), "--budget", "9", "--max-new-tokens", "3"]
    assert main([*arguments, "--json", "--tau", "0.3", "--gamma", "2"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["total"] == 36 and len(told["kept"]) == 9 == told["counters"]["kept"]
    assert told["kept"] == sorted(set(told["kept"])) and len(told["token_ids"]) == 3
    assert isinstance(told["answer"], str) and told["counters"]["computed"]["flops"] > 0
    assert main([*arguments, "--json", "--method", "full"]) == 0
    assert len(json.loads(capsys.readouterr().out)["kept"]) == 36


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["ask", "none.png", "what?"], "no picture at"),
        (["ask", "PHOTO", ""], "Type a question"),
        (["ask", "PHOTO", "what?", "--method", "magic"], "no method 'magic'"),
        (["ask", "PHOTO", "what?", "--method", "random", "--tau", "0.5"], "no parameter tau"),
        (["ask", "PHOTO", "what?", "--tau", "7"], "tau"),
        (["ask", "PHOTO", "what?", "--gamma", "nan"], "gamma"),
        (["ask", "PHOTO", "what?", "--tau", "high"], "invalid float value"),
        (["ask", "PHOTO", "what?", "--budget", "0"], "budget"),
        (["ask", "PHOTO", "what?", "--budget", "many"], "invalid int value"),
        (["ask", "PHOTO", "what?", "--model", "/no/such/folder"], "no folder"),
        (["ask", "PHOTO", "what?", "--device", "abacus"], "not a device"),
        (["ask", "PHOTO", "what?", "--max-new-tokens", "0"], "1 to 1024 tokens"),
        (["ask"], "required"),
        (["dance"], "invalid choice"),
        ([], "required"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(
    arguments: list[str], words: str, photo: str, llava_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [photo if argument == "PHOTO" else argument for argument in arguments]
    if arguments[:1] == ["ask"] and "--model" not in arguments and len(arguments) > 1:
        arguments += ["--model", str(llava_folder)]
    try:
        code = main(arguments)
    except SystemExit as leaving:
        code = int(str(leaving.code))
    seen = capsys.readouterr()
    assert code == 2 and seen.out == ""
    assert seen.err.startswith("error: ") and words in seen.err and seen.err.count("\n") == 1


def test_models_and_methods_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    told = capsys.readouterr().out
    assert "llava-hf/llava-v1.6-vicuna-7b-hf" in told and "14.1 GB" in told and "stickers" in told
    assert main(["methods"]) == 0
    assert "script" in capsys.readouterr().out
    assert main(["methods", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["random"]["acts"] == "before"
    assert main(["models", "--json"]) == 0
    assert "stickers" in json.loads(capsys.readouterr().out)


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, script_core; heavy = {'torch', 'transformers', 'gradio', 'numpy'} & set(sys.modules);"
        "assert not heavy, heavy; from script_core import Engine, PRUNERS, Selection, VisualTokens, read_image;"
        "assert 'script' in PRUNERS and 'transformers' not in sys.modules and 'gradio' not in sys.modules;"
        "assert set(script_core.__all__) <= set(dir(script_core));"
        "[getattr(script_core, name) for name in script_core.__all__]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
