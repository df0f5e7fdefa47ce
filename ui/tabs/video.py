"""The Video tab: a clip, a question, two answers, and where in time the tokens behind them are."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from script_core.pruners import PRUNERS
from ui import cards, model_card
from ui.assets import read
from ui.context import Context, Dial
from ui.current import Current
from ui.gpu import on_gpu, seconds
from ui.limits import LANE
from ui.pair import ended, stopped
from ui.share import page_address
from ui.state import ANSWER_LIMIT
from ui.tokengrid import token_grid
from ui.video import VideoHandlers
from ui.video_examples import clips
from ui.video_share import KINDS
from ui.video_state import DEFAULTS, FRAMES, NAMES
from ui.wiring import linked, linked_stream, page_once, page_stream, picked, stream

TITLE = "Video"
STREAMED = ("grid", "answers", "counters", "each", "media_note", "question_note", "settings_note", "stop")
SHOWN = ("grid", "each", "media_note", "question_note", "settings_note", "stop")
EMPTY = "Choose an example or upload a clip, then press Ask: the frames appear here with their tokens."
_EXAMPLES_ON_LOAD = "window.ScriptExamples.mount(element, {props, trigger, watch}); /* triggers 'leave', 'select' */"
_PLAYER_ON_LOAD = "window.ScriptVideo.mount(element, {props});"
_FOLLOW = """(each) => {
    const grid = window.ScriptGrid.get('video-grid');
    if (grid) grid.setBudget(each * grid.unit());
}"""


class Clip(gr.File):
    """A video that arrives as the uploaded file itself: not copied, and checked by content where it is read."""

    is_template = True

    def preprocess(self, payload: Any) -> str | None:
        return str(payload.path) if payload is not None and payload.path else None


def build(ctx: Context) -> dict[str, Any]:
    """Lay the tab out and return its parts by name."""
    handlers = ctx.shared[TITLE] = VideoHandlers(ctx.host)
    parts: dict[str, Any] = {}
    with gr.Row(elem_classes=["ask-columns", "video-columns"]):
        with gr.Column(elem_classes=["col-in"], min_width=280, scale=3):
            parts |= _inputs()
            parts |= _setup(ctx, handlers)
        with gr.Column(elem_classes=["col-grid"], min_width=300, scale=4):
            parts |= _canvas()
        with gr.Column(elem_classes=["col-out"], min_width=300, scale=4):
            parts |= _outputs()
    return parts


def _inputs() -> dict[str, Any]:
    first = clips()[0]
    media = Clip(
        value=str(first.path), label="Video", file_types=["video", ".mp4", ".webm", ".mov", ".avi", ".gif"],
        height=112, elem_id="video-media", elem_classes=["video-clip"],
    )  # fmt: skip
    media_note = gr.HTML("", elem_id="video-media-note", apply_default_css=False)
    strip = gr.HTML(
        value={"items": [_item(clip) for clip in clips()]},
        html_template=read("html/examples.html"),
        js_on_load=_EXAMPLES_ON_LOAD,
        elem_id="video-examples",
        apply_default_css=False,
        grid_id="video-grid",
    )
    question = gr.Textbox(
        value=first.question, label="Question", lines=1, max_lines=3, elem_id="video-question",
        placeholder="does the cat or the dog appear first ?", submit_btn=False,
    )  # fmt: skip
    question_note = gr.HTML("", elem_id="video-question-note", apply_default_css=False)
    with gr.Row(elem_classes=["ask-buttons"]):
        ask = gr.Button("Ask", variant="primary", elem_id="video-run", min_width=80, scale=3)
        stop = gr.Button("Stop", elem_id="video-stop", interactive=False, min_width=60, scale=1)
    return {
        "media": media, "media_note": media_note, "examples": strip, "question": question,
        "question_note": question_note, "ask": ask, "stop": stop,
    }  # fmt: skip


def _item(clip: Any) -> dict[str, Any]:
    return {
        "id": clip.id,
        "media": clip.id,
        "question": clip.question,
        "more": list(clip.more),
        "alt": clip.alt,
        "what": "Sticker clip",
        "thumb": {"path": str(clip.thumb), "meta": {"_type": "gradio.FileData"}},
    }


def _setup(ctx: Context, handlers: VideoHandlers) -> dict[str, Any]:
    with gr.Column(elem_classes=["ask-setup"]):
        frames = gr.Radio(
            list(FRAMES), value=DEFAULTS.frames, label="Frames", info="Read at equal distances in time.",
            elem_id="video-frames",
        )  # fmt: skip
        method = gr.Dropdown(
            [(cls.title, name) for name, cls in PRUNERS.items()], value=DEFAULTS.method, label="Method",
            elem_id="video-method", filterable=False, elem_classes=["ask-choice"],
        )  # fmt: skip
        model = gr.Dropdown(
            ctx.host.video_choices(), value=handlers.first, label="Model", elem_id="video-model", filterable=False,
            elem_classes=["ask-choice"],
        )  # fmt: skip
        card = model_card.build("video")
    return {"frames": frames, "method": method, "model": model, **card}


def _canvas() -> dict[str, Any]:
    grid = token_grid("video-grid", budget_id="video-each", waiting=EMPTY)
    player = gr.HTML(
        html_template=read("html/video.html"), js_on_load=_PLAYER_ON_LOAD, elem_id="video-player",
        apply_default_css=False, grid_id="video-grid",
    )  # fmt: skip
    each = Dial(
        1, 144, value=DEFAULTS.each, step=1, label="Tokens per frame", info="visual tokens that stay",
        elem_id="video-each", elem_classes=["ask-dial"], buttons=[],
    )  # fmt: skip
    scope = gr.Radio(
        [("the same in every frame", "crop"), ("shared over the whole video", "global")], value=DEFAULTS.scope,
        label="Budget", info="Shared, the number is an average: frames that matter to the question may keep more.",
        elem_id="video-scope",
    )  # fmt: skip
    settings_note = gr.HTML("", elem_id="video-settings-note", apply_default_css=False)
    return {"grid": grid, "player": player, "each": each, "scope": scope, "settings_note": settings_note}


def _outputs() -> dict[str, Any]:
    answers = cards.answers("video-answers", grid_id="video-grid", question_id="video-question", ask_id="video-run")
    counters = gr.HTML(cards.counters_html(None, None), elem_id="video-counters", apply_default_css=False)
    with gr.Accordion("Advanced", open=False, elem_id="video-advanced"):
        answer_tokens = Dial(
            1, ANSWER_LIMIT, value=DEFAULTS.answer_tokens, step=1, label="Longest answer", info="tokens",
            elem_id="video-answer-tokens", elem_classes=["ask-dial"], buttons=[],
        )  # fmt: skip
    with gr.Accordion("Share", open=False, elem_id="video-share") as share:
        kind = gr.Radio(list(KINDS), value=KINDS[0], label="These settings as", elem_id="video-share-kind")
        text = gr.Textbox(
            label="To copy", lines=3, max_lines=16, interactive=False, buttons=["copy"], elem_id="video-share-text"
        )
        note = gr.HTML("", elem_id="video-share-note", apply_default_css=False)
    return {
        "answers": answers, "counters": counters, "answer_tokens": answer_tokens, "share": share, "share_kind": kind,
        "share_text": text, "share_note": note,
    }  # fmt: skip


def bind(ctx: Context, parts: dict[str, Any]) -> None:
    """Connect the parts; the two rules of Gradio that `tabs.ask` names hold here, too. Everything is private."""
    handlers: VideoHandlers = ctx.shared[TITLE]
    ctx.on_ready(handlers.prepare)
    values = [parts["model"], parts["media"], *(parts[name] for name in NAMES)]
    streamed = [parts[name] for name in STREAMED]
    shown = [parts[name] for name in SHOWN]
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    lane = {**LANE, **quiet}
    free = {"concurrency_limit": None, **quiet}
    said = [parts["answers"], parts["stop"]]

    # First, so that it runs before the server listeners of the same slider.
    parts["each"].change(None, [parts["each"]], None, js=_FOLLOW, **quiet)

    current, lent = Current(stopped), _lent(handlers.ask, ctx)
    ask = page_stream(lambda page, *given: current.told(page, lent(*given)), parts)
    over, stop = (page_once(partial(current.ending, say), parts) for say in (ended, stopped))
    pressed = gr.on([parts["ask"].click, parts["question"].submit], ask, values, streamed, **lane)
    chosen = parts["examples"].select(
        picked(lambda name, place: handlers.picked(str(name), place), parts),
        None,
        [parts["media"], parts["question"], parts["media_note"]],
        **free,
    )
    # After the cancelled stream has been said to be over, so that what the next one says comes last.
    settled = chosen.then(over, [parts["answers"]], said, **free)
    # "multiple": with the default, a second example clicked before the first stream has ended would not be asked.
    followed = settled.then(ask, values, streamed, trigger_mode="multiple", **lane)
    opened = ctx.views[TITLE].select(
        linked_stream(handlers.opened, parts), [parts["answers"], *values], streamed, trigger_mode="once", **lane
    )
    ctx.demo.load(linked(handlers.arrived, parts), None, _fields(parts), queue=False, **free)
    running = [pressed, followed, opened]
    parts["examples"].leave(None, None, None, cancels=running, **quiet)
    # One after the other: an update of the stream that is still on its way must not undo what is said.
    halted = parts["stop"].click(None, None, None, cancels=running, **quiet)
    halted.then(stop, [parts["answers"]], said, **free)
    other = [parts["media"].upload, parts["media"].clear]
    replaced = gr.on(other, None, None, None, cancels=running, **quiet)
    replaced.then(over, [parts["answers"]], said, **free)

    new = stream(lambda *given: handlers.looked(*given, new_video=True), parts)
    look = stream(handlers.looked, parts)
    gr.on(other, new, values, shown, trigger_mode="always_last", **lane)
    parts["frames"].input(new, values, shown, trigger_mode="always_last", **lane)
    for event in (parts["scope"].input, parts["method"].input, parts["grid"].recompute):
        event(look, values, shown, trigger_mode="always_last", **free)
    modelled = [*shown, *(parts[name] for name in ("model_note", "bits", "load", "frames"))]
    given = [parts["bits"], *values]
    choose = stream(lambda bits, *rest: handlers.model_chosen(*rest, bits=bits), parts)
    gr.on([parts["model"].input, parts["bits"].input], choose, given, modelled, trigger_mode="always_last", **lane)
    load = stream(lambda bits, *rest: handlers.model_loaded(*rest, bits=bits), parts)
    parts["load"].click(load, given, [*modelled, parts["model"]], **free)
    _bind_share(handlers, parts, values, free)


def _bind_share(handlers: VideoHandlers, parts: dict[str, Any], values: list[Any], free: dict[str, Any]) -> None:
    def shared(request: gr.Request, kind: str, *given: Any) -> tuple[str, str]:
        return handlers.shared(kind, page_address(request), *given)

    follow = [parts["share"].expand, parts["share_kind"].input, parts["media"].change, parts["each"].release]
    follow += [parts[name].change for name in ("question", "method", "scope", "frames", "model")]
    outputs = [parts["share_text"], parts["share_note"]]
    gr.on(follow, shared, [parts["share_kind"], *values], outputs, trigger_mode="always_last", **free)


def _lent(ask: Callable[..., Any], ctx: Context) -> Callable[..., Any]:
    """The stream with a GPU for the whole question where GPUs are lent by the call."""

    def duration(model: str, path: str | None, *values: Any) -> int:
        given = dict(zip(NAMES, values, strict=False))
        frames = given.get("frames") if given.get("frames") in FRAMES else FRAMES[-1]
        return seconds(given.get("answer_tokens"), frames=frames, longest=ctx.host.gpu_seconds or 60)

    return on_gpu(ask, os.environ, duration)


def _fields(parts: dict[str, Any]) -> list[Any]:
    return [parts[name] for name in (*NAMES, "media", "model", "question_note")]
