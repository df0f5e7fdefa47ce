"""The example pictures: what they are, and the command that draws the sticker scenes (`python -m ui.examples`)."""

from __future__ import annotations

import argparse
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from script_core.media import read_image
from ui.assets import ASSETS

FOLDER = ASSETS / "examples"


@dataclass(frozen=True)
class Example:
    """One example. `kind` is what its question is about, "photo" for a photograph; `more` are further questions."""

    id: str
    path: Path
    question: str
    kind: str
    alt: str
    more: tuple[str, ...] = ()

    @property
    def is_scene(self) -> bool:
        return self.kind != "photo"


@cache
def examples() -> tuple[Example, ...]:
    """All examples in the page's order: scenes first, then photographs."""
    listed = _listed()
    scenes = [
        Example(
            entry["id"],
            FOLDER / f"{entry['id']}.png",
            entry["question"],
            entry["kind"],
            "A sticker scene with " + ", ".join(dict.fromkeys(f"{s[1]} {s[0]}".strip() for s in entry["stickers"])),
            tuple(entry.get("more", ())),
        )
        for entry in listed["scene"]
    ]
    photos = [
        Example(entry["id"], FOLDER / f"{entry['id']}.jpg", entry["question"], "photo", entry["alt"])
        for entry in listed["photo"]
    ]
    return (*scenes, *photos)


def strip() -> dict[str, Any]:
    """All examples as the value of the page's strip; `media` begins a picture's content address."""
    items = [
        {
            "id": example.id,
            "question": example.question,
            "more": list(example.more),
            "alt": example.alt,
            "photo": not example.is_scene,
            "media": read_image(example.path).key[:16],
            "thumb": {"path": str(example.path), "meta": {"_type": "gradio.FileData"}},
        }
        for example in examples()
    ]
    return {"items": items}


def find(name: str) -> Example | None:
    """The example of that id, if there is one."""
    return next((example for example in examples() if example.id == name), None)


def _listed() -> dict[str, Any]:
    return tomllib.loads((FOLDER / "examples.toml").read_text(encoding="utf-8"))


def draw() -> list[Path]:
    """Render every scene into its PNG file; the same file comes out every time."""
    from script_core.stickers.scenes import Background, Scene, Sticker, render

    drawn = []
    for entry in _listed()["scene"]:
        look = {k: tuple(v) if isinstance(v, list) else v for k, v in entry["background"].items()}
        stickers = tuple(
            Sticker(name, colour or None, x, y, size, angle) for name, colour, x, y, size, angle in entry["stickers"]
        )
        pixels = render(Scene(stickers, Background(**look)), side=672).image
        path = FOLDER / f"{entry['id']}.png"
        # A palette keeps the file small; the stickers' few colours survive it unharmed.
        Image.fromarray(pixels).quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
        drawn.append(path)
    return drawn


if __name__ == "__main__":
    argparse.ArgumentParser(description=draw.__doc__).parse_args()
    for path in draw():
        print(path)
