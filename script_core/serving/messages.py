"""What goes between a front end and a worker.

A request names its picture by content hash. The pixels go along only when a worker says that it does not have them, so
moving a slider sends a few hundred bytes whichever worker takes the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from torch import Tensor

from script_core.backends.base import ModelInfo
from script_core.media import Media
from script_core.report import Event, Finished, FirstToken, Text
from script_core.tokens import Query, Selection, VisualTokens


@dataclass(frozen=True, eq=False)
class Request:
    """One call: `method` of the engine that serves `model`, about the picture with this hash (`Media.key`).

    media: the pixels, only if a worker asked for them. notes: what this visitor is told about their file; another file
    may hold the same pixels. fresh: the front end has just had this picture encoded, so that
    the answer's report should not call it cached. arguments: what the engine's method is called with. run: names one
    attempt at a stream, so that it can be stopped.
    """

    model: str
    method: str
    key: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    media: Media | None = None
    notes: tuple[str, ...] = ()
    newlines: str = "drop"
    positions: str = "compact"
    fresh: bool = False
    run: str = ""


@dataclass(frozen=True)
class Missing:
    """The worker does not have the picture; the request should come again with its pixels."""

    key: str


@dataclass(frozen=True, eq=False)
class Refused:
    """The call failed in the worker, in a way that another worker would not change. `problem` is raised again."""

    problem: Exception


@dataclass(frozen=True, eq=False)
class Facts:
    """What a front end knows of a model: its `ModelInfo`, the language model's config, and which tokens end answers."""

    info: ModelInfo
    text_config: Any
    eos_ids: frozenset[int]


@dataclass(frozen=True, eq=False)
class SentTokens:
    """`report.Encoded` without the pixels, which the front end has."""

    key: str
    tokens: VisualTokens
    encode_ms: float
    cached: bool


@dataclass(frozen=True, eq=False)
class SentSelection:
    """`report.Selected` without the visual tokens, which the front end has."""

    selection: Selection
    select_ms: float
    query: Query
    method: str
    budget: int


Sent = SentSelection | FirstToken | Text | Finished  # what a stream is made of: `report.Event` without Encoded
Reply = Missing | Refused | Event | Any


def portable(value: Any) -> Any:
    """A copy whose tensors lie on the CPU, none dragging along a larger tensor that it is a part of.

    Visual tokens lose `encoder`: its projection is a piece of the model, and methods that need it run in the worker.
    """
    if isinstance(value, Tensor):
        held = value.detach().cpu()
        return held.clone() if held.untyped_storage().nbytes() > held.nbytes else held
    if isinstance(value, Mapping):
        return {name: portable(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(portable(one) for one in value)
    if is_dataclass(value) and not isinstance(value, type):
        if isinstance(value, VisualTokens):
            value = replace(value, encoder=None)
        return replace(value, **{one.name: portable(getattr(value, one.name)) for one in fields(value) if one.init})
    return value
