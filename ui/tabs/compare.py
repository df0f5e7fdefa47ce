"""The Compare tab: several methods on one picture, one question and one average budget, side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from script_core.media import read_image
from script_core.pruners import PRUNERS
from ui.assets import read
from ui.compare import CompareHandlers
from ui.compare_calculator import calculated, choices
from ui.compare_state import DEFAULTS
from ui.context import Context, Dial, Picture
from ui.examples import examples
from ui.limits import LANE
from ui.wiring import lasting, linked_stream, once, placed, stream

TITLE = "Compare"
_ON_LOAD = "window.ScriptCompare.mount(element, {props, trigger, watch}); /* triggers 'start' */"
_EXAMPLES_ON_LOAD = "window.ScriptExamples.mount(element, {props, trigger, watch}); /* triggers 'select' */"
INPUTS = ("model", "media", "question", "budget", "methods", "answer_tokens")


def build(ctx: Context) -> dict[str, Any]:
    """Lay the tab out and return its parts by name."""
    first = examples()[0]
    with gr.Row(elem_classes=["cmp-inputs"]):
        with gr.Column(min_width=250, scale=3):
            parts = _picture(first)
        with gr.Column(min_width=280, scale=4):
            parts |= _question(ctx, first)
        with gr.Column(min_width=280, scale=5):
            parts |= _methods()
    parts["note"] = gr.HTML("", elem_id="compare-note", apply_default_css=False)
    parts["grid"] = gr.HTML(
        html_template=read("html/compare.html").replace("<!-- token canvas -->", read("html/tokengrid.html")),
        js_on_load=_ON_LOAD,
        elem_id="compare-grid",
        apply_default_css=False,
        grid_id="compare",
        run_id="compare-run",
    )
    with gr.Accordion("Calculator: what a budget means for a method and a model", open=False, elem_id="compare-calc"):
        parts |= _calculator()
    return parts


def _picture(first: Any) -> dict[str, Any]:
    media = Picture(
        value=str(first.path),
        label="Picture",
        type="filepath",
        sources=["upload", "webcam", "clipboard"],
        height=180,
        elem_id="compare-media",
        alt_text="The picture to compare on",
        buttons=["fullscreen"],
    )
    items = [
        {
            "id": example.id,
            "question": example.question,
            "more": [],
            "alt": example.alt,
            "photo": not example.is_scene,
            "media": read_image(example.path).key[:16],
            "thumb": {"path": str(example.path), "meta": {"_type": "gradio.FileData"}},
        }
        for example in examples()
    ]
    strip = gr.HTML(
        value={"items": items},
        html_template=read("html/examples.html"),
        js_on_load=_EXAMPLES_ON_LOAD,
        elem_id="compare-examples",
        apply_default_css=False,
        grid_id="compare",
    )
    return {"media": media, "examples": strip}


def _question(ctx: Context, first: Any) -> dict[str, Any]:
    question = gr.Textbox(
        value=first.question, label="Question", placeholder="is there an apple ?", lines=1, max_lines=3,
        elem_id="compare-question", submit_btn=False,
    )  # fmt: skip
    budget = Dial(
        1, 576, value=DEFAULTS.budget, step=1, label="Budget", elem_id="compare-budget", buttons=[],
        info="average visual tokens per layer; papers use 192, 128, 64 of 576 and 640, 320, 160 of 2,880",
    )  # fmt: skip
    with gr.Row():
        model = gr.Dropdown(
            ctx.host.choices(), value=ctx.host.first, label="Model", elem_id="compare-model", filterable=False,
            min_width=180, scale=3,
        )  # fmt: skip
        answer_tokens = gr.Number(
            value=DEFAULTS.answer_tokens, label="Longest answer", elem_id="compare-answer-tokens", min_width=120,
            scale=1,
        )  # fmt: skip
    return {"question": question, "budget": budget, "model": model, "answer_tokens": answer_tokens}


def _methods() -> dict[str, Any]:
    methods = gr.CheckboxGroup(
        [(cls.title, name) for name, cls in PRUNERS.items()],
        value=list(DEFAULTS.methods),
        label="Methods, 2 to 8",
        elem_id="compare-methods",
    )
    with gr.Row(elem_classes=["cmp-buttons"]):
        run = gr.Button("Compare", variant="primary", elem_id="compare-run", min_width=90, scale=2)
        stop = gr.Button("Stop", elem_id="compare-stop", interactive=False, min_width=60, scale=1)
    preset = gr.Button("Compare the released code with the paper", elem_id="compare-preset", size="sm")
    return {"methods": methods, "run": run, "stop": stop, "preset": preset}


def _calculator() -> dict[str, Any]:
    with gr.Row():
        method = gr.Dropdown(
            [(cls.title, name) for name, cls in PRUNERS.items()], value="fastv", label="Method", filterable=False,
            elem_id="calc-method", min_width=160,
        )  # fmt: skip
        model = gr.Dropdown(
            choices(), value="llava-1.5-7b", label="Model", filterable=False, elem_id="calc-model", min_width=160
        )
        budget = gr.Number(value=DEFAULTS.budget, label="Average tokens", elem_id="calc-budget", min_width=120)
    result = gr.HTML("", elem_id="calc-result", apply_default_css=False)
    return {"calc_method": method, "calc_model": model, "calc_budget": budget, "calc_result": result}


def bind(ctx: Context, parts: dict[str, Any]) -> None:
    """Connect the parts. Everything is private."""
    handlers = CompareHandlers(ctx.host)
    values = [parts[name] for name in INPUTS]
    shown = [parts[name] for name in (*INPUTS, "note", "grid", "stop")]
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    lane = {**LANE, **quiet}
    free = {"concurrency_limit": None, **quiet}

    def picked(event: gr.SelectData, *given: Any) -> Iterator[dict[Any, Any]]:
        for view in lasting(handlers.picked(str(event.value), int(event.index), *given)):
            yield placed(view, parts)

    running = [
        gr.on(
            [parts["run"].click, parts["question"].submit],
            stream(handlers.run, parts), values, shown, trigger_mode="once", **lane,
        ),
        parts["preset"].click(stream(handlers.preset, parts), values, shown, trigger_mode="once", **lane),
        parts["examples"].select(picked, values, shown, trigger_mode="always_last", **lane),
        parts["grid"].start(
            linked_stream(handlers.started, parts), [parts["grid"], *values], shown, trigger_mode="once", **lane,
        ),
    ]  # fmt: skip
    # One after the other: a handler with `cancels` of its own would run first, and be undone by what still streams.
    halted = parts["stop"].click(None, None, None, cancels=running, **quiet)
    halted.then(once(handlers.stopped, parts), [parts["grid"]], [parts["grid"], parts["stop"]], **free)

    for name in ("model", "media"):
        parts[name].input(
            once(handlers.sized, parts), [parts[given] for given in ("model", "media", "budget")],
            [parts["budget"], parts["note"]], trigger_mode="always_last", **lane,
        )  # fmt: skip

    calculator = [parts[f"calc_{name}"] for name in ("method", "model", "budget")]
    for part in calculator:
        part.change(
            lambda *given: calculated(ctx.host, *given), calculator, parts["calc_result"],
            trigger_mode="always_last", **free,
        )  # fmt: skip
    ctx.demo.load(lambda *given: calculated(ctx.host, *given), calculator, parts["calc_result"], queue=False, **free)
