"""The README's front matter, which tells the hub how to run a Space, written from the Spacefile."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from script_core.spacefile.manifest import Manifest, Profile, SpacefileError

_BLOCK = re.compile(r"\A---\n(.*?)\n---\n", re.S)


def front_matter(manifest: Manifest, profile: Profile | None = None) -> str:
    """The YAML between the two lines of dashes. A profile adds the hardware that it suggests."""
    app = manifest.app
    entries: dict[str, Any] = {
        "title": app.title,
        "emoji": app.emoji,
        "colorFrom": app.color_from,
        "colorTo": app.color_to,
        "sdk": app.sdk,
        "sdk_version": app.gradio,
        "python_version": app.python,
        "app_file": app.entry,
        "short_description": app.short_description,
        "license": app.license,
        "tags": list(app.tags),
        "startup_duration_timeout": f"{manifest.health.start_timeout_s // 60}m",
    }
    if profile is not None and profile.hardware:
        entries["suggested_hardware"] = profile.hardware
    return "\n".join(f"{key}: {_scalar(value)}" for key, value in entries.items() if value != [])


def _scalar(value: Any) -> str:
    """YAML that is also what JSON would say, except that plain words need no quotes."""
    if isinstance(value, list):
        return "[" + ", ".join(_scalar(one) for one in value) + "]"
    plain = re.fullmatch(r"[A-Za-z][\w ./-]*", value) or not value.isascii() or value.count(".") == 2
    return value if plain and ": " not in value else json.dumps(value, ensure_ascii=False)


def read(readme: str) -> str:
    """The front matter of a README's text. Raises `SpacefileError` if it has none."""
    found = _BLOCK.match(readme)
    if not found:
        raise SpacefileError("README.md does not begin with front matter between two lines of three dashes.")
    return found[1]


def rendered(readme: str, manifest: Manifest, profile: Profile | None = None) -> str:
    """The README's text with its front matter written anew; one without gets it."""
    block = f"---\n{front_matter(manifest, profile)}\n---\n"
    return _BLOCK.sub(lambda _: block, readme, count=1) if _BLOCK.match(readme) else f"{block}\n{readme}"


def render(root: Path, manifest: Manifest) -> bool:
    """Write the README's front matter; True if that changed the file."""
    path = root / "README.md"
    before = path.read_text(encoding="utf-8")
    after = rendered(before, manifest)
    if after != before:
        path.write_text(after, encoding="utf-8")
    return after != before
