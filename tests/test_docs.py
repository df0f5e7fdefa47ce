"""What the documents tell people to type works when it is typed."""

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest

from script_core import PRUNERS, Engine
from script_core.pruners.base import Pruner

ROOT = Path(__file__).parent.parent


def test_the_five_steps_add_a_working_method(monkeypatch: pytest.MonkeyPatch) -> None:
    document = (ROOT / "docs" / "add-a-method.md").read_text()
    block = re.search(r"( *)```python\n(.*?)\n *```", document, re.S)
    assert block
    namespace: dict[str, object] = {"__name__": "centre"}
    exec(compile(textwrap.dedent(block[2]), "centre.py", "exec"), namespace)
    method = namespace["Centre"]
    assert isinstance(method, type) and isinstance(method(), Pruner)

    monkeypatch.setitem(PRUNERS, "centre", method)
    picture = np.full((336, 336, 3), 127, dtype=np.uint8)
    result = Engine.load().ask(picture, "is there a dog ?", pruner="centre", budget=4, max_new_tokens=2)
    # The four tokens around the middle of a 24 x 24 grid.
    assert result.selection.kept.tolist() == [11 * 24 + 11, 11 * 24 + 12, 12 * 24 + 11, 12 * 24 + 12]
