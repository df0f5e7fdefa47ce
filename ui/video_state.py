"""What a person can set on the Video tab: checked once, written into a link, read back from one."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlencode

from script_core.pruners import PRUNERS
from ui.limits import LIMITS
from ui.state import CHECKS, Settings, from_link, usable

FRAMES = tuple(count for count in (8, 16, 32, 64) if count <= LIMITS.max_frames)
PREFIX = "v_"  # of the link's parameters, so that they are not taken for the Ask tab's


@dataclass(frozen=True)
class VideoSettings:
    """One question to one video. `each` counts tokens per frame; with `scope` "global" it is an average, and the
    question may spend more on some frames than on others. `frames` is how many are read."""

    question: str = ""
    method: str = "script"
    each: int = 32
    scope: str = "crop"
    frames: int = 8
    answer_tokens: int = 32

    def but(self, **changes: Any) -> VideoSettings:
        """The same settings with some replaced."""
        return replace(self, **changes)

    def over(self, places: int, total: int) -> Settings:
        """As settings of the whole input: `places` on the timeline, `total` tokens in all."""
        budget = total if self.method == "full" else min(self.each * places, total)
        return Settings(
            question=self.question,
            method=self.method,
            budget=budget,
            scope=self.scope,
            answer_tokens=self.answer_tokens,
        )


DEFAULTS = VideoSettings()
NAMES = tuple(field.name for field in fields(VideoSettings))


def _question(value: Any) -> str:
    if not str(value or "").strip():
        raise ValueError("Type a question about the video first.")
    return str(CHECKS["question"](value))


def _frames(value: Any) -> int:
    if str(value) not in map(str, FRAMES):
        raise ValueError(f"The number of frames must be one of {', '.join(map(str, FRAMES))}.")
    return int(value)


_CHECKS = {
    "question": _question,
    "method": CHECKS["method"],
    "each": CHECKS["budget"],
    "scope": CHECKS["scope"],
    "frames": _frames,
    "answer_tokens": CHECKS["answer_tokens"],
}


def check(values: Mapping[str, Any], *, question_needed: bool = True) -> VideoSettings:
    """Settings from raw values; see `state.usable`."""
    return usable(values, _CHECKS, DEFAULTS, question_needed)


def heeds_scope(method: str) -> bool:
    """Whether a method can be told where to share its budget out."""
    return "scope" in inspect.signature(PRUNERS[method]).parameters


def to_query(settings: VideoSettings, **more: str) -> str:
    """The query string of a link that restores these settings, and `more` (such as the example's name). An uploaded
    video cannot be in it."""
    held = {name: getattr(settings, name) for name in NAMES if getattr(settings, name) != getattr(DEFAULTS, name)}
    return urlencode({"tab": "video", **{PREFIX + name: value for name, value in {**more, **held}.items() if value}})


def is_link(query: Mapping[str, str]) -> bool:
    """Whether a page's address is meant for this tab."""
    return any(name.startswith(PREFIX) for name in query)


def from_query(query: Mapping[str, str]) -> tuple[VideoSettings, tuple[str, ...]]:
    """Settings from a link, and sentences about values that were ignored."""
    return from_link({name: query[PREFIX + name] for name in NAMES if PREFIX + name in query}, _CHECKS, DEFAULTS)
