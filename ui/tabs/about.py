"""The About tab: what this is, how its numbers come about, and what it does not do."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ui.assets import read
from ui.context import Context

TITLE = "About"


def build(ctx: Context) -> dict[str, Any]:
    """One page of text."""
    gr.Markdown(read("about.md"), elem_classes=["about"], sanitize_html=True)
    return {}


def bind(ctx: Context, parts: dict[str, Any]) -> None:
    """Nothing to connect."""
