"""The Analyse tab: the paper's figures on the Ask tab's picture, filled when the tab is opened."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import gradio as gr

from ui.analyse_layout import CHARTS, NOWHERE, PLACES
from ui.context import Context
from ui.limits import LANE
from ui.state import NAMES
from ui.wiring import stream

if TYPE_CHECKING:
    from ui.analyse import AnalyseHandlers

TITLE = "Analyse"
# The look of the moment goes in as the first input.
_LOOK = """(look, ...rest) => [
  (document.body.classList.contains('dark') ? 'dark ' : '') + (window.innerWidth < 700 ? 'narrow' : ''), ...rest
]"""


def build(ctx: Context) -> dict[str, Any]:
    """Lay the tab out and return its parts by name."""
    parts: dict[str, Any] = {"look": gr.Textbox(visible=False), "seen": gr.State("")}
    with gr.Row(elem_classes=["analyse-head"]):
        parts["about"] = gr.HTML(
            '<p class="analyse-about">The charts appear when a picture has been analysed.</p>',
            elem_id="analyse-about",
            apply_default_css=False,
        )
    for start in range(0, len(CHARTS), 2):
        with gr.Row(elem_classes=["analyse-row"]):
            for name, heading, _ in CHARTS[start : start + 2]:
                with gr.Column(min_width=330):
                    parts |= _chart(name, heading)
            if start + 1 >= len(CHARTS):
                with gr.Column(min_width=330):
                    parts |= _edits()
    return parts


def _chart(name: str, heading: str) -> dict[str, Any]:
    gr.Markdown(f"### {heading}")
    plot = gr.Plot(show_label=False, elem_id=f"analyse-{name}", elem_classes=["chart"], buttons=[])
    note = gr.HTML("", elem_id=f"analyse-{name}-note", apply_default_css=False)
    parts = {name: plot, f"{name}_note": note}
    if name == "redundancy":
        parts["over"] = gr.Button("Over all example pictures", size="sm", elem_id="analyse-over")
    return parts


def _edits() -> dict[str, Any]:
    gr.Markdown("### What if? Force tokens in or out, and ask again")
    with gr.Row():
        way = gr.Radio(
            [("force in", "in"), ("force out", "out")], value="out", label="Edit", elem_id="analyse-way", min_width=150
        )
        region = gr.Dropdown(
            [NOWHERE, *PLACES], value="middle", label="Region", elem_id="analyse-region", min_width=120
        )
        numbers = gr.Textbox(label="Token numbers", placeholder="12, 40-48", elem_id="analyse-numbers", min_width=120)
    ask = gr.Button("Ask again", variant="primary", elem_id="analyse-ask")
    plot = gr.Plot(show_label=False, elem_id="analyse-edit", elem_classes=["chart"], buttons=[])
    note = gr.HTML("", elem_id="analyse-edit-note", apply_default_css=False)
    return {"way": way, "region": region, "numbers": numbers, "ask": ask, "edit": plot, "edit_note": note}


def bind(ctx: Context, parts: dict[str, Any]) -> None:
    """Fill when the tab is opened; nothing is computed twice for the same picture, question and settings."""

    @cache
    def handlers() -> AnalyseHandlers:
        from ui.analyse import AnalyseHandlers  # plotly and scipy, which the page need not wait for

        return AnalyseHandlers(ctx.host)

    ctx.on_ready(handlers)
    asked = ctx.parts["Ask"]
    values = [asked["model"], asked["media"], *(asked[name] for name in NAMES)]
    lane = {
        **LANE, "show_progress": "hidden", "api_visibility": "private",
        "js": _LOOK,
    }  # fmt: skip
    outputs = [part for name, part in parts.items() if name not in ("look", "way", "region", "numbers", "ask", "over")]
    fill = stream(lambda *given: handlers().fill(*given), parts)
    ctx.views[TITLE].select(fill, [parts["look"], parts["seen"], *values], outputs, trigger_mode="always_last", **lane)
    parts["over"].click(
        stream(lambda *given: handlers().over_examples(*given), parts), [parts["look"], *values], outputs, **lane
    )
    edits = [parts[name] for name in ("look", "way", "region", "numbers")]
    gr.on(
        [parts["ask"].click, parts["numbers"].submit],
        stream(lambda *given: handlers().edit(*given), parts), [*edits, *values], outputs, **lane,
    )  # fmt: skip
