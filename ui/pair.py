"""The two answers to one question, from the kept tokens and from all, as the value that the browser draws."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict
from typing import Any

from script_core.engine import Engine
from script_core.fidelity import kl
from script_core.media import Media
from script_core.report import Encoded, Finished, FirstToken, Result, Selected, Text
from ui import cards, shortage
from ui.state import Settings, pruner_of
from ui.tokengrid import drawn, title_of

View = dict[str, Any]


def both(engine: Engine, media: Media, settings: Settings, model: str, remarks: list[str]) -> Iterator[View]:
    """Ask twice, streamed: the canvas, the pruned answer, the full one, and how far apart they are."""
    pair = Pair(media, settings, remarks)
    started = time.perf_counter()
    yield {
        "answers": pair.value("running", "Encoding the picture ..."),
        "counters": cards.counters_html(None, None),
    }
    encoded = engine.encode(media)
    total = len(encoded.tokens)
    pruner = pruner_of(settings, encoded.tokens.relevance_sign)
    budget = min(settings.budget, total)
    pair.asked |= {"budget": total if settings.method == "full" else budget, "media": media.key[:16]}
    pair.titles(pruner.title, total if settings.method == "full" else budget, total)
    yield {"answers": pair.value("running", "Scoring tokens ..."), "budget": {"maximum": total, "value": budget}}
    kept = settings.but(budget=budget)
    ours = yield from _told(pair, "pruned", _events(engine, encoded, settings, pruner, budget), (pruner, kept, model))
    if ours is None:
        return
    if ours.declined:
        yield {"answers": pair.value("done", "From the page: the model was not asked, and no tokens were generated.")}
        return
    yield {
        "answers": pair.value("running", _SAYS["full"]),
        "counters": cards.counters_html(ours.counters, None, ran_on(engine)),
    }
    try:
        theirs = yield from _told(pair, "full", _events(engine, encoded, settings, "full", total))
    except Exception as problem:
        if not shortage.relieved(problem):
            raise
        pair.miss(total)
        yield {"answers": pair.value("done", "Answered from the kept tokens.")}
        return
    if theirs is None:
        return
    pair.compare(ours, theirs)
    spent = time.perf_counter() - started
    yield {
        "answers": pair.value("done", f"Both answered live in {spent:.1f} s"),
        "counters": cards.counters_html(ours.counters, theirs.counters, ran_on(engine)),
    }


_SAYS = {"pruned": "Answering from the kept tokens ...", "full": "Answering from all tokens ..."}


def _told(
    pair: Pair, name: str, events: Iterator[Any], canvas: tuple[Any, Settings, str] | None = None
) -> Generator[View, None, Result | None]:
    """One of the two answers, word by word; its selection goes onto the `canvas` (method, settings, model), if any."""
    for event in events:
        if isinstance(event, Finished):
            pair.finish(name, event.result)
            return event.result
        if not isinstance(event, Selected):
            pair.hear(name, event)
            yield {"answers": pair.value("running", _SAYS[name])}
        elif canvas:
            pruner, settings, model = canvas
            grid = drawn(event, pruner, asdict(settings), model, set_budget=True)
            yield {"grid": grid, "answers": pair.value("running", _SAYS[name])}
    return None


def _events(engine: Engine, encoded: Encoded, settings: Settings, pruner: Any, budget: int) -> Iterator[Any]:
    """The engine's events; leaving early (Stop, a closed page) ends the run at the next token."""
    stop = threading.Event()
    try:
        yield from engine.stream(
            encoded,
            settings.question,
            pruner=pruner,
            budget=budget,
            max_new_tokens=settings.answer_tokens,
            stop=stop,
        )
    finally:
        stop.set()


class Pair:
    """The two answers while they grow, and what is said about them."""

    def __init__(self, media: Media, settings: Settings, remarks: list[str]) -> None:
        self.asked: dict[str, Any] = {**asdict(settings), "media": media.key[:16], "title": title_of(settings.method)}
        self.parts: dict[str, dict[str, Any]] = {
            "pruned": {"title": title_of(settings.method), "text": "", "state": "waiting"},
            "full": {"title": "All tokens", "text": "", "state": "waiting"},
        }
        self.remarks = [*remarks, *media.notes]
        self.more: dict[str, Any] = {}

    def titles(self, method: str, budget: int, total: int) -> None:
        self.parts["pruned"]["title"] = f"{method}, {budget:,} tokens"
        self.parts["full"]["title"] = f"All {total:,} tokens"

    def hear(self, name: str, event: Any) -> None:
        if isinstance(event, FirstToken):
            self.parts[name] |= {"state": "streaming", "time": f"first token {cards.quantity(event.ttft_ms, 'ms')}"}
        elif isinstance(event, Text):
            self.parts[name] |= {"state": "streaming", "text": event.text}

    def finish(self, name: str, result: Result) -> None:
        if result.declined:
            self._decline(name, result)
            return
        text = result.answer or "(the model answered with nothing)"
        self.parts[name] |= {"state": "stopped" if result.stopped else "done", "text": text}
        if result.counters.generated >= self.asked["answer_tokens"] and not result.stopped:
            self._remark("An answer was cut at its length limit; raise it under Advanced.")
        if result.notice:
            self._remark(result.notice)
        for text in result.selection.notes:
            self._remark(text)

    def miss(self, total: int) -> None:
        """All tokens did not fit; the answer from the kept ones stands."""
        self.parts["full"] |= {"state": "failed", "text": ""}
        self._remark(f"There was not enough memory for all {total:,} tokens, so only the kept ones were answered from.")

    def _decline(self, name: str, result: Result) -> None:
        self.more = {"declined": True}
        self.parts[name] |= {"state": "done", "title": "Not asked", "text": result.answer}
        self.parts["full"] |= {"state": "done"}
        if result.notice:
            self._remark(result.notice.replace(result.answer, "").strip())

    def compare(self, ours: Result, theirs: Result) -> None:
        self.more = {"same": ours.answer == theirs.answer, "kl": kl(theirs.first_logits, ours.first_logits)}

    def _remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks.append(text)

    def value(self, state: str, status: str) -> View:
        parts = {name: dict(part) for name, part in self.parts.items()}
        return {
            "state": state,
            "status": status,
            **parts,
            "notices": self.remarks[:],
            "asked": dict(self.asked),
            **self.more,
        }


def ran_on(engine: Engine) -> str:
    """What the counters were measured on."""
    info = engine.info
    return f"{info.name} on {info.device}, {info.dtype}; greedy decoding; one run, nothing averaged."
