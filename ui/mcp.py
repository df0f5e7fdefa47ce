"""The endpoints as tools for agents (Model Context Protocol), checked at the start: Gradio would go on without them."""

from __future__ import annotations

import importlib.util
import json
import urllib.error
import urllib.request
from collections.abc import Iterable

INSTALL = "pip install -r requirements-mcp.txt"


class NoAgents(RuntimeError):
    """The tools are not there, or others are; the message is one sentence."""


def prepare(closed: bool = False) -> None:
    """Raises `NoAgents` where the package is missing, or the page is `closed`: agents cannot log in."""
    if closed:
        raise NoAgents("--mcp and SCRIPT_AUTH do not go together: agents cannot log in, so every call would fail.")
    if importlib.util.find_spec("mcp") is None:
        raise NoAgents(f"--mcp needs a package that is not installed: {INSTALL}.")


def tools(address: str) -> set[str]:
    """The names of the tools that a running server offers. Raises `NoAgents` if it offers none."""
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/gradio_api/mcp/schema", timeout=20) as answer:
            return {tool["name"] for tool in json.load(answer)}
    except (urllib.error.URLError, ValueError, KeyError, TypeError) as error:
        raise NoAgents(f"The server offers no tools to agents; its packages may not fit: {INSTALL}.") from error


def check(address: str, endpoints: Iterable[str]) -> None:
    """Raises `NoAgents` unless the tools are exactly these endpoints."""
    found, wanted = tools(address), set(endpoints)
    if found != wanted:
        raise NoAgents(f"Agents would see {', '.join(sorted(found))}, where {', '.join(sorted(wanted))} were declared.")
