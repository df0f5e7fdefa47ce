"""The files around the code agree with each other: README, Spacefile, Dockerfile, requirements, Makefile."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from script_core.spacefile import checks
from script_core.spacefile.checks import instructions
from script_core.spacefile.manifest import load
from script_core.spacefile.publish import tracked
from tests.browser import free_port

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCKERFILE = instructions((ROOT / "Dockerfile").read_text())
REQUIREMENTS = ("requirements.txt", "requirements-dev.txt", "requirements-mcp.txt")


@pytest.mark.parametrize(
    "check", [one for one in checks.CHECKS if one is not checks.endpoints], ids=lambda c: c.__name__
)
def test_files_agree_with_the_spacefile(check: checks.Callable) -> None:
    assert check(ROOT, load()) == []


def test_every_requirement_gives_its_reason() -> None:
    for name in REQUIREMENTS:
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


def ignored(name: str) -> bool:
    """Whether .dockerignore keeps a path out of the image."""
    for pattern in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = pattern.strip().removeprefix("**/")
        if pattern and not pattern.startswith("#"):
            parts = [name, *name.split("/"), name.split("/")[0]]
            if any(fnmatch.fnmatch(part, pattern) for part in parts):
                return True
    return False


def test_image_holds_what_the_app_needs_and_no_tests() -> None:
    inside = [name for name in tracked(ROOT) if not ignored(name)]
    assert {"app.py", "Spacefile", "README.md", "requirements.txt", "requirements-mcp.txt"} <= set(inside)
    assert "assets/models/stickers/model.safetensors" in inside
    assert not [name for name in inside if name.startswith(("tests/", ".ci/", ".git/"))]


def test_dockerfile_installs_before_it_copies_the_sources() -> None:
    words = [(word, rest) for word, rest in DOCKERFILE if word in ("COPY", "RUN", "FROM")]
    order = [i for i, (word, rest) in enumerate(words) if word == "RUN" and "pip install" in rest]
    sources = next(i for i, (word, rest) in enumerate(words) if rest.endswith(" . ."))
    assert order and max(order) < sources
    for word, rest in DOCKERFILE:
        if "pip install" in rest:
            assert "--no-cache-dir" in rest and "--requirement requirements.txt" in rest
        assert word != "ADD" and "latest" not in rest and "sudo" not in rest


# Runs a program as in a container with a read-only root: opening for writing anywhere else fails as it would there.
READ_ONLY = """
import os, runpy, sys
allowed = tuple(os.path.realpath(path) for path in sys.argv[1].split(os.pathsep))
def watch(event, given):
    if event == "open" and isinstance(given[0], str) and isinstance(given[2], int):
        writes = given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        path = os.path.realpath(given[0])
        if writes and not path.startswith(allowed + ("/dev/", "/proc/")):
            raise OSError(30, "Read-only file system", given[0])
sys.addaudithook(watch)
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_containers_command_serves_from_a_read_only_root(tmp_path: Path) -> None:
    settings = dict(pair for word, rest in DOCKERFILE if word == "ENV" for pair in re.findall(r"(\w+)=(\S+)", rest))
    command = json.loads(next(rest for word, rest in reversed(DOCKERFILE) if word == "CMD"))
    assert command[0] == "python"
    health = json.loads(next(rest for word, rest in DOCKERFILE if word == "HEALTHCHECK").split("CMD", 1)[1])
    port = str(free_port())
    environment = {
        **{name: value for name, value in os.environ.items() if name in ("PATH", "LANG")},
        **{
            name: settings[name] for name in ("GRADIO_ANALYTICS_ENABLED", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")
        },
        "HOME": str(tmp_path / "home"),
        "HF_HOME": str(tmp_path / "hub"),
        "GRADIO_TEMP_DIR": str(tmp_path / "gradio"),
        "TMPDIR": str(tmp_path),
        "GRADIO_SERVER_PORT": port,
    }
    (tmp_path / "home").mkdir()
    log = tmp_path / "log"
    with open(log, "w") as out:
        server = subprocess.Popen(
            [sys.executable, "-c", READ_ONLY, str(tmp_path), *command[1:]],
            cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        check = [sys.executable, *health[1:-1], health[-1].replace("7860", port)]
        give_up = time.monotonic() + 240
        while subprocess.run(check, capture_output=True).returncode and time.monotonic() < give_up:
            assert server.poll() is None, log.read_text()
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                    assert json.load(answer)["status"] == "ready"
                    break
            except urllib.error.HTTPError as busy:
                assert busy.code == 503 and json.load(busy)["status"] == "loading", log.read_text()
            assert server.poll() is None and time.monotonic() < give_up, log.read_text()
    finally:
        server.terminate()
        server.wait(30)
    assert "Traceback" not in log.read_text() and port in log.read_text()
