"""The current settings as code that can be pasted: a link, Python with the library, `gradio_client`, and curl.

Texts from the page go in through `json.dumps` and shell quoting, never bare, so that a question cannot become code.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from typing import Any

from script_core.pruners import PRUNERS
from ui.examples import Example
from ui.state import DEFAULTS, Settings, pruner_of, to_query

KINDS = ("Link", "Python", "gradio_client", "curl")
OWN_FILE = "picture.png"
OWN_NOTE = "Your own picture is not part of this text: put its file where it says picture.png."
OWN_LINK = "A link cannot carry your own picture; it opens the page on an example with these settings."


def snippet(
    kind: str, settings: Settings, *, address: str, example: Example | None, model: str, first: str, sign: float = 1.0
) -> str:
    """One of `KINDS`. example: the picture, None for the visitor's own; first: the server's first model."""
    named = "" if model == first else model
    if kind == "Python":
        return python(settings, example, model or first, sign)
    if kind == "gradio_client":
        return client(settings, address, example, named)
    if kind == "curl":
        return curl(settings, address, example, named)
    return link(settings, address, example, named)


def link(settings: Settings, address: str, example: Example | None, model: str) -> str:
    """An address that opens the page with these settings. An uploaded picture cannot travel in it."""
    more = {"example": example.id} if example else {}
    if model:
        more["model"] = model
    query = to_query(settings, **more)
    return f"{address.rstrip('/')}/?{query}" if query else f"{address.rstrip('/')}/"


def python(settings: Settings, example: Example | None, model: str, sign: float = 1.0) -> str:
    """With the library, no server involved."""
    pruner = pruner_of(settings, sign)
    plain = PRUNERS[settings.method]()
    changed = {
        name: value
        for name, value in vars(pruner).items()
        if value != getattr(plain, name) and isinstance(value, str | int | float | bool)
    }
    chosen = f"PRUNERS[{_text(settings.method)}]" if changed else ""
    options = ", ".join(f"{name}={_text(value)}" for name, value in changed.items())
    method = f"{chosen}({options})" if changed else _text(settings.method)
    newlines = "" if settings.newlines == DEFAULTS.newlines else f", newlines={_text(settings.newlines)}"
    picture = f"assets/examples/{example.path.name}" if example else OWN_FILE
    names = "Engine, PRUNERS" if changed else "Engine"
    return (
        f"from script_core import {names}\n\n"
        f"engine = Engine.load({_text(model or 'stickers')}{newlines})\n"
        f"result = engine.ask(\n    {_text(picture)},\n    {_text(settings.question)},\n"
        f"    pruner={method},\n    budget={settings.budget},\n"
        f"    max_new_tokens={settings.answer_tokens},\n)\n"
        f"print(result.answer, len(result.selection.kept), 'of', result.selection.total)\n"
    )


def client(settings: Settings, address: str, example: Example | None, model: str) -> str:
    """With gradio_client."""
    picture = _text(example.id) if example else f"handle_file({_text(OWN_FILE)})"
    names = "Client" if example else "Client, handle_file"
    given = "".join(f"    {name}={_text(value)},\n" for name, value in arguments(settings, model).items())
    return (
        f"from gradio_client import {names}\n\n"
        f"client = Client({_text(address)}, verbose=False)\n"
        f"result = client.predict(\n    image={picture},\n{given}    api_name='/answer',\n)\n"
        f"print(result['answer'], result['kept'], 'of', result['total'])\n"
    )


def curl(settings: Settings, address: str, example: Example | None, model: str) -> str:
    """With nothing but a shell, curl and sed: post the question, then read the stream of events."""
    body = json.dumps({"image": example.id if example else "FILE", **arguments(settings, model)}, indent=1)
    upload = (
        ""
        if example
        else ('FILE=$(curl -s -F "files=@picture.png" "$ADDRESS/gradio_api/upload" | sed \'s/\\["//; s/"\\]//\')\n')
    )
    if example:
        data = shlex.quote(body)
    else:
        before, after = body.split('"FILE"', 1)
        file = '{"path": "\'"$FILE"\'", "meta": {"_type": "gradio.FileData"}}'
        data = shlex.quote(before)[:-1] + file + _inside_quotes(after) + "'"
    return (
        f"ADDRESS={shlex.quote(address.rstrip('/'))}\n{upload}"
        f"EVENT=$(curl -s -H 'Content-Type: application/json' -d {data} "
        '"$ADDRESS/gradio_api/call/v2/answer" | sed \'s/.*"event_id": *"//; s/".*//\')\n'
        'curl -sN "$ADDRESS/gradio_api/call/answer/$EVENT"\n'
    )


def arguments(settings: Settings, model: str) -> dict[str, Any]:
    """The call's arguments that differ from the endpoint's defaults; question, method and budget always."""
    always = {"question": settings.question, "method": settings.method, "budget": settings.budget}
    held = {name: value for name, value in asdict(settings).items() if value != getattr(DEFAULTS, name)}
    return {**always, **held, **({"model": model} if model else {})}


def _text(value: Any) -> str:
    """A Python literal; texts as ASCII with escapes, so that no character can end the line or the quotes."""
    return ascii(value)


def _inside_quotes(text: str) -> str:
    """Text for the inside of a shell's single quotes."""
    return text.replace("'", "'\"'\"'")
