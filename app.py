"""Serve the demo: `python app.py`, then open http://127.0.0.1:7860."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from contextlib import suppress

# Before gradio is imported: no telemetry, no version check.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from script_core.backends import EMBEDDED
from script_core.backends.base import CannotLoad
from ui import gpu, guard, mcp, page
from ui.limits import LIMITS, MANIFEST
from ui.remote import connected
from ui.runtime import Host, NotReady


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Ask a picture a question and see which visual tokens the answer needed."
    )
    parser.add_argument("--profile", choices=list(MANIFEST.profiles), help="a way of running from the Spacefile")
    parser.add_argument(
        "--model", help="a name from the Spacefile, a hub id or a checkpoint folder; default: the profile's"
    )
    parser.add_argument("--device", help="cpu, cuda, or auto for all GPUs; default: the profile's")
    parser.add_argument("--quantize", default="", choices=["8bit", "4bit"], help="weights of fewer bits")
    parser.add_argument(
        "--engine", help="workers elsewhere: ray://auto or ray://host:6379 (needs requirements-ray.txt)"
    )
    parser.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME"), help="address; default 127.0.0.1")
    parser.add_argument("--port", type=int, default=os.environ.get("GRADIO_SERVER_PORT", MANIFEST.container.port))
    parser.add_argument("--share", action="store_true", help="open a public tunnel through gradio.live")
    parser.add_argument("--mcp", action="store_true", help="serve the endpoints to agents (needs requirements-mcp.txt)")
    parser.add_argument("--endpoints", action="store_true", help="print the public endpoints as JSON and leave")
    options = parser.parse_args(argv)
    options.profile = options.profile or gpu.profile_of(os.environ)
    profile = MANIFEST.profile(options.profile)
    if not options.engine:
        named = MANIFEST.models.get(options.model or profile.model)
        options.model = named.source if named else options.model
    if options.quantize and options.model in EMBEDDED:
        parser.error("--quantize is for published models; name one with --model, such as onevision-0.5b.")
    options.device = options.device or profile.device
    options.host = options.host or profile.host
    return options


def host_for(options: argparse.Namespace) -> Host:
    """The models that this way of running serves. Raises ValueError and `CannotLoad` if a cluster is not there."""
    if options.engine:
        return connected(options.engine, options.model, LIMITS.cache_mb)
    profile = MANIFEST.profile(options.profile)
    return Host(
        options.model, device=options.device, bits=options.quantize, loads=profile.loads, cache_mb=LIMITS.cache_mb,
        revisions=MANIFEST.revisions(), gpu_seconds=profile.max_duration_s,
    )  # fmt: skip


def health_routes(host: Host) -> list[Route]:
    """GET /healthz: the server is up. GET /readyz: 200 once a model answers, 503 before."""

    def healthz(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    def readyz(request: Request) -> JSONResponse:
        text, state = host.badge()
        return JSONResponse({"status": state, "model": text}, status_code=200 if state == "ready" else 503)

    return [Route(MANIFEST.health.path, healthz), Route(MANIFEST.health.ready, readyz)]


def serve(demo: gr.Blocks, host: Host, options: argparse.Namespace, *, block: bool) -> str:
    """Start the server, then the model in the background. Returns the local address."""
    early = gpu.on_zero(os.environ)  # there a model is placed on the GPU before the first call, or not at all
    if early:
        page.begin(demo)
        with suppress(NotReady):  # the page says why
            host.wait(MANIFEST.health.start_timeout_s)
    if options.mcp:
        mcp.prepare(closed=guard.account(os.environ) is not None)
    _, address, _ = demo.launch(
        server_name=options.host, server_port=options.port, share=options.share, prevent_thread_lock=True, quiet=True,
        app_kwargs={"routes": health_routes(host), "middleware": guard.middleware()}, mcp_server=options.mcp,
        auth=guard.account(os.environ), **page.launch_options(),
    )  # fmt: skip
    if options.mcp:
        mcp.check(address, MANIFEST.api.endpoints)
    if not early:
        page.begin(demo)
    if block:
        print(f"Script is at {address}", flush=True)
        if options.mcp:
            print(f"Agents find it at {address.rstrip('/')}{MANIFEST.api.mcp_path}", flush=True)
        demo.block_thread()
    return address


host = host_for(arguments([]))
demo = page.build(host)  # Spaces and `gradio app.py` look for this name


def main(argv: list[str] | None = None) -> None:
    global host, demo
    options = arguments(argv)
    if options.endpoints:
        print(json.dumps(page.endpoints(demo)))
        return
    try:
        guard.account(os.environ)
        wanted = host_for(options)
    except (ValueError, CannotLoad) as problem:
        sys.exit(f"error: {problem}")
    if wanted.describes_other(host):
        host = wanted
        demo = page.build(host)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    if options.share:
        print("--share opens a public address: everyone who has it can use this machine's model.", flush=True)
    try:
        serve(demo, host, options, block=True)
    except (mcp.NoAgents, OSError) as problem:  # OSError: the port is taken, or not ours to open
        demo.close()
        sys.exit(f"error: {problem}")


if __name__ == "__main__":
    main()
