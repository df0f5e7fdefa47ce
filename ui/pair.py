"""The two answers to one question, from the kept tokens and from all, as the value that the browser draws."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from script_core.engine import Engine
from script_core.fidelity import kl
from script_core.media import Media
from script_core.report import Encoded, Finished, FirstToken, Result, Selected, Text
from ui import cards, shortage
from ui.state import Settings, pruner_of
from ui.tokengrid import drawn, model_of, title_of

View = dict[str, Any]


@dataclass(frozen=True)
class Twice:
    """What is asked twice: of the same tokens, first with a method at `settings.budget`, then with all of them.

    says: what the page says meanwhile, by "pruned" and "full". canvas: what the pruned one's selection is drawn as.
    """

    engine: Engine
    encoded: Encoded
    settings: Settings
    pruner: Any
    says: Mapping[str, str]
    canvas: Callable[[Selected], View]

    @property
    def total(self) -> int:
        return len(self.encoded.tokens)

    def events(self, name: str) -> Iterator[Any]:
        """The engine's events; leaving early (Stop, a closed page) ends the run at the next token."""
        stop = threading.Event()
        pruned = name == "pruned"
        try:
            yield from self.engine.stream(
                self.encoded,
                self.settings.question,
                pruner=self.pruner if pruned else "full",
                budget=self.settings.budget if pruned else self.total,
                max_new_tokens=self.settings.answer_tokens,
                stop=stop,
            )
        finally:
            stop.set()


def both(engine: Engine, media: Media, settings: Settings, model: str, remarks: list[str]) -> Iterator[View]:
    """One question about a picture: the canvas, the pruned answer, the full one, and how far apart they are."""
    pair = Pair(media, settings, remarks)
    yield {
        "answers": pair.value("running", "Encoding the picture ..."),
        "counters": cards.counters_html(None, None),
    }
    encoded = engine.encode(media)
    total = len(encoded.tokens)
    pruner = pruner_of(settings, encoded.tokens.relevance_sign)
    kept = settings.but(budget=min(settings.budget, total))
    shown = total if settings.method == "full" else kept.budget
    pair.asked |= {"budget": shown, "model": model_of(encoded)}
    pair.titles(pruner.title, shown, total)
    yield {"answers": pair.value("running", "Scoring tokens ..."), "budget": {"maximum": total, "value": kept.budget}}
    canvas = lambda event: drawn(event, pruner, asdict(kept), model, set_budget=True)  # noqa: E731
    yield from answered(pair, Twice(engine, encoded, kept, pruner, _SAYS, canvas))


_SAYS = {"pruned": "Answering from the kept tokens ...", "full": "Answering from all tokens ..."}


def answered(pair: Pair, asked: Twice) -> Iterator[View]:
    """The two answers, streamed, and how far apart they are. If all tokens do not fit, the pruned answer stands."""
    ran = ran_on(asked.engine)
    ours = yield from _told(pair, "pruned", asked)
    if ours is None:
        return
    if ours.declined:
        yield {"answers": pair.value("done", "From the page: the model was not asked, and no tokens were generated.")}
        return
    counters = cards.counters_html(ours.counters, None, ran)
    yield {"answers": pair.value("running", asked.says["full"]), "counters": counters}
    try:
        theirs = yield from _told(pair, "full", asked)
    except Exception as problem:
        if not shortage.relieved(problem):
            raise
        pair.miss(asked.total)
        yield {"answers": pair.value("done", "Answered from the kept tokens.")}
        return
    if theirs is None:
        return
    pair.compare(ours, theirs)
    yield {
        "answers": pair.value("done", f"Both answered live in {pair.seconds:.1f} s"),
        "counters": cards.counters_html(ours.counters, theirs.counters, ran),
    }


def _told(pair: Pair, name: str, asked: Twice) -> Generator[View, None, Result | None]:
    """One of the two answers, word by word; the pruned one's selection goes onto the canvas."""
    says = asked.says[name]
    for event in asked.events(name):
        if isinstance(event, Finished):
            pair.finish(name, event.result)
            return event.result
        if not isinstance(event, Selected):
            pair.hear(name, event)
            yield {"answers": pair.value("running", says)}
        elif name == "pruned":
            yield {"grid": asked.canvas(event), "answers": pair.value("running", says)}
    return None


def ended(answers: Mapping[str, Any] | None) -> View:
    """Whatever ran was cancelled by what a visitor did; answers that had been finished stay as they are."""
    ran = (answers or {}).get("state") in ("waiting", "running")
    return stopped(answers) if ran else {"stop": {"interactive": False}}


def stopped(answers: Mapping[str, Any] | None) -> View:
    """Stop was pressed; what has been said so far stays."""
    value = dict(answers or {})
    for name in ("pruned", "full"):
        part = dict(value.get(name) or {})
        if part.get("state") in ("streaming", "waiting"):
            value[name] = {**part, "state": "stopped"}
    return {"stop": {"interactive": False}, "answers": {**value, "state": "stopped", "status": "Stopped."}}


class Pair:
    """The two answers while they grow, and what is said about them."""

    def __init__(self, media: Media, settings: Settings, remarks: list[str]) -> None:
        self._started = time.perf_counter()
        self.asked: dict[str, Any] = {**asdict(settings), "media": media.key[:16], "title": title_of(settings.method)}
        self.parts: dict[str, dict[str, Any]] = {
            "pruned": {"title": title_of(settings.method), "text": "", "state": "waiting"},
            "full": {"title": "All tokens", "text": "", "state": "waiting"},
        }
        self.remarks = [*remarks, *media.notes]
        self.more: dict[str, Any] = {}

    @property
    def seconds(self) -> float:
        """Since the question was asked."""
        return time.perf_counter() - self._started

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
