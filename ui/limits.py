"""The Spacefile, read once for the page: what it limits, and how media are read within those limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from script_core.media import Media, read_image, read_media
from script_core.spacefile.manifest import load

MANIFEST = load()
LIMITS = MANIFEST.limits
# What asks the model waits in one line, whichever tab or program it comes from.
LANE: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": LIMITS.model_lanes}


def read_picture(source: str | Path | bytes) -> Media:
    """A picture within the limits. Raises `MediaError`."""
    return read_image(source, max_pixels=LIMITS.max_pixels)


def read_either(source: str | Path | bytes, frames: int) -> Media:
    """A picture, or up to `frames` frames of a video (0: pictures only), within the limits. Raises `MediaError`."""
    return read_media(
        source, min(frames, LIMITS.max_frames), max_pixels=LIMITS.max_pixels, max_seconds=LIMITS.max_video_s
    )
