"""The files around the code agree with each other: README, Spacefile, Dockerfile, requirements."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SPACEFILE = tomllib.loads((ROOT / "Spacefile").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def front_matter() -> dict[str, str]:
    block = re.match(r"---\n(.*?)\n---\n", README, re.S)
    assert block, "README.md must begin with the Space's front matter"
    return {key: value.strip().strip('"') for key, value in re.findall(r"^(\w+):(.*)$", block.group(1), re.M)}


def test_front_matter_repeats_the_spacefile() -> None:
    app, matter = SPACEFILE["app"], front_matter()
    expected = {
        "title": app["title"],
        "short_description": app["short_description"],
        "license": app["license"],
        "sdk": app["sdk"],
        "sdk_version": app["gradio"],
        "python_version": app["python"],
        "app_file": app["entry"],
    }
    assert {key: matter.get(key) for key in expected} == expected
    assert len(matter["short_description"]) <= 60  # the Hub refuses more


def test_dockerfile_repeats_the_spacefile() -> None:
    serve = SPACEFILE["serve"]
    assert f"FROM python:{SPACEFILE['app']['python']}-slim" in DOCKERFILE
    assert f"EXPOSE {serve['port']}" in DOCKERFILE
    assert f"--uid {serve['uid']}" in DOCKERFILE
    assert f"127.0.0.1:{serve['port']}{serve['health']}" in DOCKERFILE


def test_requirements_admit_the_declared_gradio() -> None:
    line = re.search(r"^gradio>=([\d.]+),<([\d.]+)", (ROOT / "requirements.txt").read_text(), re.M)
    assert line
    low, declared, high = (tuple(map(int, v.split("."))) for v in (line[1], SPACEFILE["app"]["gradio"], line[2]))
    assert low <= declared < high


def test_every_requirement_gives_its_reason() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text().splitlines():
            if line and not line.startswith(("#", "-r", " ")):
                assert "#" in line, f"{name}: say why {line.split()[0]} is needed"


def test_readme_gives_the_commands_and_a_real_picture() -> None:
    assert "make demo" in README and "make test" in README
    picture = re.search(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert picture and (ROOT / picture[1]).is_file()


def test_readme_library_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code = re.search(r"```python\n(.*?)```", README, re.S)
    assert code
    lines = [line for line in code[1].splitlines() if line.strip()]
    assert len(lines) <= 6
    monkeypatch.chdir(ROOT)
    exec(compile(code[1], "README.md", "exec"), {})
    assert "64 of 576" in capsys.readouterr().out
