"""Share and export, below the counters of the Ask tab: the settings as a link or as code, the run as a file.

Files are made in memory and saved by the browser, so that nothing is left on the server.
"""

from __future__ import annotations

import base64
import json
import os
from functools import partial
from typing import Any

import gradio as gr

from script_core.media import Media
from ui import cards, export, figure, snippets
from ui.api import spoken
from ui.context import Context
from ui.examples import Example, examples
from ui.limits import LANE, MANIFEST, read_picture
from ui.pictures import Pictures
from ui.runtime import NotReady
from ui.state import NAMES, check

_SAVE = """(made) => {
    if (!made) return;
    const file = JSON.parse(made);
    const bytes = Uint8Array.from(atob(file.base64), (c) => c.charCodeAt(0));
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([bytes], { type: file.type }));
    link.download = file.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}"""
FILES = {"JSON": "application/json", "PNG": "image/png", "CSV": "text/csv"}


def build() -> dict[str, Any]:
    """The closed accordion."""
    with gr.Accordion("Share and export", open=False, elem_id="ask-share") as accordion:
        kind = gr.Radio(
            list(snippets.KINDS), value="Link", label="These settings as", elem_id="ask-share-kind", container=True
        )
        text = gr.Textbox(
            label="To copy", lines=3, max_lines=16, interactive=False, buttons=["copy"], elem_id="ask-share-text"
        )
        note = gr.HTML("", elem_id="ask-share-note", apply_default_css=False)
        with gr.Row():
            files = {
                name: gr.Button(f"Save {name}", size="sm", min_width=80, elem_id=f"ask-save-{name.lower()}")
                for name in FILES
            }
        made = gr.Textbox(visible=False, elem_id="ask-share-file")
    return {"share": accordion, "share_kind": kind, "share_text": text, "share_note": note, "share_file": made} | {
        f"save_{name}": button for name, button in files.items()
    }


class Sharing:
    """The behaviour, as plain functions."""

    def __init__(self, ctx: Context, pictures: Pictures) -> None:
        self.host = ctx.host
        self._pictures = pictures
        self._named = {read_picture(example.path).key: example for example in examples()}

    def text(self, kind: str, address: str, model: str, path: str | None, values: tuple[Any, ...]) -> tuple[str, str]:
        """(the text to copy, a remark)."""
        try:
            settings = check(dict(zip(NAMES, values, strict=True)), question_needed=False)
            example = self._example(path)
            sign = 1.0
            if settings.flip and self.host.ready and path:
                sign = self.host.engine(model).encode(self._pictures.at(path)).tokens.relevance_sign
            said = snippets.snippet(
                kind, settings, address=address, example=example, model=model, first=self.host.first, sign=sign
            )
            note = "" if example else snippets.OWN_LINK if kind == "Link" else snippets.OWN_NOTE
            return said, cards.note(note, "info")
        except (ValueError, NotReady) as problem:
            return "", cards.note(str(problem))

    def file(self, kind: str, model: str, path: str | None, *values: Any) -> str:
        """One file of a fresh run, as JSON with its name, type and base64."""
        settings = check(dict(zip(NAMES, values, strict=True)))
        if not path:
            raise ValueError("Choose a picture first: upload one, paste one, or click an example.")
        media = self._pictures.at(path)
        made = export.report(self.host.engine(model, settings.newlines), media, settings)
        return json.dumps(
            {
                "name": f"script-{settings.method}-{made['settings']['budget']}.{kind.lower()}",
                "type": FILES[kind],
                "base64": base64.b64encode(self._bytes(kind, made, media)).decode("ascii"),
            }
        )

    @staticmethod
    def _bytes(kind: str, made: dict[str, Any], media: Media) -> bytes:
        if kind == "PNG":
            return figure.figure(made, media)
        text = export.csv_row(made) if kind == "CSV" else json.dumps(made, indent=1, allow_nan=False)
        return text.encode()

    def _example(self, path: str | None) -> Example | None:
        return self._named.get(self._pictures.at(path).key) if path else None


def bind(ctx: Context, parts: dict[str, Any], pictures: Pictures) -> None:
    """Connect the accordion: its text follows the settings, its buttons run once more and save."""
    sharing = Sharing(ctx, pictures)
    values = [parts["model"], parts["media"], *(parts[name] for name in NAMES)]
    private: dict[str, Any] = {"api_visibility": "private"}
    quiet = {"show_progress": "hidden", **private}

    def shown(request: gr.Request, kind: str, model: str, path: str | None, *given: Any) -> tuple[str, str]:
        return sharing.text(kind, page_address(request), model, path, given)

    follow = [parts["share"].expand, parts["share_kind"].input, parts["media"].change]
    follow += [parts[name].change for name in ("question", "method", "scope", "newlines", "flip", "model")]
    follow += [parts[name].release for name in ("budget", "tau", "gamma", "p", "answer_tokens")]
    gr.on(
        follow, shown, [parts["share_kind"], *values], [parts["share_text"], parts["share_note"]],
        trigger_mode="always_last", concurrency_limit=None, **quiet,
    )  # fmt: skip
    for kind in FILES:
        parts[f"save_{kind}"].click(
            spoken(partial(sharing.file, kind)), values, parts["share_file"], **LANE, **private
        ).success(None, parts["share_file"], None, js=_SAVE, **quiet)


def page_address(request: gr.Request | None) -> str:
    """Where visitors find the page: on the hub the Space's own address, else what the browser asked for."""
    space = os.environ.get("SPACE_ID")
    if space:
        return f"https://huggingface.co/spaces/{space}"
    if request is None:
        return f"http://127.0.0.1:{MANIFEST.container.port}/"
    return str(request.request.base_url)
