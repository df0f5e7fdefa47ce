"""What the documents tell people to type works when it is typed."""

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from script_core import PRUNERS, Engine
from script_core.pruners.base import Pruner

ROOT = Path(__file__).parent.parent


def test_the_contracts_pass_for_the_method_of_the_five_steps(tmp_path: Path) -> None:
    document = (ROOT / "docs" / "add-a-method.md").read_text()
    for name in ("script_core", "tests", "ui"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    pruners = tmp_path / "script_core" / "pruners"
    (pruners / "centre.py").write_text(example(document))
    registry = (pruners / "__init__.py").read_text()
    registry = registry.replace(
        "_METHODS = (", "from script_core.pruners.centre import Centre\n\n_METHODS = (\n    Centre,"
    )
    (pruners / "__init__.py").write_text(registry)
    contracts = re.search(r"`\.venv/bin/python (-m pytest [^`]+)`", document)
    assert contracts
    done = subprocess.run(
        [sys.executable, *contracts[1].split(), "-p", "no:cacheprovider"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 20


def example(document: str) -> str:
    block = re.search(r"( *)```python\n(.*?)\n *```", document, re.S)
    assert block
    return textwrap.dedent(block[2]) + "\n"


def test_the_five_steps_add_a_working_method(monkeypatch: pytest.MonkeyPatch) -> None:
    document = (ROOT / "docs" / "add-a-method.md").read_text()
    namespace: dict[str, object] = {"__name__": "centre"}
    exec(compile(example(document), "centre.py", "exec"), namespace)
    method = namespace["Centre"]
    assert isinstance(method, type) and isinstance(method(), Pruner)

    monkeypatch.setitem(PRUNERS, "centre", method)
    picture = np.full((336, 336, 3), 127, dtype=np.uint8)
    result = Engine.load().ask(picture, "is there a dog ?", pruner="centre", budget=4, max_new_tokens=2)
    # The four tokens around the middle of a 24 x 24 grid.
    assert result.selection.kept.tolist() == [11 * 24 + 11, 11 * 24 + 12, 12 * 24 + 11, 12 * 24 + 12]
