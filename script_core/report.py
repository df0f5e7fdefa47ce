"""What an engine hands out while it answers: a short series of frozen events, and the finished result.

The order is Encoded, Selected, FirstToken, Text, Text, ..., Finished. Methods that drop tokens inside the language
model know their selection only after the prefill; for them Selected still comes before FirstToken.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from script_core.counters import Counters
from script_core.media import Media
from script_core.tokens import Query, Selection, VisualTokens


@dataclass(frozen=True, eq=False)
class Encoded:
    """A picture as visual tokens. `key` is its address in the engine's store; `encode_ms` is what encoding took when
    it was done, and `cached` says that this time it was only looked up."""

    key: str
    tokens: VisualTokens
    media: Media
    encode_ms: float
    cached: bool


@dataclass(frozen=True, eq=False)
class Selected:
    """Which visual tokens a method keeps for a question. `method` is its registry name."""

    selection: Selection
    select_ms: float
    encoded: Encoded
    query: Query
    method: str
    budget: int


@dataclass(frozen=True)
class FirstToken:
    """The prompt is in the cache and the first token is known; times as in `counters.Measured`."""

    token_id: int
    prefill_ms: float
    ttft_ms: float


@dataclass(frozen=True)
class Text:
    """The answer so far, after the token `token_id`; `count` tokens have been generated."""

    text: str
    token_id: int
    count: int


@dataclass(frozen=True, eq=False)
class Result:
    """A finished (or stopped) answer.

    first_logits (V,): float32 logits of the first generated position, on the CPU. notice: a sentence for the reader
    about the question or the picture, or None. stopped: the caller's stop event ended it. declined: the model was not
    asked, as it does not know a word of the question; `answer` is the sentence that says so, there are no tokens and no
    logits, and the counters of the language model are 0.
    """

    answer: str
    question: str
    method: str
    budget: int
    model: str
    selection: Selection
    counters: Counters
    token_ids: tuple[int, ...]
    first_logits: Tensor
    notice: str | None = None
    stopped: bool = False
    declined: bool = False


@dataclass(frozen=True, eq=False)
class Finished:
    """The last event."""

    result: Result


Event = Encoded | Selected | FirstToken | Text | Finished
