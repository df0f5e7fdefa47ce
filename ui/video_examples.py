"""The example clips: what they are, and the command that renders them (`python -m ui.video_examples`)."""

from __future__ import annotations

import argparse
import os
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ui.assets import ASSETS

FOLDER = ASSETS / "examples" / "clips"
CODEC = "VP90"


@dataclass(frozen=True)
class ExampleClip:
    """One example. `kind` is what its question is about, `thumb` a picture of its end, `more` further questions."""

    id: str
    path: Path
    thumb: Path
    kind: str
    question: str
    alt: str
    more: tuple[str, ...] = ()


@cache
def clips() -> tuple[ExampleClip, ...]:
    """All example clips in the page's order."""
    return tuple(
        ExampleClip(
            entry["id"],
            FOLDER / f"{entry['id']}.webm",
            FOLDER / f"{entry['id']}.jpg",
            entry["kind"],
            entry["question"],
            entry["alt"],
            tuple(entry.get("more", ())),
        )
        for entry in _listed()["clip"]
    )


def find_clip(name: str) -> ExampleClip | None:
    """The example clip of that id, if there is one."""
    return next((clip for clip in clips() if clip.id == name), None)


def _listed() -> dict[str, Any]:
    return tomllib.loads((FOLDER / "clips.toml").read_text(encoding="utf-8"))


def draw() -> list[Path]:
    """Render every clip into its WebM file, and its last frame into a small JPEG."""
    from PIL import Image

    from script_core.stickers.canvas import Background, Scene, Sticker
    from script_core.stickers.clips import Event, animate
    from script_core.stickers.rendering import render

    listed = _listed()
    drawn = []
    for entry, clip in zip(listed["clip"], clips(), strict=True):
        look = {k: tuple(v) if isinstance(v, list) else v for k, v in entry["background"].items()}
        stickers = tuple(
            Sticker(name, colour or None, x, y, size, angle) for name, colour, x, y, size, angle in entry["stickers"]
        )
        events = tuple(Event(sticker, enters, (dx, dy)) for sticker, enters, dx, dy in entry["events"])
        moving = animate(Scene(stickers, Background(**look)), events, listed["frames"])
        frames = [render(scene, listed["side"]).image for scene in moving.frames]
        _write(clip.path, frames, listed["fps"])
        small = Image.fromarray(frames[-1]).resize((112, 112), Image.Resampling.LANCZOS)
        small.save(clip.thumb, quality=85)
        drawn += [clip.path, clip.thumb]
    return drawn


def _write(path: Path, frames: list[Any], fps: int) -> None:
    """A WebM file. Raises RuntimeError where OpenCV comes without an encoder for it."""
    import cv2

    height, width = frames[0].shape[:2]
    out = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*CODEC), fps, (width, height))
    if not out.isOpened():
        raise RuntimeError("OpenCV cannot write WebM here; use the opencv-python-headless wheel from PyPI.")
    for frame in frames:
        out.write(frame[..., ::-1].copy())
    out.release()


if __name__ == "__main__":
    argparse.ArgumentParser(description=draw.__doc__).parse_args()
    for path in draw():
        print(os.path.relpath(path, ASSETS.parent))
