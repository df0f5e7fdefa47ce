"""Data flows one way: app -> ui -> engine -> {pruners, backends} -> maths -> tokens. Read off the imports."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MATHS = {"graph", "relevance", "dpp", "similarity"}
FILES = sorted([*ROOT.glob("script_core/**/*.py"), *ROOT.glob("ui/**/*.py"), ROOT / "app.py"])


def imported(path: Path) -> set[str]:
    """Every module a file imports anywhere, as dotted names; `from a import b` counts as a and a.b."""
    found: set[str] = set()
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def layer(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] != "script_core":
        return parts[0]
    return parts[1] if parts[1] in {"pruners", "backends", "kernels", "stickers"} else parts[-1]


FORBIDDEN = {
    "pruners": ["script_core.backends", "script_core.engine", "transformers", "script_core.stickers"],
    "backends": ["script_core.pruners", "script_core.engine"],
    "tokens": ["script_core"],
    **{name: ["script_core.pruners", "script_core.backends", "script_core.engine", "transformers"] for name in MATHS},
}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_never_turn_back(path: Path) -> None:
    names = imported(path)
    banned = list(FORBIDDEN.get(layer(path), []))
    if path.is_relative_to(ROOT / "script_core"):
        banned += ["gradio", "plotly", "ui", "app"]
    if path.is_relative_to(ROOT / "ui"):
        banned += ["app", "script_core.backends.llava", "script_core.backends.llava_next"]
    wrong = {name for name in names for ban in banned if within(name, ban)}
    assert not wrong, f"{path.relative_to(ROOT)} must not import {sorted(wrong)}"


def test_the_library_does_not_print() -> None:
    commands = {"__main__", "train", "benchmark", "bench", "spacefile", "evaluation"}
    for path in ROOT.glob("script_core/**/*.py"):
        if commands & set(path.relative_to(ROOT).with_suffix("").parts):
            continue
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        prints = [n for n in calls if isinstance(n.func, ast.Name) and n.func.id == "print"]
        assert not prints, f"{path.relative_to(ROOT)} prints; the library returns values or raises"
