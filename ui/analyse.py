"""What happens on the Analyse tab: the Ask tab's picture, question and settings in, charts out one after another."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from script_core.analysis import estimation
from script_core.analysis.edits import Edited, inside
from script_core.analysis.plane import Plane, plane
from script_core.analysis.preferences import preferences
from script_core.analysis.sweep import sweep
from script_core.backends.base import CannotLoad
from script_core.engine import Engine, QuestionError
from script_core.fidelity import kl
from script_core.media import MediaError, read_image
from script_core.pruners.base import CannotPrune
from script_core.report import Encoded, Selected
from ui import analyse_answers as answers
from ui import analyse_figures as figures
from ui import cards
from ui.analyse_charts import Chart, Look, finished, reading
from ui.analyse_layout import PLACES
from ui.examples import examples
from ui.limits import read_either
from ui.runtime import Host, NotReady
from ui.state import NAMES, Settings, Unusable, check, pruner_of
from ui.trouble import GENERIC, GONE

log = logging.getLogger("script")
View = dict[str, Any]

MOST_TOKENS = 2000  # of one crop or frame; all pairs are compared


@dataclass(frozen=True, eq=False)
class Subject:
    """What is analysed."""

    engine: Engine
    encoded: Encoded
    settings: Settings
    pruner: Any
    selected: Selected
    plane: Plane
    picture: np.ndarray | None  # None where the first crop or frame does not show the whole picture

    @property
    def budget(self) -> int:
        return self.selected.budget


class AnalyseHandlers:
    """Stateless: whatever is analysed comes in as arguments; encodings are in the engine's own store."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._more = {read_image(e.path).key: (e.question, *e.more) for e in examples()}

    def fill(self, look: str, seen: str, model: str, path: str | None, *values: Any) -> Iterator[View]:
        """All charts; nothing if they show this already."""
        key = hashlib.sha256(repr((look, model, path, values)).encode()).hexdigest()
        if key == seen:
            yield {"about": {}}
            return
        yield {"seen": "", "about": cards.note("Computing ...", "info")}
        try:
            subject = self._subject(model, path, values)
        except Exception as problem:
            yield {"about": cards.note(sentence(problem))}
            return
        yield {"about": _about(subject)}
        for name, make in self._makers(subject):
            yield shown(name, make, look)
        yield {"seen": key}

    def over_examples(self, look: str, model: str, path: str | None, *values: Any) -> Iterator[View]:
        """Table 1 over all example pictures."""

        def make() -> Chart:
            settings = check(dict(zip(NAMES, values, strict=True)), question_needed=False)
            engine = self.host.engine(model, settings.newlines)
            planes = [plane(engine.encode(read_image(example.path)).tokens) for example in examples()]
            k = _redundant(planes[0], settings)
            return figures.estimates([estimation.table(p, k, settings.tau, settings.gamma) for p in planes], k)

        yield shown("redundancy", make, look)

    def edit(
        self, look: str, way: str, region: str, numbers: str, model: str, path: str | None, *values: Any
    ) -> Iterator[View]:
        """Force tokens in or out, and ask again."""
        yield {"edit_note": cards.note("Asking again ...", "info")}
        try:
            subject = self._subject(model, path, values)
            chosen = _chosen(subject, region, numbers)
            edited = Edited(subject.pruner, chosen, ()) if way == "in" else Edited(subject.pruner, (), chosen)
            made = self._edited(subject, edited, len(chosen), way)
            yield {"edit": finished(made, Look.of(look)), "edit_note": reading(made)}
        except Exception as problem:
            yield {"edit_note": cards.note(sentence(problem))}

    def _edited(self, subject: Subject, edited: Edited, count: int, way: str) -> Chart:
        engine, encoded, settings = subject.engine, subject.encoded, subject.settings
        engine.require(settings.question)
        asked = {"budget": subject.budget, "max_new_tokens": settings.answer_tokens}
        before = engine.ask(encoded, settings.question, pruner=subject.pruner, **asked)
        after = engine.ask(encoded, settings.question, pruner=edited, **asked)
        moved = kl(before.first_logits, after.first_logits)
        verb = "stays" if before.answer == after.answer else "becomes"
        said = (
            f"With {count} tokens forced {way} the answer \u201c{before.answer}\u201d {verb} "
            f"\u201c{after.answer}\u201d; the first token's distribution moves by {moved:.3g} nats (KL)."
        )
        return answers.edit(subject.plane, before.selection, after.selection, subject.picture, said)

    def _subject(self, model: str, path: str | None, values: tuple[Any, ...]) -> Subject:
        settings = check(dict(zip(NAMES, values, strict=True)))
        if not path:
            raise MediaError("Choose a picture on the Ask tab first.")
        engine = self.host.engine(model, settings.newlines)
        try:
            media = read_either(path, engine.info.frames)
        except FileNotFoundError as error:
            raise MediaError(GONE) from error
        encoded = engine.encode(media)
        pruner = pruner_of(settings, encoded.tokens.relevance_sign)
        budget = min(settings.budget, len(encoded.tokens))
        selected = engine.select(encoded, settings.question, pruner=pruner, budget=budget)
        first = plane(encoded.tokens)
        if len(first) > MOST_TOKENS:
            raise CannotPrune(
                f"This model's crops have {len(first):,} tokens; the charts compare all pairs of up to {MOST_TOKENS:,}."
            )
        whole = encoded.tokens.grid.blocks[0].box == (0.0, 0.0, 1.0, 1.0)
        return Subject(engine, encoded, settings, pruner, selected, first, media.frames[0] if whole else None)

    def _makers(self, s: Subject) -> Iterator[tuple[str, Callable[[], Chart]]]:
        kept = figures.inside(s.plane, s.selected.selection.kept.numpy())
        tau, gamma, k = s.settings.tau, s.settings.gamma, _redundant(s.plane, s.settings)
        title = s.pruner.title

        def over_budgets() -> Chart:
            length = min(s.settings.answer_tokens, 16)
            steps = list(sweep(s.engine, s.encoded, s.settings.question, s.pruner, max_new_tokens=length))
            return answers.budgets(steps, title)

        yield "stages", lambda: answers.stages(s.plane, s.selected.selection, s.picture, title)
        yield "questions", lambda: answers.questions(s.plane, self._selections(s), s.picture)
        yield "budgets", over_budgets
        yield (
            "preferences",
            lambda: figures.preference_maps(
                s.plane, preferences(s.encoded.tokens, s.selected.query, s.budget), s.budget
            ),
        )
        yield "locality", lambda: figures.near_and_far(s.plane)
        yield "entropy", lambda: figures.entropy_and_similarity(s.plane)
        yield "masks", lambda: figures.redundancy_masks(s.plane)
        yield "determinants", lambda: figures.determinants(s.plane, kept, title)
        yield "redundancy", lambda: figures.estimates([estimation.table(s.plane, k, tau, gamma)], k)

    def _selections(self, s: Subject) -> list[tuple[str, Any]]:
        """This question and up to two others that go with the picture."""
        offered = self._more.get(s.encoded.media.key, ("what is in the picture ?", "what is in the middle ?"))
        texts = [s.settings.question, *(text for text in offered if text != s.settings.question)][:3]
        return [(t, s.engine.select(s.encoded, t, pruner=s.pruner, budget=s.budget).selection) for t in texts]


def shown(name: str, make: Callable[[], Chart], look: str) -> View:
    """A chart and its line, or the reason in its place: one that fails leaves the others alone."""
    try:
        chart = make()
        return {name: finished(chart, Look.of(look)), f"{name}_note": reading(chart)}
    except Exception as problem:
        return {name: None, f"{name}_note": cards.note(sentence(problem))}


def sentence(problem: BaseException) -> str:
    """What to tell the reader. Messages that are not ours stay in the log."""
    if isinstance(problem, Unusable | MediaError | QuestionError | CannotPrune | CannotLoad | NotReady | ValueError):
        return str(problem)
    log.error("unexpected", exc_info=problem)
    return GENERIC


def _about(s: Subject) -> str:
    blocks = len(s.encoded.tokens.grid.blocks)
    where = "" if blocks == 1 else f" Charts show the first of its {blocks} crops or frames."
    text = (
        f"\u201c{s.settings.question}\u201d about the Ask tab's picture: {s.pruner.title} at {s.budget} of "
        f"{len(s.encoded.tokens):,} visual tokens, {s.engine.info.name}.{where}"
    )
    return f'<p class="analyse-about">{escape(text)}</p>'


def _redundant(one: Plane, settings: Settings) -> int:
    return max(1, round(settings.p * len(one)))


def _chosen(s: Subject, region: str, numbers: str) -> tuple[int, ...]:
    """Tokens of a region and of a list like "12, 40-48". Raises `CannotPrune` in a sentence."""
    found: list[int] = []
    if region in PLACES:
        first = set(s.plane.index.tolist())
        found += [token for token in inside(s.encoded.tokens, PLACES[region]) if token in first]
    for part in filter(None, (piece.strip() for piece in str(numbers or "").split(","))):
        match = re.fullmatch(r"(\d{1,6})(?:\s*-\s*(\d{1,6}))?", part)
        if not match or int(match[2] or match[1]) - int(match[1]) > MOST_TOKENS:
            raise CannotPrune(f"{part[:20]!r} is not a token number; write something like 12, 40-48.")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    if not found:
        raise CannotPrune("Choose a region or give token numbers first, such as 12, 40-48.")
    return tuple(dict.fromkeys(found))
