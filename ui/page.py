"""The whole page: head, tabs, and how it is served."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import gradio as gr

from ui import cards
from ui.assets import ASSETS, head
from ui.context import Context, Tab
from ui.runtime import Host
from ui.tabs import about, ask
from ui.theme import theme

TABS: tuple[Tab, ...] = (ask, about)
QUEUE = 20
UPLOAD_LIMIT = "20mb"


def build(host: Host, tabs: Sequence[Tab] = TABS) -> gr.Blocks:
    """The page over a host of models. Nothing is loaded here; `begin` does that."""
    with gr.Blocks(title="Script: visual token pruning", analytics_enabled=False, delete_cache=(600, 3600), fill_width=True) as demo:
        with gr.Row(elem_classes=["page-head"]):
            gr.Markdown("# Script\nWhich visual tokens does the answer need?", elem_classes=["page-title"])
            badge = gr.HTML(cards.badge("Loading the model ...", "loading"), elem_id="badge", apply_default_css=False)
        ctx = Context(demo, host, badge)
        built = []
        with gr.Tabs(elem_id="tabs"):
            for tab in tabs:
                with gr.Tab(tab.TITLE, id=tab.TITLE.lower()):
                    built.append((tab, tab.build(ctx)))
        for tab, parts in built:
            tab.bind(ctx, parts)
    demo.queue(max_size=QUEUE, default_concurrency_limit=4, api_open=False)
    demo.script_context = ctx
    return demo


def begin(demo: gr.Blocks) -> None:
    """Load the first model and do the tabs' background jobs, while the page is already being served."""
    ctx: Context = demo.script_context

    def work() -> None:
        ctx.host.start()
        try:
            ctx.host.wait()
        except RuntimeError:
            return  # the page shows `host.trouble`
        for job in ctx.jobs:
            job()

    threading.Thread(target=work, name="begin", daemon=True).start()


def launch_options() -> dict[str, Any]:
    """Arguments of `demo.launch` that are the same wherever the page runs."""
    return {
        "theme": theme(),
        "css_paths": [ASSETS / "css" / "app.css"],
        "head": head(),
        "footer_links": ["settings", "api"],
        "max_file_size": UPLOAD_LIMIT,
        "show_error": False,
        "enable_monitoring": False,
        "run_history": False,
        "strict_cors": True,
        "ssr_mode": False,
        "state_session_capacity": 200,
        "favicon_path": ASSETS / "favicon.svg",
    }
