"""The Benchmark tab's behaviour: filters, and a check that a visitor runs, stops, resumes and compares."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from script_core.evaluation.journal import Journal
from script_core.evaluation.methods import parse_list
from script_core.evaluation.provenance import describe
from script_core.evaluation.results import summarise
from script_core.evaluation.runner import Job, answers, header
from script_core.pruners.base import CannotPrune
from ui import benchmark as tables
from ui import cards
from ui.analyse import sentence
from ui.analyse_charts import download, drawn
from ui.benchmark import MOST_QUESTIONS, bar
from ui.runtime import Host

View = dict[str, Any]

MOST_ANSWERS = 3000
REDRAW = 0.25  # seconds between two drawings of the bar


@dataclass(eq=False)
class Visit:
    """One visitor's own answers so far, and what they were summarised to."""

    journal: Journal | None = None
    job: Job | None = None
    engine: Any = None
    results: Any = None

    def held(self) -> list[Any]:
        return [*tables.shipped(), *([self.results] if self.results else [])]


class BenchmarkHandlers:
    def __init__(self, host: Host) -> None:
        self.host = host

    def filtered(
        self,
        dark: bool,
        visit: Visit | None,
        sources: Sequence[str],
        names: Sequence[str],
        sizes: Sequence[Any],
        suite: str,
    ) -> View:
        """Table, chart and CSV of what the filters let through."""
        held = (visit or Visit()).held()
        suite = suite if suite in tables.suites(held) else tables.EVERYTHING
        picked = tables.chosen(held, sources or [], names or [], sizes or [], suite)
        if not picked:
            return {"table": [], "curves": None, "tests": [], "reading": cards.note(_nothing(held), "info")}
        link = download("script-benchmark", tables.csv_of(picked), "These rows (CSV)")
        return {
            "table": tables.table(picked, suite),
            "curves": drawn(tables.curves(picked, suite, dark)),
            "tests": tables.tests(held, sources, names, sizes),
            "reading": f'<p class="reading">{escape(tables.reading(picked, suite))} {link}</p>',
        }

    def sourced(self, dark: bool, visit: Visit | None, sources: Sequence[str] | None = None) -> View:
        """Other sources, or by default the one shown first: filters for what is in them, with nothing filtered out."""
        visit = visit or Visit()
        held = visit.held()
        sources = tables.default_sources(held) if sources is None else list(sources)
        some = [results for results in held if results["source"] in sources]
        names, sizes = tables.methods(some), [str(size) for size in tables.budgets(some)]
        return {
            "sources": {"choices": [results["source"] for results in held], "value": sources},
            "names": {"choices": names, "value": names},
            "sizes": {"choices": sizes, "value": sizes},
            "suite": {"choices": tables.suites(some), "value": tables.EVERYTHING},
            **self.filtered(dark, visit, sources, names, sizes, tables.EVERYTHING),
        }

    def check(self, dark: bool, visit: Visit | None, methods: str, budgets: str, questions: Any) -> Iterator[View]:
        """Run, or go on with, a visitor's own check."""
        visit = visit or Visit()
        try:
            job = _job(methods, budgets, questions)
            engine = self.host.engine()
            head = header(engine, job.kind)
            if visit.journal is None or visit.journal.header != head:
                visit.journal = Journal(None, head)
            visit.job, visit.engine = job, engine
            before = len(visit.journal.records)
            resumed = f" {before:,} answers from before are kept." if before else ""
            yield {"visit": visit, "bar": bar(None, f"Starting.{resumed}"), "stop": {"interactive": True}}
            last = 0.0
            for at in answers(engine, job, visit.journal):
                if time.monotonic() - last > REDRAW or at.answered == at.total:
                    last = time.monotonic()
                    yield {"bar": bar(at)}
            yield {**self._summarised(dark, visit), "stop": {"interactive": False}}
        except Exception as problem:
            yield {"bar": cards.note(sentence(problem)), "stop": {"interactive": False}}

    def stopped(self, dark: bool, visit: Visit | None) -> View:
        """Stop was pressed: what has been answered so far is shown, and Run goes on from there."""
        view: View = {"stop": {"interactive": False}}
        if visit is None or visit.journal is None:
            return {**view, "bar": cards.note("Nothing was running.", "info")}
        try:
            return {**self._summarised(dark, visit), **view}
        except ValueError as problem:
            return {**view, "bar": cards.note(f"Stopped. {problem}", "info")}

    def _summarised(self, dark: bool, visit: Visit) -> View:
        if visit.journal is None or visit.job is None:
            raise ValueError("Nothing has been answered yet.")
        results = summarise(visit.job, visit.journal, describe(visit.engine))
        visit.results = {**results, "source": tables.MINE}
        whole = results["questions"] == results["asked_for"]
        state = "Done" if whole else "Stopped; Run goes on from here"
        said = [
            f"{state}: {results['questions']} of {results['asked_for']} questions about {results['scenes']} scenes."
        ]
        said += [f"{x['method']} at {x['budget']} is not possible: {x['reason']}" for x in results["impossible"]]
        return {"visit": visit, "bar": cards.note(" ".join(said), "info"), **self.sourced(dark, visit)}


def _job(methods: str, budgets: str, questions: Any) -> Job:
    try:
        sizes = tuple(int(part) for part in str(budgets or "").split(",") if part.strip())
        count = int(questions)
    except (TypeError, ValueError) as error:
        raise CannotPrune("Budgets are whole numbers with commas between them, such as 64, 16.") from error
    if not 1 <= count <= MOST_QUESTIONS:
        raise CannotPrune(f"Ask 1 to {MOST_QUESTIONS} questions here; the command line takes more.")
    job = Job(parse_list(str(methods or "")[:1000]), sizes, count)
    total = count * len(job.cells())
    if total > MOST_ANSWERS:
        raise CannotPrune(
            f"That would be {total:,} answers; here at most {MOST_ANSWERS:,} are given, so take fewer methods, "
            "budgets or questions, or use the command line."
        )
    return job


def _nothing(held: Sequence[Any]) -> str:
    if held:
        return "No row passes these filters; choose at least one source, one method and one budget."
    return (
        "No measured results come with this version. Run a quick check below, or measure with: python -m "
        "script_core.evaluation --methods script,cdpruner,random --budgets 64,16 --questions 200 --out results.json"
    )
