"""Serve the demo: `python app.py`, then open http://127.0.0.1:7860."""

from __future__ import annotations

import argparse
import logging
import os

# Before gradio is imported: no telemetry, no version check.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from ui import page
from ui.runtime import Host


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Ask a picture a question and see which visual tokens the answer needed."
    )
    parser.add_argument(
        "--model", default="stickers", help="the embedded model (default), a checkpoint folder, or a hub id"
    )
    parser.add_argument(
        "--host", default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"), help="address to listen on"
    )
    parser.add_argument("--port", type=int, default=int(os.environ.get("GRADIO_SERVER_PORT", "7860")))
    parser.add_argument(
        "--share", action="store_true", help="open a public tunnel through gradio.live (off by default)"
    )
    return parser.parse_args(argv)


def health_routes(host: Host) -> list[Route]:
    """GET /healthz: the server is up. GET /readyz: 200 once a model answers, 503 before."""

    def healthz(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    def readyz(request: Request) -> JSONResponse:
        text, state = host.badge()
        return JSONResponse({"status": state, "model": text}, status_code=200 if state == "ready" else 503)

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


def serve(demo: gr.Blocks, host: Host, options: argparse.Namespace, *, block: bool) -> str:
    """Start the server, then the model in the background. Returns the local address."""
    _, address, _ = demo.launch(
        server_name=options.host, server_port=options.port, share=options.share, prevent_thread_lock=True, quiet=True,
        app_kwargs={"routes": health_routes(host)}, **page.launch_options(),
    )  # fmt: skip
    page.begin(demo)
    if block:
        print(f"Script is at {address}", flush=True)
        demo.block_thread()
    return address


host = Host()
demo = page.build(host)  # Spaces and `gradio app.py` look for this name


def main(argv: list[str] | None = None) -> None:
    global host, demo
    options = arguments(argv)
    if options.model != host.first:
        host = Host(options.model)
        demo = page.build(host)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    if options.share:
        print("--share opens a public address: everyone who has it can use this machine's model.", flush=True)
    serve(demo, host, options, block=True)


if __name__ == "__main__":
    main()
