"""The Benchmark tab: measured accuracy against budget, a check of one's own, and apart from both the paper's own."""

from __future__ import annotations

from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from ui import benchmark as tables
from ui.benchmark import MOST_QUESTIONS, bar
from ui.context import Context, Dial
from ui.wiring import once, stream

if TYPE_CHECKING:
    from ui.benchmark_check import BenchmarkHandlers

TITLE = "Benchmark"
_LOOK = "(dark, ...rest) => [document.body.classList.contains('dark'), ...rest]"


def build(ctx: Context) -> dict[str, Any]:
    """Lay the tab out and return its parts by name."""
    held = tables.shipped()
    parts: dict[str, Any] = {"dark": gr.Checkbox(visible=False), "visit": gr.State(None)}
    gr.HTML(
        '<p class="bench-about">Questions about sticker scenes that training never saw, with exact answers; existence '
        "questions use POPE's random, popular and adversarial negatives. Rows are measured, never typed in.</p>",
        apply_default_css=False,
    )
    with gr.Row():
        with gr.Column(min_width=300, scale=2):
            parts |= _filters(held)
        with gr.Column(min_width=330, scale=5):
            parts["curves"] = gr.Plot(show_label=False, elem_id="bench-curves", elem_classes=["chart"], buttons=[])
            parts["reading"] = gr.HTML("", elem_id="bench-reading", apply_default_css=False)
    parts["table"] = gr.Dataframe(
        [], headers=list(tables.HEADS), datatype=tables.TYPES, interactive=False, elem_id="bench-table", max_height=420,
        label="Measured here", show_search="none",
    )  # fmt: skip
    with gr.Accordion("Run a quick check here", open=not held, elem_id="bench-quick"):
        parts |= _quick()
    with gr.Accordion("Paired tests: is the first method better, scene by scene?", open=False, elem_id="bench-paired"):
        parts["tests"] = gr.Dataframe(
            [], headers=list(tables.TEST_HEADS), datatype=tables.TEST_TYPES, interactive=False, elem_id="bench-tests",
            max_height=320,
        )  # fmt: skip
    with gr.Accordion("As printed in the paper (not measured here)", open=False, elem_id="bench-paper"):
        _paper()
    return parts


def _filters(held: list[Any]) -> dict[str, Any]:
    first = tables.default_sources(held)
    some = [results for results in held if results["source"] in first]
    names, sizes = tables.methods(some), [str(size) for size in tables.budgets(some)]
    every = [results["source"] for results in held]
    return {
        "sources": gr.CheckboxGroup(every, value=first, label="Source", elem_id="bench-sources"),
        "names": gr.CheckboxGroup(names, value=names, label="Methods", elem_id="bench-names"),
        "sizes": gr.CheckboxGroup(sizes, value=sizes, label="Budgets", elem_id="bench-sizes"),
        "suite": gr.Dropdown(
            tables.suites(some), value=tables.EVERYTHING, label="Questions", elem_id="bench-suite", filterable=False
        ),
    }


def _quick() -> dict[str, Any]:
    with gr.Row():
        methods = gr.Textbox(
            value="script, cdpruner, divprune, random", label="Methods", elem_id="bench-methods", scale=3, max_lines=2,
            info="names, with parameters in brackets: script(p=0.3,tau=0.2,scope=global)",
        )  # fmt: skip
        budgets = gr.Textbox(
            value="64, 16", label="Budgets", elem_id="bench-budgets", info="visual tokens to keep", min_width=140
        )
        questions = Dial(
            1, MOST_QUESTIONS, value=24, step=1, label="Questions", info="held out", elem_id="bench-questions",
            min_width=200, buttons=[],
        )  # fmt: skip
    with gr.Row():
        run = gr.Button("Run, or go on", variant="primary", elem_id="bench-run", scale=2)
        stop = gr.Button("Stop", interactive=False, elem_id="bench-stop", scale=1)
    progress = gr.HTML(bar(None, "Not started."), elem_id="bench-progress", apply_default_css=False)
    return {"methods": methods, "budgets": budgets, "questions": questions, "run": run, "stop": stop, "bar": progress}


def _paper() -> None:
    held = tables.paper()
    gr.Dataframe(
        tables.paper_rows(), headers=list(tables.PAPER_HEADS), datatype=tables.PAPER_TYPES, interactive=False,
        elem_id="bench-paper-table", max_height=360,
    )  # fmt: skip
    notes = "".join(f"<li>{escape(note)}</li>" for note in held["notes"])
    gr.HTML(f'<ul class="bench-flags">{notes}</ul>', apply_default_css=False)


def bind(ctx: Context, parts: dict[str, Any]) -> None:
    """Filters answer at once; a check runs in a lane of its own, so that questions are still answered meanwhile."""

    @cache
    def handlers() -> BenchmarkHandlers:
        from ui.benchmark_check import BenchmarkHandlers  # plotly and scipy, which the page need not wait for

        return BenchmarkHandlers(ctx.host)

    ctx.on_ready(handlers)
    quiet = {"show_progress": "hidden", "api_visibility": "private", "js": _LOOK}
    free = {"concurrency_limit": None, **quiet}
    shown = [part for name, part in parts.items() if name not in ("dark", "methods", "budgets", "questions", "run")]
    filters = [parts[name] for name in ("sources", "names", "sizes", "suite")]

    gr.on(
        [ctx.views[TITLE].select, *(part.input for part in filters[1:])],
        once(lambda *given: handlers().filtered(*given), parts), [parts["dark"], parts["visit"], *filters],
        [parts[name] for name in ("table", "curves", "tests", "reading")], trigger_mode="always_last", **free,
    )  # fmt: skip

    parts["sources"].input(
        once(lambda *given: handlers().sourced(*given), parts),
        [parts["dark"], parts["visit"], parts["sources"]], shown, trigger_mode="always_last", **free,
    )  # fmt: skip

    asked = [parts[name] for name in ("dark", "visit", "methods", "budgets", "questions")]
    running = parts["run"].click(
        stream(lambda *given: handlers().check(*given), parts),
        asked,
        shown,
        concurrency_id="check",
        concurrency_limit=1,
        trigger_mode="once",
        **quiet,
    )
    # One after the other: a handler with `cancels` of its own would run first, and be undone by what still streams.
    halted = parts["stop"].click(None, None, None, cancels=[running], show_progress="hidden", api_visibility="private")
    halted.then(once(lambda *given: handlers().stopped(*given), parts), [parts["dark"], parts["visit"]], shown, **free)
