"""Charts about one question: the stages of a selection, several questions, budgets, and an edited selection."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from script_core.analysis.plane import Plane
from script_core.analysis.preferences import overlap
from script_core.analysis.sweep import Step, keeps
from script_core.tokens import Selection
from ui.analyse_charts import BLUE, GREY, ORANGE, TEAL, Chart, dots, grid_axes, heat, inside, panels, under

STEPS = 48  # positions of the replay's slider


def stages(plane: Plane, selection: Selection, picture: np.ndarray | None, title: str) -> Chart:
    """Relevance, what the graph discarded, and the picks one by one on a slider."""
    kept = set(selection.kept.tolist())
    picks = inside(plane, np.array([t for t in selection.order.tolist() if t in kept], dtype=int))
    if not len(picks):
        picks = inside(plane, selection.kept.numpy())
    relevance = selection.scores.get("relevance")
    gone = (
        np.empty(0, dtype=int) if selection.allowed is None else np.nonzero(~selection.allowed.numpy()[plane.index])[0]
    )
    figure = panels([""])
    if picture is not None:
        under(figure, picture, plane)
    values = np.zeros(len(plane)) if relevance is None else relevance.numpy()[plane.index]
    figure.add_trace(heat(plane, values, opacity=0.0 if relevance is None else 0.65))
    figure.add_trace(
        dots(
            plane,
            gone,
            GREY,
            "discarded by the graph",
            6,
            marker={"symbol": "x-thin", "line": {"width": 2, "color": "#94a3b8"}},
        )
    )
    figure.add_trace(dots(plane, picks, "#ffffff", "picked", 8))
    stops = sorted(
        {0, len(picks), *np.linspace(1, len(picks), STEPS).round().astype(int).tolist()} if len(picks) else {0}
    )
    figure.update_layout(
        sliders=[
            {
                "active": len(stops) - 1,
                "currentvalue": {"prefix": "picks: ", "font": {"size": 12}},
                "pad": {"t": 4, "b": 0},
                "steps": [
                    {
                        "label": str(stop),
                        "method": "restyle",
                        "args": [
                            {"x": [plane.col[picks[:stop]].tolist()], "y": [plane.row[picks[:stop]].tolist()]},
                            [2],
                        ],
                    }
                    for stop in stops
                ],
            }
        ]
    )
    grid_axes(figure, plane)
    return Chart(
        "stages", figure, _stages_said(plane, selection, picks, gone, title), *_stages_data(plane, selection, picks)
    )


def _stages_said(plane: Plane, selection: Selection, picks: np.ndarray, gone: np.ndarray, title: str) -> str:
    said = f"{title} keeps {len(picks)} of {len(plane)} tokens here"
    if selection.allowed is not None:
        walked = [t for t in selection.order.tolist() if t in set(plane.index.tolist())]
        at = {t: i for i, t in enumerate(walked)}
        last = max((at[int(plane.index[p])] for p in picks if int(plane.index[p]) in at), default=-1)
        skipped = last + 1 - len(picks)
        said += f"; the graph discards {len(gone)}, and on its way the walk passes over {max(skipped, 0)} of those"
    relevance = selection.scores.get("relevance")
    if relevance is not None and len(picks):
        chosen = relevance.numpy()[plane.index]
        said += f". Mean relevance is {chosen[picks].mean():.2f} of the kept and {chosen.mean():.2f} of all"
    return said + "."


def _stages_data(
    plane: Plane, selection: Selection, picks: np.ndarray
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    number = {int(p): i + 1 for i, p in enumerate(picks)}
    names = tuple(selection.scores)
    allowed = selection.allowed
    rows = [
        (int(t), int(plane.row[at]), int(plane.col[at]), number.get(at, ""), "" if allowed is None else int(allowed[t]),
         *(float(selection.scores[name][t]) for name in names))
        for at, t in enumerate(plane.index)
    ]  # fmt: skip
    return ("token", "row", "column", "pick", "survived_graph", *names), rows


def plain(text: str) -> str:
    """What somebody typed, or a model answered, for a chart, where Plotly would read it as markup."""
    return escape(text, quote=False)


def questions(plane: Plane, found: Sequence[tuple[str, Selection]], picture: np.ndarray | None) -> Chart:
    """Figures 7 and 8: relevance and retained tokens of several questions about one picture."""
    figure = panels([plain(text if len(text) < 34 else text[:32] + "...") for text, _ in found])
    if picture is not None:
        under(figure, picture, plane, len(found))
    for number, (_, selection) in enumerate(found):
        relevance = selection.scores.get("relevance")
        values = np.zeros(len(plane)) if relevance is None else relevance.numpy()[plane.index]
        figure.add_trace(heat(plane, values, opacity=0.7), 1, number + 1)
        figure.add_trace(dots(plane, inside(plane, selection.kept.numpy()), showlegend=False, size=5), 1, number + 1)
    grid_axes(figure, plane)
    first = found[0][1].kept.numpy()
    shared = [f"{overlap(first, s.kept.numpy()):.2f} for \u201c{text}\u201d" for text, s in found[1:]]
    said = "Kept tokens shared with the first question, as intersection over union: " + ", ".join(shared) + "."
    columns = ("row", "column", *(f"{what}: {text}" for text, _ in found for what in ("relevance", "kept")))
    rows = []
    for at, token in enumerate(plane.index):
        row: list[Any] = [int(plane.row[at]), int(plane.col[at])]
        for _, selection in found:
            relevance = selection.scores.get("relevance")
            row += ["" if relevance is None else float(relevance[token]), int((selection.kept == int(token)).any())]
        rows.append(tuple(row))
    return Chart("questions", figure, said if shared else "One question so far.", columns, rows)


def budgets(steps: Sequence[Step], title: str) -> Chart:
    """KL divergence, agreement and prefill time over the budget."""
    figure = make_subplots(
        1,
        2,
        specs=[[{"secondary_y": True}, {}]],
        subplot_titles=("Distance to the full answer", "Time for the full answer's tokens"),
    )
    shares = [100 * step.share for step in steps]
    told = [f"{step.budget} tokens: {plain(step.answer)}" for step in steps]
    marks = {"color": [TEAL if step.same else ORANGE for step in steps], "size": 8}
    distance = {"text": told, "name": "KL (nats); orange: another answer", "line": {"color": TEAL}, "marker": marks}
    figure.add_trace(go.Scatter(x=shares, y=[s.kl_answer for s in steps], mode="lines+markers", **distance), 1, 1)
    figure.add_trace(go.Scatter(x=shares, y=[100 * s.agreement for s in steps], name="agreement (%)",
                                line={"color": BLUE, "dash": "dot"}), 1, 1, secondary_y=True)  # fmt: skip
    figure.add_trace(go.Scatter(x=shares, y=[s.ms for s in steps], name="measured once (ms)",
                                mode="lines+markers", line={"color": GREY}), 1, 2)  # fmt: skip
    figure.update_xaxes(title="budget (% of the tokens)", type="log", tickvals=[2, 5, 10, 25, 50, 100])
    figure.update_yaxes(title="nats", rangemode="tozero", row=1, col=1, secondary_y=False)
    figure.update_yaxes(range=[0, 104], row=1, col=1, secondary_y=True, showgrid=False)
    figure.update_yaxes(title="ms", rangemode="tozero", row=1, col=2)
    found, full = keeps(steps), steps[-1].answer
    if found.smallest is None:
        said = f"At no budget tried does {title} give the full answer, \u201c{full}\u201d."
    else:
        said = f"The smallest budget that keeps \u201c{full}\u201d is {found.smallest} tokens"
        said += (
            "."
            if found.steady == found.smallest
            else f"; from {found.steady} on it stays, between them it comes and goes."
        )
    names = ("share", "budget", "answer", "same", "kl_first", "kl_answer", "agreement", "ms")
    return Chart("budgets", figure, said, names, [tuple(getattr(step, name) for name in names) for step in steps])


def edit(plane: Plane, before: Selection, after: Selection, picture: np.ndarray | None, said: str) -> Chart:
    """What an edit did to the kept tokens."""
    old, new = set(before.kept.tolist()), set(after.kept.tolist())
    figure = panels([""])
    if picture is not None:
        under(figure, picture, plane)
    for name, tokens, colour in (
        ("still kept", old & new, TEAL),
        ("now kept", new - old, ORANGE),
        ("no longer", old - new, BLUE),
    ):
        figure.add_trace(dots(plane, inside(plane, np.array(sorted(tokens), dtype=int)), colour, name, 9))
    grid_axes(figure, plane)
    rows = [
        (int(t), int(plane.row[at]), int(plane.col[at]), int(int(t) in old), int(int(t) in new))
        for at, t in enumerate(plane.index)
    ]
    return Chart("edit", figure, said, ("token", "row", "column", "kept_before", "kept_after"), rows)
