"""The Video tab's settings as a text to copy: a link, or Python with the library."""

from __future__ import annotations

from ui.video_examples import find_clip
from ui.video_state import DEFAULTS, VideoSettings, heeds_scope, to_query

KINDS = ("Link", "Python")
OWN_LINK = "A link cannot carry your own video; it opens the page on an example with these settings."
OWN_FILE = "Your own video is not part of this text: put its file where it says video.mp4."


def text_for(
    kind: str, settings: VideoSettings, *, address: str, example: str, model: str, first: str
) -> tuple[str, str]:
    """(text, remark). example: its id, "" for the visitor's own video; first: the model that the tab starts with."""
    if kind == "Python":
        return python(settings, example, model or first), "" if example else OWN_FILE
    return link(settings, address, example, "" if model == first else model), "" if example else OWN_LINK


def link(settings: VideoSettings, address: str, example: str, model: str) -> str:
    """An address that opens the tab with these settings and asks."""
    return f"{address.rstrip('/')}/?{to_query(settings, example=example, model=model)}"


def python(settings: VideoSettings, example: str, model: str) -> str:
    """With the library, no server involved. Texts go in as ASCII literals, so that a question cannot become code."""
    clip = find_clip(example)
    source = f"assets/examples/clips/{clip.path.name}" if clip else "video.mp4"
    scoped = settings.scope != DEFAULTS.scope and heeds_scope(settings.method)
    method = f"PRUNERS[{settings.method!r}](scope={settings.scope!r})" if scoped else repr(settings.method)
    return (
        f"from script_core import {'Engine, PRUNERS' if scoped else 'Engine'}\n\n"
        f"engine = Engine.load({ascii(model)}, frames={settings.frames})\n"
        f"video = engine.encode({ascii(source)})\n"
        "frames = sum(block.kind == 'frame' for block in video.tokens.grid.blocks)\n"
        f"result = engine.ask(\n    video,\n    {ascii(settings.question)},\n"
        f"    pruner={method},\n    budget={settings.each} * frames,\n"
        f"    max_new_tokens={settings.answer_tokens},\n)\n"
        "print(result.answer, len(result.selection.kept), 'of', result.selection.total)\n"
    )
