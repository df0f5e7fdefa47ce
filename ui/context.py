"""What every tab is built with, and two components whose checks are ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import gradio as gr

from ui.runtime import Host


@dataclass
class Context:
    """Shared by all tabs while the page is built. `on_ready` jobs run once in the background, after the first model.

    views and parts: each tab's own component and what its `build` returned, by title; complete when `bind` is called.
    """

    demo: gr.Blocks
    host: Host
    badge: gr.HTML
    shared: dict[str, Any] = field(default_factory=dict)  # what a tab's `build` leaves for its `bind`
    jobs: list[Callable[[], object]] = field(default_factory=list)
    views: dict[str, gr.Tab] = field(default_factory=dict)
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def on_ready(self, job: Callable[[], object]) -> None:
        self.jobs.append(job)


Tab = ModuleType  # has TITLE, build(ctx) -> parts and bind(ctx, parts)


class Dial(gr.Slider):
    """A slider whose value is checked by `ui.state`, with its own sentence, instead of by Gradio."""

    is_template = True

    def preprocess(self, payload: Any) -> Any:
        return payload


class Picture(gr.Image):
    """A picture that arrives as the uploaded file itself: nothing is decoded or converted on the way."""

    is_template = True

    def preprocess(self, payload: Any) -> str | None:
        if payload is None:
            return None
        if payload.path:
            return str(payload.path)
        return super().preprocess(payload)
