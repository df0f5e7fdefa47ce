"""What stands under the choice of a model: what it takes, how many bits its weights have, and how far its load is.

The same for every tab with such a choice: a tab places the parts, and passes on the views that these functions give.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from script_core.backends.placement import fewer_bits
from ui import cards
from ui.loading import EMBEDDED_TITLES, title
from ui.runtime import Host

View = dict[str, Any]

WEIGHTS = [("full", ""), ("8 bits", "8bit"), ("4 bits", "4bit")]


def build(prefix: str) -> dict[str, Any]:
    """The parts, by name: a note, the weights' bits, and a button. prefix: of their element ids."""
    reason = fewer_bits()
    note = gr.HTML("", elem_id=f"{prefix}-model-note", apply_default_css=False)
    bits = gr.Radio(
        WEIGHTS, value="", label="Weights", visible=False, interactive=not reason, elem_id=f"{prefix}-bits",
        info=reason or "Fewer bits take less memory and answer a little differently.",
    )  # fmt: skip
    load = gr.Button("Load this model", visible=False, elem_id=f"{prefix}-load")
    return {"model_note": note, "bits": bits, "load": load}


def chosen(host: Host, model: str, bits: str = "") -> View:
    """Another model or other weights in the list: what that takes, and whether it can be loaded here."""
    large = model not in EMBEDDED_TITLES
    return {
        "model_note": cards.note(host.about(model, bits), "info"),
        "bits": {"visible": large and host.loads},
        "load": {"visible": not host.loaded(model, bits), "interactive": not host.obstacle(model, bits)},
    }


def loading(host: Host, model: str, bits: str = "") -> Iterator[View]:
    """Load was pressed: how far it is, until it can be asked. Raises `NotReady`."""
    for load in host.follow(model, bits):
        badge = cards.badge(f"Loading {load.said()}", "loading")
        yield {"model_note": cards.loading(load), "badge": badge, "load": {"interactive": False}}
    yield {
        "model_note": cards.note(f"{title(model)} is loaded.", "info"),
        "badge": cards.badge(*host.badge(model)),
        "load": {"visible": False, "interactive": True},
    }
