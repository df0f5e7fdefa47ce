"""Rows, paired tests and provenance of one run, as plain JSON values; the same file fills the page's table.

Only questions that every cell has answered count, so that a run that was stopped compares like with like. A random
method's row is the mean over its seeds.
"""

from __future__ import annotations

import csv
import io
import json
import os
import statistics as plain
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from script_core.evaluation import statistics
from script_core.evaluation.journal import Journal
from script_core.evaluation.provenance import together
from script_core.evaluation.questions import Item, sheets
from script_core.evaluation.runner import Cell, Job

FORMAT = 1
COLUMNS = (
    "method", "title", "budget", "questions", "seeds", "accuracy", "accuracy_low", "accuracy_high", "f1",
    "mean_of_suites", "ratio_of_means", "mean_of_ratios", "same_as_full", "average_tokens", "paper_gflops", "gflops",
    "kv_mib", "select_ms", "prefill_ms", "answer_ms", "model", "set", "kind", "machine", "commit", "date",
)  # fmt: skip


@dataclass(frozen=True)
class _Group:
    """The seeds of one method at one budget, which make one row."""

    cells: tuple[Cell, ...]

    @property
    def title(self) -> str:
        cell = self.cells[0]
        return cell.method.text + (f" @ {cell.budget}" if cell.budget else "")


class _Answers:
    """The journal seen by group and question, for the questions that count."""

    def __init__(self, job: Job, journal: Journal) -> None:
        self._records = journal.records
        every = job.cells()
        self.impossible = {cell: journal.records[cell.key]["impossible"] for cell in every if cell.key in journal}
        possible = [cell for cell in every if cell not in self.impossible]
        asked = [item for sheet in sheets(job.kind, job.questions) for item in sheet.items]
        self.items = [i for i in asked if all(f"{cell.key}|{i.key}" in journal for cell in possible)]
        grouped: dict[tuple[str, int], list[Cell]] = defaultdict(list)
        for cell in possible:
            grouped[cell.method.key, cell.budget].append(cell)
        self.groups = [_Group(tuple(cells)) for cells in grouped.values()]

    def record(self, cell: Cell, item: Item) -> dict[str, Any]:
        return self._records[f"{cell.key}|{item.key}"]

    def keys(self) -> list[str]:
        """Of every record that the results come from."""
        possible = [cell for group in self.groups for cell in group.cells]
        asked = [f"{cell.key}|{item.key}" for cell in possible for item in self.items]
        return asked + [cell.key for cell in self.impossible]

    def right(self, group: _Group, item: Item) -> float:
        """Share of the seeds that answered right."""
        return plain.fmean(self.record(cell, item)["right"] for cell in group.cells)

    def by_scene(self, group: _Group) -> tuple[list[float], list[float]]:
        """Per scene the share of right answers, and the number of questions."""
        scenes: dict[int, list[float]] = defaultdict(list)
        for item in self.items:
            scenes[item.scene].append(self.right(group, item))
        return [plain.fmean(v) for v in scenes.values()], [float(len(v)) for v in scenes.values()]

    def by_suite(self, group: _Group) -> dict[str, float]:
        suites: dict[str, list[float]] = defaultdict(list)
        for item in self.items:
            suites[item.suite].append(self.right(group, item))
        return {suite: plain.fmean(values) for suite, values in sorted(suites.items())}


def summarise(job: Job, journal: Journal, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that a results file holds. Raises ValueError if no question has been answered by all yet.

    provenance: of the records that the journal did not hold already when it was opened.
    """
    answers = _Answers(job, journal)
    if not answers.items:
        raise ValueError("No question has been answered by every method yet, so there is nothing to summarise.")
    full = next(group for group in answers.groups if not group.cells[0].budget)
    rows = [_row(answers, group, full, job) for group in answers.groups]
    counts: dict[str, int] = defaultdict(int)
    for item in answers.items:
        counts[item.suite] += 1
    return {
        "format": FORMAT,
        **together(journal.origins.get(key, provenance) for key in answers.keys()),
        "questions": len(answers.items),
        "asked_for": job.questions,
        "scenes": len({item.scene for item in answers.items}),
        "suites": dict(sorted(counts.items())),
        **{key: journal.header[key] for key in ("set", "kind", "digest", "model", "weights", "dtype")},
        "rows": rows,
        "tests": _tests(answers, job),
        "impossible": [
            {"method": cell.method.text, "budget": cell.budget, "reason": reason}
            for cell, reason in answers.impossible.items()
            if cell.seed == 0
        ],
    }


def _row(answers: _Answers, group: _Group, full: _Group, job: Job) -> dict[str, Any]:
    method = group.cells[0].method
    suites, reference = answers.by_suite(group), answers.by_suite(full)
    scenes, weights = answers.by_scene(group)
    bounds = statistics.interval(scenes, weights)
    asked = [item for item in answers.items if item.yes_no]
    truths = [item.answer for item in asked]
    scores = [statistics.f1([answers.record(c, i)["answer"] for i in asked], truths) for c in group.cells]
    found = [(answers.record(cell, item), item) for cell in group.cells for item in answers.items]
    records = [record for record, _ in found]
    same = plain.fmean(r["answer"] == answers.record(full.cells[0], i)["answer"] for r, i in found)

    def mean(name: str, scale: float = 1.0) -> float:
        return plain.fmean(record[name] for record in records) / scale

    row = {
        "method": method.text,
        "title": method.pruner.title,
        "parameters": method.parameters,
        "budget": group.cells[0].budget or round(mean("kept")),
        "questions": len(answers.items),
        "seeds": len(group.cells),
        "accuracy": plain.fmean(answers.right(group, item) for item in answers.items),
        "accuracy_low": bounds.low,
        "accuracy_high": bounds.high,
        "f1": plain.fmean(s for s in scores if s is not None) if any(s is not None for s in scores) else None,
        "mean_of_suites": plain.fmean(suites.values()),
        "ratio_of_means": statistics.ratio_of_means(suites, reference),
        "mean_of_ratios": statistics.mean_of_ratios(suites, reference),
        "same_as_full": same,
        "suites": suites,
        "average_tokens": mean("tokens"),
        "paper_gflops": mean("paper_flops", 1e9),
        "gflops": mean("flops", 1e9),
        "kv_mib": mean("kv_bytes", 2**20),
        "select_ms": plain.median(r["select_ms"] for r in records),
        "prefill_ms": plain.median(r["prefill_ms"] for r in records),
        "answer_ms": plain.median(r["select_ms"] + r["prefill_ms"] + r["decode_ms"] for r in records),
    }
    return _rounded(row)


def _tests(answers: _Answers, job: Job) -> list[dict[str, Any]]:
    """The first method against every other at the same budget, one-sided."""
    first = next((m for m in job.methods if m.pruner.name != "full"), None)
    found = []
    for ours in answers.groups:
        if first is None or ours.cells[0].method.key != first.key:
            continue
        for theirs in answers.groups:
            cell = theirs.cells[0]
            if theirs is ours or cell.budget not in (0, ours.cells[0].budget):
                continue
            a, weights = answers.by_scene(ours)
            b, _ = answers.by_scene(theirs)
            outcome = statistics.paired(a, b, weights)
            found.append(
                {"first": first.text, "second": cell.method.text, "budget": ours.cells[0].budget}
                | _rounded(asdict(outcome))
            )
    return found


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    def short(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: short(v) for k, v in value.items()}
        if isinstance(value, float):
            return None if value != value else float(f"{value:.6g}")
        return value

    return {key: short(value) for key, value in values.items()}


def as_csv(results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]] | None = None) -> str:
    """The rows (or the given ones) with their provenance; the suites' accuracies follow as further columns."""
    rows = results["rows"] if rows is None else rows
    suites = sorted({suite for row in rows for suite in row["suites"]})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*COLUMNS, *suites])
    shared = {key: results[key] for key in ("model", "set", "kind", "commit", "date")}
    shared["machine"] = results["machine"]["title"]
    for row in rows:
        flat = {**shared, **row}
        writer.writerow([*(flat[name] for name in COLUMNS), *(row["suites"].get(suite) for suite in suites)])
    return out.getvalue()


def write(path: str | Path, text: str) -> None:
    """All of it or nothing: a reader never sees half a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


def write_json(path: str | Path, results: Mapping[str, Any]) -> None:
    write(path, json.dumps(results, indent=1, allow_nan=False) + "\n")
