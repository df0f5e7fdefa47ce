"""Where the page's own files lie."""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).resolve().parent.parent / "assets"
SCRIPTS = (
    "tokengrid-core.js", "tokengrid-paint.js", "tokengrid.js", "answers.js", "again.js", "examples.js", "composer.js",
    "compare-core.js", "compare-cell.js", "compare-export.js", "compare.js", "video-core.js", "video.js",
)  # fmt: skip


def read(name: str) -> str:
    """The text of a file under `assets/`."""
    return (ASSETS / name).read_text(encoding="utf-8")


def head() -> str:
    """All scripts, in order, for the page's head: the page needs no request of its own for them."""
    return "\n".join(f"<script>\n{read('js/' + name)}\n</script>" for name in SCRIPTS)
