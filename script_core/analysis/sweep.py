"""One question over budgets: how far the answer moves, what it costs, and the smallest budget that keeps it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from script_core.fidelity import agreement, kl, mean_kl
from script_core.pruners.base import CannotPrune

SHARES = (0.02, 0.03, 0.05, 0.08, 0.12, 0.18, 0.25, 0.35, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Step:
    """One budget. kl_first, kl_answer in nats, against the full prompt; agreement: share of the full answer's tokens
    that this prompt would also have chosen; same: the answers are the same text; ms: measured once, for selecting,
    prefilling and decoding the full answer's tokens (the same ones at every budget).
    """

    share: float
    budget: int
    answer: str
    same: bool
    kl_first: float
    kl_answer: float
    agreement: float
    ms: float


def budgets(total: int, shares: Sequence[float] = SHARES) -> list[int]:
    """Different budgets, ascending, at least 1."""
    return sorted({max(1, round(share * total)) for share in shares})


def sweep(
    engine: Any,
    media: Any,
    question: str,
    pruner: Any,
    *,
    shares: Sequence[float] = SHARES,
    max_new_tokens: int = 16,
    stop: threading.Event | None = None,
) -> Iterator[Step]:
    """Steps from the smallest budget to the largest, as they are computed. Budgets out of the method's reach are left
    out. Raises what `Engine.ask` raises."""
    encoded = engine.encode(media)
    total = len(encoded.tokens)
    full = engine.ask(encoded, question, pruner="full", budget=total, max_new_tokens=max_new_tokens)
    theirs = engine.forced_logits(encoded, question, full.token_ids, pruner="full", budget=total)
    for budget in budgets(total, shares):
        if stop is not None and stop.is_set():
            return
        try:
            started = time.perf_counter()
            ours = engine.forced_logits(encoded, question, full.token_ids, pruner=pruner, budget=budget)
            spent = (time.perf_counter() - started) * 1000
        except CannotPrune:
            continue
        agreed, answer = agreement(theirs, ours), full.answer
        if agreed < 1:  # else every greedy choice is the full answer's, and asking would only repeat it
            asked = {"pruner": pruner, "budget": budget, "max_new_tokens": max_new_tokens}
            answer = engine.ask(encoded, question, **asked).answer
        distances = kl(theirs[0], ours[0]), mean_kl(theirs, ours)
        yield Step(budget / total, budget, answer, answer == full.answer, *distances, agreed, spent)


@dataclass(frozen=True)
class Keeps:
    """Of the budgets tried: the smallest with the full model's answer, and the one from which on all have it."""

    smallest: int | None
    steady: int | None


def keeps(steps: Sequence[Step]) -> Keeps:
    """The two differ where the answer comes and goes."""
    ordered = sorted(steps, key=lambda step: step.budget)
    smallest = next((step.budget for step in ordered if step.same), None)
    steady = None
    for step in reversed(ordered):
        if not step.same:
            break
        steady = step.budget
    return Keeps(smallest, steady)
