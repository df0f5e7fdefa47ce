"""Where this runs, and ZeroGPU: there a GPU is lent for the seconds of one call, elsewhere nothing changes.

`on_gpu` is the seam. On ZeroGPU it hands a function to the `spaces` package, which runs it in a process that has a GPU;
a short honest duration is asked for each call, as visitors' quotas are compared with it beforehand.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ui.runtime import Host
from ui.state import NAMES

Call = TypeVar("Call", bound=Callable[..., Any])

START_S = 8.0  # a process, and the model's way onto the GPU
FRAME_S = 0.6  # encoding one picture, crop or frame
TOKEN_S = 0.05  # one token of one answer; there are two answers


def profile_of(environment: Mapping[str, str]) -> str:
    """The Spacefile's profile for where this runs, when none was asked for."""
    if on_zero(environment):
        return "zerogpu"
    if not environment.get("SPACE_ID"):
        return "local"
    import torch

    return "cuda" if torch.cuda.is_available() else "preview"


def on_zero(environment: Mapping[str, str]) -> bool:
    """Whether the hub lends GPUs by the call."""
    return environment.get("SPACES_ZERO_GPU", "").lower() in ("1", "true")


def seconds(answer_tokens: Any, *, frames: int = 5, longest: int = 60) -> int:
    """What one question takes: a picture with its tiles encoded, and two answers of at most so many tokens."""
    try:
        length = min(max(1.0, float(answer_tokens)), 1024.0)
    except (TypeError, ValueError):
        length = 1.0  # it will be refused, which takes no time
    return min(longest, round(START_S + FRAME_S * frames + 2 * TOKEN_S * length))


def on_gpu(call: Call, environment: Mapping[str, str], duration: Callable[..., int]) -> Call:
    """`call` with a GPU on ZeroGPU, itself elsewhere. duration: seconds, from the same arguments as the call's.

    Raises RuntimeError where the hub says ZeroGPU and its package is missing: the Space would never get a GPU.
    """
    if not on_zero(environment):
        return call
    try:
        spaces: Any = importlib.import_module("spaces")
    except ImportError as error:
        raise RuntimeError("ZeroGPU needs the package `spaces`, which the hub installs; it is missing.") from error
    return spaces.GPU(duration=duration)(call)


def lent_question(ask: Call, host: Host, environment: Mapping[str, str]) -> Call:
    """The Ask tab's stream with one GPU call for the whole question: encoding, both answers and their difference."""

    def duration(model: str, path: str | None, *values: Any) -> int:
        return seconds(dict(zip(NAMES, values, strict=False)).get("answer_tokens"), longest=host.gpu_seconds or 60)

    return on_gpu(ask, environment, duration)
