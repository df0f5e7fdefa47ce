"""Plotly figures for the Analyse tab: the look they share, and the value of a chart with its reading and its data."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from gradio.components.plot import PlotData
from PIL import Image
from plotly.subplots import make_subplots

from script_core.analysis.plane import Plane
from ui.analyse_layout import HEIGHTS, NARROW, NARROW_TABLES

# Told apart by people with any colour vision, on white and on slate.
BLUE, ORANGE, TEAL, PINK, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#808b99"
SERIES = (TEAL, BLUE, ORANGE, PINK, GREY, "#e69f00", "#56b4e9", "#8c6bb1")
PICTURE_SIDE = 256  # pixels of the picture laid under a chart


@dataclass(frozen=True)
class Chart:
    """figure: what is drawn. reading: one line on what it shows for this picture. columns, rows: its data."""

    name: str
    figure: go.Figure
    reading: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


@dataclass(frozen=True)
class Look:
    """The page at the moment of drawing, which the browser says as words: "dark", "narrow"."""

    dark: bool
    narrow: bool

    @classmethod
    def of(cls, words: str) -> Look:
        """Anything else that is said counts for nothing."""
        said = str(words or "").split()
        return cls("dark" in said, "narrow" in said)


def finished(chart: Chart, look: Look) -> PlotData:
    """The chart as the page takes it."""
    figure = styled(chart.figure, look.dark, HEIGHTS[chart.name])
    if look.narrow and chart.name in NARROW:
        figure = stacked(figure, *NARROW[chart.name])
    elif look.narrow and chart.name in NARROW_TABLES:
        figure.update_layout(height=NARROW_TABLES[chart.name], margin_l=0, margin_r=0)
    return drawn(figure)


def styled(figure: go.Figure, dark: bool, height: int = 300) -> go.Figure:
    """The page's look: no background of its own, readable text and thin lines in either theme."""
    text, line = ("#e2e8f0", "#334155") if dark else ("#1e293b", "#dbe2ea")
    figure.update_layout(
        template="plotly_dark" if dark else "plotly_white",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": text, "size": 12},
        height=height,
        margin={"l": 48, "r": 12, "t": 34, "b": 42},
        legend={"orientation": "h", "y": 1.12, "x": 0, "yanchor": "bottom", "font": {"size": 11}},
        hoverlabel={"font": {"size": 12}},
    )
    figure.update_xaxes(gridcolor=line, zerolinecolor=line)
    figure.update_yaxes(gridcolor=line, zerolinecolor=line)
    figure.update_annotations(font_size=12)
    return figure


def stacked(figure: go.Figure, columns: int, each: int) -> go.Figure:
    """The subplots of one row, and their titles, in rows of `columns`, each row `each` pixels high."""
    titles = figure.layout.annotations
    xs = list(figure.select_xaxes())[: len(titles)]
    ys = [axis for axis in figure.select_yaxes() if not axis.overlaying][: len(titles)]
    rows = -(-len(titles) // columns)
    inner = rows * each
    maps = xs[0].visible is False
    between = (26 if maps else 84) / inner  # room for a title, or for ticks and an axis' name, too
    if maps:
        figure.update_layout(margin={"l": 12, "b": 12})
    for number, (x, y, title) in enumerate(zip(xs, ys, titles, strict=True)):
        row, column = divmod(number, columns)
        left, top = column / columns, 1 - row / rows
        x.domain = (left, left + (1 - 0.04 * (columns > 1)) / columns)
        y.domain = (top - 1 / rows + between * (row + 1 < rows), top)
        title.update(x=sum(x.domain) / 2, y=top)
    margin = figure.layout.margin
    return figure.update_layout(height=inner + margin.t + margin.b)


def drawn(figure: go.Figure) -> PlotData:
    """The figure as the page takes it, without the tool bar that would cover it."""
    return PlotData(type="plotly", plot=figure.to_json()[:-1] + ',"config":{"displayModeBar":false}}')


def panels(titles: Sequence[str], columns: int | None = None) -> go.Figure:
    """Subplots for token grids, side by side or in rows of `columns`."""
    columns = columns or len(titles)
    rows = -(-len(titles) // columns)
    return make_subplots(
        rows, columns, subplot_titles=list(titles), horizontal_spacing=0.025, vertical_spacing=0.16 / rows + 0.02
    )


def place(number: int, columns: int) -> dict[str, int]:
    """Row and column of the `number`th panel."""
    return {"row": number // columns + 1, "col": number % columns + 1}


def grid_axes(figure: go.Figure, plane: Plane) -> None:
    """Square cells, row 0 at the top, no ticks."""
    figure.update_xaxes(visible=False, range=[-0.5, plane.cols - 0.5], constrain="domain")
    figure.update_yaxes(visible=False, range=[plane.rows - 0.5, -0.5], constrain="domain")
    for axis in figure.select_yaxes():
        axis.update(scaleanchor=axis.anchor, scaleratio=1)


def heat(
    plane: Plane, values: np.ndarray, scale: str = "Viridis", low: float = 0.0, high: float = 1.0, **more: Any
) -> Any:
    """A heatmap of one value per token."""
    told = "row %{y}, column %{x}: %{z:.3f}<extra></extra>"
    more = {"showscale": False, "hovertemplate": told, **more}
    return go.Heatmap(z=np.round(plane.image(values), 4), zmin=low, zmax=high, colorscale=scale, **more)


def dots(
    plane: Plane, tokens: Iterable[int], colour: str = "#ffffff", name: str = "kept", size: int = 5, **more: Any
) -> Any:
    """Markers on some of the plane's tokens, given by their place in the plane."""
    chosen = np.fromiter(tokens, dtype=int)
    marker = {"size": size, "color": colour, "line": {"width": 1, "color": "#000000"}, **more.pop("marker", {})}
    return go.Scatter(
        x=plane.col[chosen], y=plane.row[chosen], mode="markers", marker=marker, name=name, hoverinfo="skip", **more
    )


def under(figure: go.Figure, picture: np.ndarray, plane: Plane, count: int = 1) -> None:
    """Lay the picture under the first `count` panels."""
    image = Image.fromarray(picture)
    image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    held = io.BytesIO()
    image.convert("RGB").save(held, "JPEG", quality=80)
    source = "data:image/jpeg;base64," + base64.b64encode(held.getvalue()).decode()
    for number in range(1, count + 1):
        suffix = "" if number == 1 else str(number)
        figure.add_layout_image(
            source=source, xref=f"x{suffix}", yref=f"y{suffix}", x=-0.5, y=-0.5, sizex=plane.cols, sizey=plane.rows,
            sizing="stretch", layer="below",
        )  # fmt: skip


def inside(plane: Plane, tokens: np.ndarray) -> np.ndarray:
    """Places in the plane of those of the encoding's tokens that lie in it."""
    where = {int(token): at for at, token in enumerate(plane.index)}
    return np.array([where[int(token)] for token in tokens if int(token) in where], dtype=int)


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in rows])
    return out.getvalue()


def download(name: str, text: str, label: str = "Data (CSV)") -> str:
    """A link that holds its file: nothing is written on the server."""
    held = base64.b64encode(text.encode()).decode()
    return f'<a class="data-link" download="{escape(name)}.csv" href="data:text/csv;base64,{held}">{escape(label)}</a>'


def reading(chart: Chart) -> str:
    """The line under a chart."""
    link = download(f"script-{chart.name}", as_csv(chart.columns, chart.rows))
    return f'<p class="reading" data-chart="{chart.name}">{escape(chart.reading)} {link}</p>'
