"""A whole model: encode, select, prefill and decode, for every method and budget, against the unpruned run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from script_core.bench.tables import Cell
from script_core.bench.timing import Effort, Timing, once
from script_core.counters import cache_bytes
from script_core.prefill import Decoding, clock
from script_core.pruners import PRUNERS
from script_core.pruners.base import CannotPrune
from script_core.tokens import Query, VisualTokens

if TYPE_CHECKING:
    from script_core.engine import Engine

DECODED = 8  # tokens decoded after the first, whatever they say


def answers(
    engine: Engine, picture: Any, question: str, budgets: tuple[int, ...], effort: Effort
) -> Iterator[dict[str, Cell]]:
    """One row for the unpruned run, then one per method and budget. `plain / pruned` compares prefills."""
    backend, device = engine.backend, torch.device(engine.info.device)
    text = engine.understand(question).text
    media = engine.encode(picture).media
    encode = Timing.of([once(lambda: backend.encode(media), device) for _ in range(effort.least + 1)][1:])
    tokens, query = backend.encode(media), backend.query(text)
    full = _row(backend, tokens, query, text, "full", len(tokens), effort, encode, None)
    yield full
    base = full["prefill, ms"]
    methods: dict[str, Any] = PRUNERS
    for name, method in methods.items():
        if name == "full" or method.needs - engine.info.offers:
            continue
        for budget in budgets:
            if budget < len(tokens):
                yield _row(backend, tokens, query, text, name, budget, effort, encode, base)


def _row(
    backend: Any,
    tokens: VisualTokens,
    query: Query,
    text: str,
    name: str,
    budget: int,
    effort: Effort,
    encode: Timing,
    base: Cell,
) -> dict[str, Cell]:
    head: dict[str, Cell] = {"method": name, "kept": budget, "of": len(tokens)}
    try:
        runs = [run(backend, tokens, query, text, PRUNERS[name](), budget) for _ in range(effort.least + 1)][1:]
    except CannotPrune as reason:
        return {**head, **dict.fromkeys(_COLUMNS), "remark": str(reason)}
    select, prefill, decode = (Timing.of([one[part] for one in runs]) for part in ("select", "prefill", "decode"))
    first = Timing.of([encode.median + one["select"] + one["prefill"] for one in runs])
    ratio = round(base.median / prefill.median, 2) if isinstance(base, Timing) else None
    values = (encode, select, prefill, ratio, first, decode, round(runs[0]["cache"] / 1e6, 3), None)
    return {**head, **dict(zip(_COLUMNS, values, strict=True))}


_COLUMNS = (
    "encode, ms",
    "select, ms",
    "prefill, ms",
    "full / pruned",
    "first token, ms",
    "decode, ms/token",
    "KV cache, MB",
    "remark",
)


def run(backend: Any, tokens: VisualTokens, query: Query, text: str, method: Any, budget: int) -> dict[str, float]:
    """One question from encoded tokens on: milliseconds of select, prefill and of a decoded token; bytes of cache."""
    device = torch.device(backend.info.device)
    started = clock(device)
    inside = method.acts == "inside"
    selection = None if inside else method.select(tokens, query, budget)
    going = method.begin(tokens, query, budget, backend.text_config.num_hidden_layers) if inside else None
    chosen = clock(device)
    newlines = "all" if budget == len(tokens) else "none"
    prompt = backend.build(text, tokens, selection, newlines=newlines)
    built = clock(device)
    decoding = Decoding(backend, prompt, going)
    token = int(decoding.logits.argmax())
    filled = clock(device)
    held = cache_bytes(decoding.cache)
    for _ in range(DECODED):
        decoding.push(token)
    done = clock(device)
    return {
        "select": chosen - started + decoding.cut_ms,
        "prefill": filled - built - decoding.cut_ms,
        "decode": (done - filled) / DECODED,
        "cache": held,
    }
