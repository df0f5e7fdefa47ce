"""Tables of measurements: Markdown to read, JSON to keep."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from script_core.bench.timing import Timing

Cell = str | int | float | Timing | None


@dataclass(frozen=True)
class Table:
    """name: key in the JSON. note: what the columns mean. rows: one dict per row, the same keys in the same order.

    A row's "remark", if it has one, is printed below the table, once however many rows share it.
    """

    name: str
    title: str
    note: str
    rows: tuple[dict[str, Cell], ...]

    def text(self) -> str:
        """Markdown that reads well as it is: numbers to the right, no column in which nothing was measured."""
        columns = [
            column
            for column in (self.rows[0] if self.rows else {})
            if column != "remark" and any(row[column] is not None for row in self.rows)
        ]
        cells = [columns, *([_text(row[column]) for column in columns] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [_line(row, widths) for row in cells]
        rule = "|".join(["", *("-" * (width + 1) + ":" for width in widths), ""])
        remarks = dict.fromkeys(str(row["remark"]) for row in self.rows if row.get("remark"))
        return "\n\n".join([f"### {self.title}", self.note, "\n".join([lines[0], rule, *lines[1:]]), *remarks, ""])


def _line(cells: list[str], widths: list[int]) -> str:
    return "| " + " | ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)) + " |"


def collect(
    name: str, title: str, note: str, rows: Iterable[dict[str, Cell]], show: Callable[[str], None] = lambda _: None
) -> Table:
    """A table from rows that are still being measured; `show` hears of each as it is done."""
    done = []
    for row in rows:
        done.append(row)
        show(f"  {name}: " + ", ".join(f"{key} {_text(value)}" for key, value in row.items()))
    return Table(name, title, note, tuple(done))


def write(path: Path, facts: dict[str, Any], command: str, tables: list[Table], left_out: list[str]) -> None:
    """Everything as JSON: `tables` by name, timings as {median, low, high, best, runs} in milliseconds."""
    found = {
        **facts,
        "command": command,
        "left_out": left_out,
        "tables": {
            table.name: {
                "title": table.title,
                "note": table.note,
                "rows": [{k: asdict(v) if isinstance(v, Timing) else v for k, v in row.items()} for row in table.rows],
            }
            for table in tables
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")


def _text(value: Cell) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
