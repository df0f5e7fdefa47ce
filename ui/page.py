"""The whole page: head, tabs, and how it is served."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import gradio as gr

from ui import api, cards
from ui.assets import ASSETS, head
from ui.context import Context, Tab
from ui.guard import GuardedBlocks
from ui.limits import LIMITS
from ui.runtime import Host
from ui.tabs import about, analyse, ask, benchmark, compare, video
from ui.theme import theme

TABS: tuple[Tab, ...] = (ask, compare, video, analyse, benchmark, about)


def build(host: Host, tabs: Sequence[Tab] = TABS) -> gr.Blocks:
    """The page over a host of models. Nothing is loaded here; `begin` does that."""
    with GuardedBlocks(
        title="Script: visual token pruning",
        analytics_enabled=False,
        delete_cache=(600, LIMITS.upload_ttl_s),
        fill_width=True,
    ) as demo:
        with gr.Row(elem_classes=["page-head"]):
            gr.Markdown("# Script\nWhich visual tokens does the answer need?", elem_classes=["page-title"])
            badge = gr.HTML(cards.badge("Loading the model ...", "loading"), elem_id="badge", apply_default_css=False)
        ctx = Context(demo, host, badge)
        built = []
        with gr.Tabs(elem_id="tabs") as views:
            for tab in tabs:
                with gr.Tab(tab.TITLE, id=tab.TITLE.lower()) as ctx.views[tab.TITLE]:
                    ctx.parts[tab.TITLE] = tab.build(ctx)
                    built.append((tab, ctx.parts[tab.TITLE]))
        for tab, parts in built:
            tab.bind(ctx, parts)
        api.build(ctx)
        names = {tab.TITLE.lower() for tab in tabs}

        def chosen(request: gr.Request) -> Any:
            wanted = request.query_params.get("tab", "") if request else ""
            return gr.Tabs(selected=wanted) if wanted in names else gr.skip()

        quiet = {"show_progress": "hidden", "api_visibility": "private"}
        demo.load(chosen, None, views, queue=False, **quiet)
    demo.queue(max_size=LIMITS.queue_max, default_concurrency_limit=4, api_open=False)
    demo.script_context = ctx
    return demo


def begin(demo: gr.Blocks) -> None:
    """Load the first model and do the tabs' background jobs, while the page is already being served."""
    ctx: Context = demo.script_context

    def work() -> None:
        ctx.host.start()
        try:
            ctx.host.wait(threading.TIMEOUT_MAX)
        except RuntimeError:
            return  # the page shows `host.trouble`
        for job in ctx.jobs:
            job()

    threading.Thread(target=work, name="begin", daemon=True).start()


def endpoints(demo: gr.Blocks) -> list[str]:
    """The names that programs may call."""
    return sorted(name.lstrip("/") for name in demo.get_api_info()["named_endpoints"])


def launch_options() -> dict[str, Any]:
    """Arguments of `demo.launch` that are the same wherever the page runs."""
    return {
        "theme": theme(),
        "css_paths": [
            ASSETS / "css" / f"{name}.css" for name in ("app", "composer", "compare", "video", "science", "loading")
        ],
        "head": head(),
        "footer_links": ["settings", "api"],
        "max_file_size": f"{LIMITS.max_file_mb}mb",
        "show_error": False,
        "enable_monitoring": False,
        "run_history": False,
        "strict_cors": True,
        "ssr_mode": False,
        "state_session_capacity": LIMITS.sessions,
        "favicon_path": ASSETS / "favicon.svg",
    }
