"""The documents on calling and deploying: their code runs, and their tables name what there is."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from script_core.spacefile.__main__ import COMMANDS
from script_core.spacefile.manifest import load
from ui.examples import examples

ROOT = Path(__file__).parent.parent
API, DEPLOY = ((ROOT / "docs" / name).read_text() for name in ("api.md", "deploy.md"))
HERE = "http://127.0.0.1:7860"


def test_the_python_of_api_md_runs(
    served: SimpleNamespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = re.search(r"```python\n(.*?)```", API, re.S)
    assert code
    shutil.copy(examples()[0].path, tmp_path / "picture.png")
    monkeypatch.chdir(tmp_path)
    exec(compile(code[1].replace(HERE + "/", served.address), "api.md", "exec"), {})
    assert "64 of 576" in capsys.readouterr().out


def test_the_curl_of_api_md_runs(served: SimpleNamespace) -> None:
    code = next(block for block in re.findall(r"```bash\n(.*?)```", API, re.S) if "curl" in block)
    script = code.replace(HERE, served.address.rstrip("/"))
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=240)
    assert "event: complete" in done.stdout and '"kept"' in done.stdout, done.stdout[-500:] + done.stderr


def test_tables_name_what_there_is() -> None:
    manifest = load()
    assert set(re.findall(r"^\| `(\w+)` \|", API, re.M)) == set(manifest.api.endpoints)
    assert set(re.findall(r"^\| `(\w+)` \|", DEPLOY, re.M)) == set(manifest.profiles)
    assert set(re.findall(r"script_core\.spacefile (\w+)", DEPLOY)) == set(COMMANDS)
    assert manifest.api.mcp_path in API
    for path in (manifest.health.path, manifest.health.ready):
        assert path in API
