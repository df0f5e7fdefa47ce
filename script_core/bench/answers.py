"""A whole model: encode, select, prefill and decode, for every method and budget, against the unpruned run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from script_core.bench.tables import Cell
from script_core.bench.timing import Effort, Timing, once
from script_core.counters import cache_bytes
from script_core.media import Media
from script_core.prefill import Decoding, clock
from script_core.pruners import PRUNERS
from script_core.pruners.base import CannotPrune
from script_core.step import WARM
from script_core.tokens import Query, VisualTokens

DECODED = 8  # tokens decoded after the first, whatever they say
DECODING = 3  # runs of a row that decode


@dataclass(frozen=True, eq=False)
class Asked:
    """A model, an encoded picture and a question, with what encoding took. base: the unpruned prefill."""

    backend: Any
    tokens: VisualTokens
    query: Query
    text: str
    encode: Timing
    base: Timing | None = None


@dataclass(frozen=True)
class Run:
    """Milliseconds of one question from encoded tokens on; decode is of one token, None where none were decoded.

    cache: bytes after the prefill. peak: bytes on a GPU on top of what was allocated before the prefill.
    """

    select: float
    prefill: float
    decode: float | None
    cache: int
    peak: int | None
    text: int


def answers(
    backend: Any, media: Media, question: str, budgets: tuple[int, ...], effort: Effort
) -> Iterator[dict[str, Cell]]:
    """One row for the unpruned run, then one per method and budget. `full / pruned` compares prefills."""
    device = torch.device(backend.info.device)
    encode = Timing.of([once(lambda: backend.encode(media), device) for _ in range(effort.least + 1)][1:])
    tokens, query = backend.encode(media), backend.query(question)
    asked = Asked(backend, tokens, query, question, encode)
    full = _row(asked, "full", len(tokens), effort)
    yield full
    base = full["prefill, ms"]
    if isinstance(base, Timing):
        asked = Asked(backend, tokens, query, question, encode, base)
    methods: dict[str, Any] = PRUNERS
    for name, method in methods.items():
        if name == "full" or method.needs - backend.info.offers:
            continue
        for budget in budgets:
            if budget < len(tokens):
                yield _row(asked, name, budget, effort)


def _row(asked: Asked, name: str, budget: int, effort: Effort) -> dict[str, Cell]:
    head: dict[str, Cell] = {"method": name, "kept": budget, "of": len(asked.tokens)}
    try:
        runs = [run(asked, PRUNERS[name](), budget, turn <= DECODING) for turn in range(effort.least + 1)][1:]
    except CannotPrune as reason:
        return {**head, **dict.fromkeys(_COLUMNS), "remark": str(reason)}
    prefill = Timing.of([one.prefill for one in runs])
    peak = runs[0].peak
    values: tuple[Cell, ...] = (
        runs[0].text,
        asked.encode,
        Timing.of([one.select for one in runs]),
        prefill,
        round(asked.base.median / prefill.median, 2) if asked.base else None,
        Timing.of([asked.encode.median + one.select + one.prefill for one in runs]),
        Timing.of([one.decode for one in runs if one.decode is not None]),
        round(runs[0].cache / 1e6, 3),
        None if peak is None else round(peak / 1e6),
        None,
    )
    return {**head, **dict(zip(_COLUMNS, values, strict=True))}


_COLUMNS = (
    "text",
    "encode, ms",
    "select, ms",
    "prefill, ms",
    "full / pruned",
    "first token, ms",
    "decode, ms/token",
    "KV cache, MB",
    "peak, MB",
    "remark",
)


def run(asked: Asked, method: Any, budget: int, decode: bool = True) -> Run:
    """One question, from encoded tokens to a few decoded ones. Raises `CannotPrune`.

    The encoding is a fresh one as far as selection can tell: what an earlier run derived from it is not there.
    """
    backend, tokens = asked.backend, replace(asked.tokens)
    device = torch.device(backend.info.device)
    started = clock(device)
    inside = method.acts == "inside"
    selection = None if inside else method.select(tokens, asked.query, budget)
    going = method.begin(tokens, asked.query, budget, backend.text_config.num_hidden_layers) if inside else None
    select = clock(device) - started
    prompt = backend.build(asked.text, tokens, selection, newlines="all" if budget == len(tokens) else "none")
    held: list[Decoding] = []
    before = _reset(device)
    prefill = once(lambda: held.append(Decoding(backend, prompt, going, room=WARM + 1 + DECODED)), device)
    decoding = held[0]
    peak = None if before is None else torch.cuda.max_memory_allocated(device) - before
    cache, cut = cache_bytes(decoding.cache), decoding.cut_ms
    return Run(
        select=select + cut,
        prefill=prefill - cut,
        decode=_decode(decoding, device) if decode else None,
        cache=cache,
        peak=peak,
        text=len(prompt) - int(prompt.visual.sum()),
    )


def _decode(decoding: Decoding, device: torch.device) -> float:
    """Milliseconds per token; on a GPU after the steps that come before a graph's replay."""
    token = int(decoding.logits.argmax())
    for _ in range(WARM + 1 if device.type == "cuda" else 0):
        decoding.push(token)
    return once(lambda: [decoding.push(token) for _ in range(DECODED)], device) / DECODED


def _reset(device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)
