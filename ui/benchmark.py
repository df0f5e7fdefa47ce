"""What the Benchmark tab shows: rows of results files and of a visitor's own check, filtered, drawn and as CSV."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from script_core.evaluation.results import FORMAT, as_csv
from ui.assets import ASSETS

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from script_core.evaluation.runner import Progress

log = logging.getLogger("script")

FOLDER = ASSETS / "results"
EVERYTHING = "all questions"
MINE = "this visit"
SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "star", "triangle-down")  # beside colour
MOST_QUESTIONS = 200  # of a check on the page
HEADS = (
    "Method", "Budget", "Accuracy %", "95 % low", "95 % high", "F1 %", "Ratio of means %", "Mean of ratios %",
    "Same as full %", "Average tokens", "GFLOPs (papers)", "KV MiB", "Select ms", "Prefill ms", "Questions", "Seeds",
    "Source", "Model", "Date", "Machine", "Commit",
)  # fmt: skip
TYPES = ["str", *["number"] * 15, *["str"] * 5]
TEST_HEADS = (
    "Better?",
    "Than",
    "Budget",
    "Difference (points)",
    "95 % low",
    "95 % high",
    "p (t)",
    "p (Wilcoxon)",
    "Scenes",
    "Source",
)
TEST_TYPES = ["str", "str", *["number"] * 7, "str"]
PAPER_HEADS = ("Table", "Model", "Method", "Budget", "Measure", "As printed", "Recomputed", "Mean of ratios", "Remark")
PAPER_TYPES = ["str", "str", "str", "number", "str", "number", "number", "number", "str"]

Results = Mapping[str, Any]


def shipped() -> list[Results]:
    """Every results file that came with the project, by name; one that cannot be read is left out and logged."""
    found = []
    for path in sorted(FOLDER.glob("*.json")) if FOLDER.is_dir() else []:
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            log.warning("%s cannot be read as results", path.name)
            continue
        if held.get("format") == FORMAT:
            found.append({**held, "source": f"measured: {path.stem}"})
    return found


def paper() -> Results:
    """What the paper prints, with remarks."""
    path = FOLDER / "paper.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"source": "", "rows": [], "notes": []}


def default_sources(held: Sequence[Results]) -> list[str]:
    """What is shown first: the visitor's own check, or else the results of most questions."""
    ranked = sorted(held, key=lambda results: (results["source"] == MINE, results["questions"]), reverse=True)
    return [results["source"] for results in ranked[:1]]


def methods(held: Sequence[Results]) -> list[str]:
    return list(dict.fromkeys(row["method"] for results in held for row in results["rows"]))


def budgets(held: Sequence[Results]) -> list[int]:
    """Budgets, largest first; the full model's is not one to choose."""
    return sorted({row["budget"] for r in held for row in r["rows"] if row["method"] != "full"}, reverse=True)


def suites(held: Sequence[Results]) -> list[str]:
    return [EVERYTHING, *dict.fromkeys(suite for results in held for suite in results["suites"])]


def chosen(
    held: Sequence[Results], sources: Sequence[str], names: Sequence[str], sizes: Sequence[int], suite: str
) -> list[tuple[Results, Mapping[str, Any]]]:
    """(results, row) of what the filters let through. The full model stays whatever the budgets."""
    wanted = {int(size) for size in sizes}
    return [
        (results, row)
        for results in held
        if results["source"] in sources
        for row in results["rows"]
        if row["method"] in names and (row["method"] == "full" or row["budget"] in wanted)
        if suite == EVERYTHING or suite in row["suites"]
    ]


def accuracy(row: Mapping[str, Any], suite: str) -> float:
    return row["accuracy"] if suite == EVERYTHING else row["suites"][suite]


def table(picked: Sequence[tuple[Results, Mapping[str, Any]]], suite: str) -> list[list[Any]]:
    """Rows for the page. Intervals and ratios are those of all questions and stay empty for one suite."""
    found = []
    for results, row in picked:
        whole = suite == EVERYTHING
        found.append([
            row["method"], row["budget"], _percent(accuracy(row, suite)),
            *(_percent(row[name]) if whole else None
              for name in ("accuracy_low", "accuracy_high", "f1", "ratio_of_means", "mean_of_ratios", "same_as_full")),
            round(row["average_tokens"], 1), round(row["paper_gflops"], 3), round(row["kv_mib"], 3),
            round(row["select_ms"], 1), round(row["prefill_ms"], 1),
            row["questions"] if whole else results["suites"][suite], row["seeds"], results["source"], results["model"],
            results["date"], results["machine"]["title"], results["commit"],
        ])  # fmt: skip
    return found


def tests(
    held: Sequence[Results], sources: Sequence[str], names: Sequence[str], sizes: Sequence[int]
) -> list[list[Any]]:
    wanted = {int(size) for size in sizes}
    return [
        [
            t["first"], t["second"], t["budget"], *(_percent(t[k]) for k in ("difference", "low", "high")),
            round(t["p_t"], 4), round(t["p_wilcoxon"], 4), t["scenes"], results["source"],
        ]
        for results in held
        if results["source"] in sources
        for t in results["tests"]
        if t["second"] in names and t["budget"] in wanted
    ]  # fmt: skip


def paper_rows() -> list[list[Any]]:
    keys = ("table", "model", "method", "budget", "measure", "printed", "recomputed", "mean_of_ratios", "flag")
    return [[row[key] for key in keys] for row in paper()["rows"]]


def curves(picked: Sequence[tuple[Results, Mapping[str, Any]]], suite: str, dark: bool) -> go.Figure:
    """Accuracy against budget, one line per method and source; bars are 95 % intervals. The full model is a level."""
    import plotly.graph_objects as go  # slow to import, and not needed to lay the page out

    from ui.analyse_charts import styled

    figure = go.Figure()
    lines: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for results, row in picked:
        lines.setdefault((results["source"], row["method"]), []).append(row)
    looks = {name: look(at) for at, name in enumerate(dict.fromkeys(m for _, m in lines if m != "full"))}
    several = len({source for source, _ in lines}) > 1
    for (source, name), rows in lines.items():
        rows = sorted(rows, key=lambda row: row["budget"])
        label = f"{name} ({source})" if several else name
        values = [100 * accuracy(row, suite) for row in rows]
        if name == "full":
            figure.add_hline(y=values[0], line_dash="dot", annotation_text=label, annotation_position="top left")
            continue
        bars = None
        if suite == EVERYTHING and all(row["accuracy_low"] is not None for row in rows):
            up = [100 * (row["accuracy_high"] - row["accuracy"]) for row in rows]
            down = [100 * (row["accuracy"] - row["accuracy_low"]) for row in rows]
            bars = {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1, "width": 3}
        x = [row["budget"] for row in rows]
        colour, symbol = looks[name]
        line = {"color": colour, "dash": "solid" if source.startswith("measured") else "dash"}
        marker = {"symbol": symbol, "size": 8}
        figure.add_trace(
            go.Scatter(x=x, y=values, name=label, mode="lines+markers", line=line, marker=marker, error_y=bars)
        )
    ticks = sorted({row["budget"] for _, row in picked if row["method"] != "full"})
    figure.update_xaxes(title="visual tokens kept", type="log", tickvals=ticks)
    figure.update_yaxes(title="right answers (%)")
    return styled(figure, dark, 380)


def look(at: int) -> tuple[str, str]:
    """(colour, mark) of a chart's line; different for 64 of them, and neighbours in colour never share a mark."""
    from ui.analyse_charts import SERIES

    again, place = divmod(at, len(SERIES))
    return SERIES[place], SYMBOLS[(place + 3 * again) % len(SYMBOLS)]


def reading(picked: Sequence[tuple[Results, Mapping[str, Any]]], suite: str) -> str:
    """Who is ahead at which budget, from the rows themselves."""
    best: dict[int, list[tuple[float, str]]] = {}
    for _, row in picked:
        if row["method"] != "full":
            best.setdefault(row["budget"], []).append((accuracy(row, suite), row["method"]))
    if not best:
        return ""
    parts = []
    for budget in sorted(best, reverse=True):
        ranked = sorted(best[budget], reverse=True)
        ahead = " and ".join(name for value, name in ranked if value == ranked[0][0])
        parts.append(f"{budget} tokens: {ahead} ({100 * ranked[0][0]:.1f} %)")
    return f"Highest accuracy, {suite}: " + "; ".join(parts) + ". Overlapping intervals are no difference."


def csv_of(picked: Sequence[tuple[Results, Mapping[str, Any]]]) -> str:
    """The filtered rows with everything that is known about them."""
    texts = []
    for results in {id(r): r for r, _ in picked}.values():
        rows = [row for other, row in picked if other is results]
        texts.append(as_csv(results, rows))
    return "\n".join(texts)


def _percent(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 2)


def bar(at: Progress | None, text: str = "") -> str:
    """Progress as markup that is read out politely."""
    share = 0.0 if at is None else 100 * at.answered / at.total
    if at is not None:
        left = "" if at.left is None else f", about {max(1, round(at.left))} s left"
        text = f"{at.answered:,} of {at.total:,} answers{left}"
    return (
        f'<div class="bench-bar" role="progressbar" aria-valuenow="{share:.0f}" aria-valuemin="0" aria-valuemax="100" '
        f'aria-label="Answers"><i style="width:{share:.1f}%"></i></div><p class="bench-progress">{escape(text)}</p>'
    )
