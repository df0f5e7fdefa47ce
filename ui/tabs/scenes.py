"""The Ask tab's scene parts: a new scene, the composer, and the list of what the embedded model knows."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr

from script_core.stickers.catalogue import COLOURS, KINDS, NAMES, READABLE, TINTABLE
from script_core.stickers.composing import LIMIT
from ui import scenes
from ui.assets import read

_ON_LOAD = "window.ScriptComposer.mount(element, {props, trigger, watch}); /* triggers 'select' */"
# Once the panel has unfolded. Keys go on from there, and nothing moves any more when the stage has the focus.
_TO_COMPOSER = """() => setTimeout(() => {
    const panel = document.querySelector('#ask-composer-panel');
    panel.scrollIntoView({block: 'start'});
    panel.querySelector('.cps-stage').focus({preventScroll: true});
}, 250)"""
_TO_PICTURE = "() => document.querySelector('#ask-media').scrollIntoView({block: 'nearest'})"
PARTS = ("scenes", "composer_panel", "knows_panel")
KINDS_OF_QUESTION = {
    "is it there": ("Is there an apple?", "Are there any dogs in the picture?", "Can you see a red car?"),
    "how many": ("How many penguins are there?", "How many objects do you see?"),
    "which colour": ("What colour is the balloon?", "Is the shirt blue?"),
    "which kind": ("What fruit is there?", "Which animal can you see?", "What is in the top left corner?"),
    "where": ("Where is the key?", "Where is the green book?"),
    "side by side": ("Is the cat left or right of the tree?", "Is the bee above the cake?"),
    "next to": ("What is next to the house?", "What is below the clock?"),
    "reading": ("What word is written?",),
    "in a clip": ("Does a dog appear?", "Does the car move left or right?", "Does the cat or the dog appear first?"),
}


def buttons(visible: bool) -> dict[str, Any]:
    """Below the examples: the two ways to another scene."""
    with gr.Row(visible=visible, elem_classes=["ask-scenes"], elem_id="ask-scenes") as row:
        new = gr.Button("New scene", size="sm", min_width=90, elem_id="ask-new-scene")
        compose = gr.Button("Compose a scene", size="sm", min_width=120, elem_id="ask-compose")
    return {"scenes": row, "new_scene": new, "compose": compose}


def panels(visible: bool) -> dict[str, Any]:
    """Below everything, as wide as the page: the composer and what it is good to ask about."""
    with gr.Accordion("Compose a scene", open=False, visible=visible, elem_id="ask-composer-panel") as composer_panel:
        composer = gr.HTML(
            html_template=read("html/composer.html"),
            js_on_load=_ON_LOAD,
            elem_id="ask-composer",
            apply_default_css=False,
        )
        composer_note = gr.HTML("", elem_id="ask-composer-note", apply_default_css=False)
    with gr.Accordion("What the embedded model knows", open=False, visible=visible, elem_id="ask-knows") as knows:
        gr.HTML(known(), apply_default_css=False)
    return {
        "composer_panel": composer_panel, "composer": composer, "composer_note": composer_note, "knows_panel": knows,
    }  # fmt: skip


def known() -> str:
    """The things by kind, the colours, the words and the kinds of questions, as markup."""
    things = "".join(f"<dt>{escape(kind)}</dt><dd>{escape(', '.join(names))}</dd>" for kind, names in KINDS.items())
    asked = "".join(
        f"<dt>{escape(kind)}</dt><dd>{escape(' '.join(questions))}</dd>"
        for kind, questions in KINDS_OF_QUESTION.items()
    )
    tinted = ", ".join(name for name in NAMES if name in TINTABLE)
    return (
        f'<div class="knows"><p>These {len(NAMES)} things and nothing else. About any other word it says that it does '
        f"not know it. A composed scene holds up to {LIMIT} of them.</p><dl>{things}</dl>"
        f"<p><strong>Colours:</strong> {', '.join(COLOURS)}, of {escape(tinted)}.</p>"
        "<p><strong>Words that can stand on a sign</strong> (it reads about nine in ten): "
        f"{', '.join(READABLE)}.</p>"
        f"<p><strong>Kinds of questions:</strong></p><dl>{asked}</dl></div>"
    )


def bind(
    parts: dict[str, Any],
    drawn: scenes.Scenes,
    placed: Callable[[dict[str, Any]], dict[Any, Any]],
    look: Callable[[Any], Any],
) -> None:
    """Connect the parts. `placed` turns a view into updates, `look` goes on to the overlays of a new picture."""
    free: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    scene = [parts[name] for name in ("media", "question", "media_note", "examples")]

    def new(model: str) -> dict[Any, Any]:
        return placed(drawn.new(model))

    def composed(event: gr.SelectData) -> dict[Any, Any]:
        return placed(drawn.composed(event.value))

    def opened() -> dict[Any, Any]:
        return placed({"composer": scenes.palette(), "composer_panel": {"open": True}})

    def offered(model: str) -> dict[Any, Any]:
        return placed({name: {"visible": drawn.offered(model)} for name in PARTS})

    parts["model"].change(offered, [parts["model"]], [parts[name] for name in PARTS], **free)
    look(parts["new_scene"].click(new, [parts["model"]], scene, **free))
    used = parts["composer"].select(composed, None, [*scene, parts["composer_note"]], **free)
    look(used)
    used.then(None, None, None, js=_TO_PICTURE, **quiet)
    shown = [parts["composer"], parts["composer_panel"]]
    parts["compose"].click(opened, None, shown, **free).then(None, None, None, js=_TO_COMPOSER, **quiet)
    parts["composer_panel"].expand(opened, None, shown, **free)
