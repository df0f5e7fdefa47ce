"""The Ask tab: a picture, a question, two answers, and the tokens behind them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from script_core.pruners import PRUNERS
from ui import cards, model_card, share
from ui.assets import read
from ui.context import Context, Dial, Picture
from ui.current import Current
from ui.examples import examples, strip
from ui.gpu import lent_question
from ui.handlers import LINKED_BY, AskHandlers
from ui.limits import LANE
from ui.pair import ended, stopped
from ui.state import ANSWER_LIMIT, DEFAULTS, NAMES
from ui.tabs import scenes
from ui.tokengrid import token_grid
from ui.wiring import linked, once, page_once, page_stream, picked, placed, stream

TITLE = "Ask"
STREAMED = ("grid", "answers", "counters", "budget", "media_note", "question_note", "settings_note", "stop")
_EXAMPLES_ON_LOAD = "window.ScriptExamples.mount(element, {props, trigger, watch}); /* triggers 'leave', 'select' */"
# Repaints when the budget is set by the page itself; a hand on the slider is followed without an event.
# When the page was opened by a link for this tab: as soon as there is a model and the tab has been built.
_PRESS = f"""() => {{
    const given = new URLSearchParams(location.search);
    if (!{json.dumps(LINKED_BY)}.some((name) => given.has(name))) return;
    const press = () => {{
        const button = document.querySelector('#ask-run');
        const loading = document.querySelector('#badge [data-state=loading]');
        if (button && !loading) button.click(); else setTimeout(press, 150);
    }};
    requestAnimationFrame(press);
}}"""
_FOLLOW = "(budget) => { const grid = window.ScriptGrid.get('ask-grid'); if (grid) grid.setBudget(budget); }"


def build(ctx: Context) -> dict[str, Any]:
    """Lay the tab out and return its parts by name."""
    first = examples()[0]
    handlers = ctx.shared[TITLE] = AskHandlers(ctx.host)
    parts: dict[str, Any] = {}
    stickers = handlers.scenes.offered()
    with gr.Row(elem_classes=["ask-columns"]):
        with gr.Column(elem_classes=["col-in"], min_width=280, scale=3):
            parts |= _inputs(first, stickers)
            parts |= _setup(ctx)
        with gr.Column(elem_classes=["col-grid"], min_width=300, scale=4):
            parts |= _canvas(handlers)
        with gr.Column(elem_classes=["col-out"], min_width=300, scale=4):
            parts |= _outputs()
            parts |= share.build()
    with gr.Row(elem_classes=["ask-more"]), gr.Column(min_width=280):
        parts |= scenes.panels(stickers)
        parts |= _advanced()
    parts |= {"badge": ctx.badge, "waiting": gr.Timer(0.4, active=False)}
    return parts


def _inputs(first: Any, stickers: bool) -> dict[str, Any]:
    media = Picture(
        value=str(first.path),
        label="Picture",
        type="filepath",
        sources=["upload", "webcam", "clipboard"],
        height=204,
        elem_id="ask-media",
        alt_text="The picture to ask about",
        buttons=["fullscreen"],
    )
    media_note = gr.HTML("", elem_id="ask-media-note", apply_default_css=False)
    shown = gr.HTML(
        value=strip(),
        html_template=read("html/examples.html"),
        js_on_load=_EXAMPLES_ON_LOAD,
        elem_id="ask-examples",
        apply_default_css=False,
        grid_id="ask-grid",
    )
    others = scenes.buttons(stickers)
    question = gr.Textbox(
        value=first.question,
        label="Question",
        placeholder="is there an apple ?",
        lines=1,
        max_lines=3,
        elem_id="ask-question",
        submit_btn=False,
    )
    question_note = gr.HTML("", elem_id="ask-question-note", apply_default_css=False)
    with gr.Row(elem_classes=["ask-buttons"]):
        ask = gr.Button("Ask", variant="primary", elem_id="ask-run", min_width=80, scale=3)
        stop = gr.Button("Stop", elem_id="ask-stop", interactive=False, min_width=60, scale=1)
    return {
        "media": media, "media_note": media_note, "examples": shown, "question": question,
        "question_note": question_note, "ask": ask, "stop": stop, **others,
    }  # fmt: skip


def _canvas(handlers: AskHandlers) -> dict[str, Any]:
    dials = {"tau": "ask-tau", "gamma": "ask-gamma", "p": "ask-p"}
    grid = token_grid("ask-grid", budget_id="ask-budget", dials=dials, redraw=_redraw(handlers))
    budget = Dial(
        1, 576, value=DEFAULTS.budget, step=1, label="Budget", info="visual tokens that stay", elem_id="ask-budget",
        elem_classes=["ask-dial"],
        buttons=[],
    )  # fmt: skip
    with gr.Row(elem_classes=["ask-dials"]):
        tau = Dial(
            0, 1, value=DEFAULTS.tau, step=0.01, label="tau", info="look-alike cosine",
            elem_classes=["ask-dial"], elem_id="ask-tau", min_width=140, buttons=[],
        )  # fmt: skip
        gamma = Dial(
            0, 10, value=DEFAULTS.gamma, step=0.1, label="gamma", info="closeness",
            elem_classes=["ask-dial"], elem_id="ask-gamma", min_width=140, buttons=[],
        )  # fmt: skip
    settings_note = gr.HTML("", elem_id="ask-settings-note", apply_default_css=False)
    return {"grid": grid, "budget": budget, "tau": tau, "gamma": gamma, "settings_note": settings_note}


def _outputs() -> dict[str, Any]:
    answers = cards.answers("ask-answers", grid_id="ask-grid", question_id="ask-question", ask_id="ask-run")
    counters = gr.HTML(cards.counters_html(None, None), elem_id="ask-counters", apply_default_css=False)
    return {"answers": answers, "counters": counters}


def _setup(ctx: Context) -> dict[str, Any]:
    with gr.Column(elem_classes=["ask-setup"]):
        method = gr.Dropdown(
            [(cls.title, name) for name, cls in PRUNERS.items()], value=DEFAULTS.method, label="Method",
            elem_id="ask-method", filterable=False, elem_classes=["ask-choice"],
        )  # fmt: skip
        model = gr.Dropdown(
            ctx.host.choices(), value=ctx.host.first, label="Model", elem_id="ask-model", filterable=False,
            elem_classes=["ask-choice"],
        )  # fmt: skip
        card = model_card.build("ask")
        quick = gr.Button("Load a model for photos", visible=False, size="sm", elem_id="ask-quick")
    return {"method": method, "model": model, "quick": quick, **card}


def _advanced() -> dict[str, Any]:
    with gr.Accordion("Advanced", open=False, elem_id="ask-advanced"), gr.Row():
        with gr.Column(min_width=260):
            p = Dial(
                0, 1, value=DEFAULTS.p, step=0.01, label="p", info="share of tokens that the graph drops",
                elem_id="ask-p", elem_classes=["ask-dial"], buttons=[],
            )  # fmt: skip
            answer_tokens = Dial(
                1, ANSWER_LIMIT, value=DEFAULTS.answer_tokens, step=1, label="Longest answer", info="tokens",
                elem_id="ask-answer-tokens", elem_classes=["ask-dial"], buttons=[],
            )  # fmt: skip
        with gr.Column(min_width=260):
            scope = gr.Radio(
                [("each crop by itself", "crop"), ("all crops together", "global")], value=DEFAULTS.scope,
                label="Scope", elem_id="ask-scope", info="Where the budget is shared out.",
            )  # fmt: skip
        with gr.Column(min_width=260):
            newlines = gr.Radio(
                [("drop them all", "drop"), ("keep where a row keeps a token", "row")], value=DEFAULTS.newlines,
                label="Row separators", elem_id="ask-newlines", info="LLaVA-NeXT marks the end of each row of tiles.",
            )  # fmt: skip
        with gr.Column(min_width=260):
            flip = gr.Checkbox(
                value=DEFAULTS.flip, label="Flip the relevance sign", elem_id="ask-flip",
                info="CLIP's patches are anti-correlated with text, so each model has its own sign.",
            )  # fmt: skip
    return {"p": p, "scope": scope, "flip": flip, "newlines": newlines, "answer_tokens": answer_tokens}


def bind(ctx: Context, parts: dict[str, Any]) -> None:
    """Connect the parts. Everything is private: what the public may call is declared elsewhere, by name.

    Two rules of Gradio 6.31 shape this: a stream must not have the picture among its outputs (between yields, its value
    comes back to the server without its path), and `.input` needs "always_last" or the end of a drag is lost.
    """
    handlers: AskHandlers = ctx.shared[TITLE]
    ctx.on_ready(handlers.prepare)
    values = [parts["model"], parts["media"], *(parts[name] for name in NAMES)]
    streamed = [parts[name] for name in STREAMED]
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    free = {"concurrency_limit": None, **quiet}
    said = [parts["answers"], parts["stop"]]

    # First, so that it runs before the server listeners of the same slider.
    parts["budget"].change(None, [parts["budget"]], None, js=_FOLLOW, **quiet)

    current, lent = Current(stopped), lent_question(handlers.ask, ctx.host, os.environ)
    ask = page_stream(lambda page, *given: current.told(page, lent(*given)), parts)
    over, stop = (page_once(partial(current.ending, say), parts) for say in (ended, stopped))
    pressed = gr.on([parts["ask"].click, parts["question"].submit], ask, values, streamed, **LANE, **quiet)
    chosen = parts["examples"].select(
        picked(handlers.picked, parts), None, [parts["media"], parts["question"], parts["media_note"]], **free
    )
    # After the cancelled stream has been said to be over, so that what the next one says comes last.
    settled = chosen.then(over, [parts["answers"]], said, **free)
    # "multiple": with the default, a second example clicked before the first stream has ended would not be asked.
    followed = settled.then(ask, values, streamed, trigger_mode="multiple", **LANE, **quiet)
    running = [pressed, followed]
    parts["examples"].leave(None, None, None, cancels=running, **quiet)
    # One after the other: an update of the stream that is still on its way must not undo what is said.
    halted = parts["stop"].click(None, None, None, cancels=running, **quiet)
    halted.then(stop, [parts["answers"]], said, **free)
    other = [parts["media"].input, parts["new_scene"].click, parts["composer"].select]
    replaced = gr.on(other, None, None, None, cancels=running, **quiet)
    replaced.then(over, [parts["answers"]], said, **free)

    shown = [parts[name] for name in ("grid", "budget", "media_note", "question_note", "settings_note")]
    new = once(lambda *given: handlers.looked(*given, new_picture=True), parts)
    parts["media"].input(new, values, shown, trigger_mode="always_last", **LANE, **quiet)
    scenes.bind(
        parts, handlers.scenes, lambda view: placed(view, parts),
        lambda event: event.then(new, values, shown, **LANE, **quiet),
    )  # fmt: skip
    look = once(handlers.looked, parts)
    for name in ("scope", "flip", "newlines", "method"):
        parts[name].input(look, values, shown, trigger_mode="always_last", **free)
    parts["grid"].recompute(look, values, shown, trigger_mode="always_last", **free)

    _bind_models(ctx, handlers, parts, values, shown, free)
    share.bind(ctx, parts, handlers.pictures)
    _bind_opening(ctx, handlers, parts, streamed, free)


def _bind_models(
    ctx: Context,
    handlers: AskHandlers,
    parts: dict[str, Any],
    values: list[Any],
    shown: list[Any],
    free: dict[str, Any],
) -> None:
    """Not in the model's lane: questions are answered while a model is being loaded."""
    outputs = [*shown, *(parts[name] for name in ("model_note", "bits", "load", "quick", "badge", "model"))]
    given = [parts["bits"], *values]
    choose = stream(lambda bits, *rest: handlers.model_chosen(*rest, bits=bits), parts)
    gr.on([parts["model"].input, parts["bits"].input], choose, given, outputs, trigger_mode="always_last", **free)
    load = stream(lambda bits, *rest: handlers.model_loaded(*rest, bits=bits), parts)
    parts["load"].click(load, given, outputs, **free)
    quick = stream(lambda _, *rest: handlers.model_loaded(ctx.host.suggested(), *rest), parts)
    parts["quick"].click(quick, values, outputs, **free)


def _bind_opening(
    ctx: Context, handlers: AskHandlers, parts: dict[str, Any], streamed: list[Any], free: dict[str, Any]
) -> None:
    """Nothing that happens by itself as the page opens joins the queue: when several events do, the browser can open
    its stream twice, and what comes through the first one is lost. A link presses Ask, as a visitor would."""
    waiting = parts["waiting"]
    shown = [*streamed, *(parts[name] for name in ("badge", "quick", "waiting"))]
    fields = [parts[name] for name in (*NAMES, "media", "model") if parts[name] not in streamed]
    first = ctx.demo.load(linked(handlers.arrived, parts), None, [*shown, *fields], queue=False, **free)
    first.then(None, None, None, js=_PRESS, show_progress="hidden", api_visibility="private")
    waiting.tick(linked(handlers.awaited, parts), [parts["media"], parts["answers"]], shown, queue=False, **free)


def _redraw(handlers: AskHandlers) -> Callable[[dict[str, Any]], dict[str, Any] | None]:
    def redraw(wish: dict[str, Any]) -> dict[str, Any] | None:
        return handlers.redraw(wish)

    return redraw
