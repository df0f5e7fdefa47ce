"""The token canvas as a Gradio component, and the payload that tells it everything about one selection.

The browser gets the whole greedy order of every block, the order in which the graph drops tokens, and the scores. It
then moves the budget by itself, exactly as `script_core.pruners` would; `tests` hold the two against each other.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from gradio import processing_utils
from gradio.utils import get_upload_folder
from PIL import Image
from torch import Tensor

from script_core import similarity
from script_core.derived import derived
from script_core.media import Media
from script_core.pruners import PRUNERS
from script_core.pruners.base import lowest_first, split_budget
from script_core.pruners.walks import REACH
from script_core.report import Encoded, Selected
from script_core.tokens import Grid, Selection, VisualTokens
from ui.assets import read

SHOWN_SIDE = 960  # pixels of the longer side of the picture under the tokens
NEIGHBOURS = 4
NO_TOKEN = 65535
_versions = count(1)

_TEMPLATE = read("html/tokengrid.html")
_ON_LOAD = """
window.ScriptGrid.mount(element, {trigger, props, watch, server});
/* events that this component triggers: 'recompute', 'select' */
"""


def token_grid(
    elem_id: str,
    *,
    budget_id: str = "",
    group: str = "",
    value: Any = None,
    dials: dict[str, str] | None = None,
    redraw: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None,
    waiting: str = "",
) -> gr.HTML:
    """A canvas. `budget_id`: elem_id of the slider that it follows without a server; `group`: canvases that share the
    marked token. `dials`: setting -> elem_id of sliders for which it calls `redraw` itself, past Gradio's events, which
    cost several times what the selection does. `waiting`: what it says while it is empty. Events: `.recompute` (the
    server has to answer), `.select` (a token)."""
    return gr.HTML(
        value=value,
        html_template=_TEMPLATE,
        js_on_load=_ON_LOAD,
        elem_id=elem_id,
        elem_classes=["script-grid"],
        apply_default_css=False,
        grid_id=elem_id,
        budget_id=budget_id,
        group=group,
        dials=dials or {},
        waiting=waiting,
        server_functions=[redraw] if redraw else None,
    )


def packed(values: Tensor | np.ndarray, kind: Any) -> str:
    """Base64 of little-endian numbers of one type."""
    return base64.b64encode(np.ascontiguousarray(np.asarray(values), dtype=kind).tobytes()).decode("ascii")


def payload(
    selected: Selected, pruner: Any, pictures: list[dict[str, Any]], *, asked: dict[str, Any], set_budget: bool = False
) -> dict[str, Any]:
    """All that the canvas needs. `asked` are the settings behind it; `set_budget` makes the canvas take its budget
    from here instead of from the slider (for a new picture, whose slider has yet to follow)."""
    tokens, selection, media = selected.encoded.tokens, selected.selection, selected.encoded.media
    scope = getattr(pruner, "scope", "global")
    value: dict[str, Any] = {
        "version": next(_versions),
        "media": media.key[:16],
        "model": model_of(selected.encoded),
        "images": pictures,
        "width": media.width,
        "height": media.height,
        "n": len(tokens),
        **_geometry(tokens.grid),
        "method": selected.method,
        "title": pruner.title,
        "greedy": "relevance" in selection.scores and selection.nested,
        "budget": selected.budget,
        "set_budget": set_budget,
        "tau": getattr(pruner, "tau", ""),
        "gamma": getattr(pruner, "gamma", ""),
        "asked": asked,
        "notes": list(selection.notes),
        **_scores(selection),
        **_order(selected, pruner, scope),
    }
    if "redundancy" in selection.scores and scope in ("crop", "global"):
        value["neighbours"] = packed(neighbours(tokens, scope, getattr(pruner, "tau", 0.5)), "<u2")
    return value


def moving(value: dict[str, Any]) -> dict[str, Any]:
    """The part of a payload that a slider can change; the canvas has the rest."""
    fixed = ("images", "width", "height", "blocks", "block", "row", "col", "media", "model", "ticket")
    return {name: part for name, part in value.items() if name not in fixed}


def model_of(encoded: Encoded) -> str:
    """What tells models apart on one picture. No name: a model has several, and some say where the server has it."""
    return hashlib.sha256(encoded.key.encode()).hexdigest()[:16]


def _geometry(grid: Grid) -> dict[str, Any]:
    blocks = [
        {"kind": b.kind, "rows": b.rows, "cols": b.cols, "box": list(b.box), "time": b.time,
         "image": i if b.kind == "frame" else 0}
        for i, b in enumerate(grid.blocks)
    ]  # fmt: skip
    return {
        "blocks": blocks,
        "block": packed(grid.block, "<u2"),
        "row": packed(grid.row, "<u2"),
        "col": packed(grid.col, "<u2"),
    }


def _scores(selection: Selection) -> dict[str, str]:
    names = [name for name in ("relevance", "redundancy") if name in selection.scores]
    return {name: packed(selection.scores[name].cpu(), "<f4") for name in names}


def _order(selected: Selected, pruner: Any, scope: str) -> dict[str, Any]:
    """The order of every block, if the browser can take the selection of any budget from it; else the kept tokens."""
    tokens, selection = selected.encoded.tokens, selected.selection
    kept = {"kept": packed(selection.kept, "<u2")}
    if not selection.nested or selection.inserted is not None:
        return kept
    members = [index for index in similarity.members(tokens, scope) if len(index)]
    sizes = [len(index) for index in members]
    walk = selection.order
    if len(walk) != len(tokens) and max(sizes) <= REACH:  # on a GPU: walked no further than the answer needed
        walk = pruner.select(tokens, selected.query, len(tokens)).order
    if len(walk) != len(tokens):
        return kept
    order: dict[str, Any] = {"walk": packed(walk, "<u2"), "groups": sizes}
    rank = None
    if selection.allowed is not None and "redundancy" in selection.scores:
        rank = torch.empty(len(tokens), dtype=torch.int64)
        for index in members:
            rank[index[lowest_first(selection.scores["redundancy"][index])]] = torch.arange(len(index))
        order |= {"rank": packed(rank, "<u2"), "p": float(pruner.p)}
    again = keep(walk, sizes, rank, order.get("p", 0.0), selected.budget)
    return order if torch.equal(again, selection.kept) else kept


def keep(walk: Tensor, sizes: list[int], rank: Tensor | None, p: float, budget: int) -> Tensor:
    """The budget rule that `tokengrid-core.js` applies, in Python: the kept tokens (m,), ascending."""
    chosen = []
    parts = walk.split(sizes)
    for part, share in zip(parts, split_budget(budget, sizes), strict=True):
        if rank is not None:
            alive = len(part) - min(round(p * len(part)), len(part) - share)
            part = part[rank[part] < alive]
        chosen.append(part[:share])
    return torch.sort(torch.cat(chosen)).values


def neighbours(tokens: VisualTokens, scope: str, tau: float) -> np.ndarray:
    """The tokens (n, 4) that make each one redundant: its most similar ones on the other side of the graph, as far as
    they reach tau; 65535 where there are fewer."""

    def nearest() -> tuple[np.ndarray, np.ndarray]:
        ids = np.full((len(tokens), NEIGHBOURS), NO_TOKEN, dtype=np.uint16)
        cosine = np.full((len(tokens), NEIGHBOURS), -2.0)
        for index in similarity.members(tokens, scope):
            sides = (index[0::2], index[1::2])
            units = [similarity.unit(tokens.features[side.to(tokens.features.device)]).cpu() for side in sides]
            for here in (0, 1):
                k = min(NEIGHBOURS, len(sides[1 - here]))
                if k and len(sides[here]):
                    top = (units[here] @ units[1 - here].T).topk(k, dim=1)
                    ids[sides[here].numpy(), :k] = sides[1 - here][top.indices].numpy()
                    cosine[sides[here].numpy(), :k] = top.values.numpy()
        return ids, cosine

    ids, cosine = derived(tokens, ("nearest", scope), nearest)
    return np.where(cosine >= tau - 1e-7, ids, NO_TOKEN).astype(np.uint16)


_shown: OrderedDict[str, str] = OrderedDict()
_guard = threading.Lock()


def drawn(
    selected: Selected, pruner: Any, settings: dict[str, Any], model: str, *, set_budget: bool = False
) -> dict[str, Any]:
    """The payload for a canvas that may later ask for changes by itself: its ticket names model and picture."""
    media = selected.encoded.media
    asked = {**settings, "title": pruner.title}
    value = payload(selected, pruner, shown_pictures(media), asked=asked, set_budget=set_budget)
    return {**value, "ticket": {"model": model, "media": media.key}}


def shown_pictures(media: Media, side: int = SHOWN_SIDE) -> list[dict[str, Any]]:
    """The frames as JPEG files in the page's cache, in the form that Gradio turns into addresses. side: the most
    pixels of the longer one."""
    return [{"path": _file(media, i, side), "meta": {"_type": "gradio.FileData"}} for i in range(len(media.frames))]


def _file(media: Media, frame: int, side: int) -> str:
    name = f"{media.key}-{frame}-{side}"
    with _guard:
        held = _shown.get(name)
    if held and Path(held).is_file():
        return held
    picture = Image.fromarray(media.frames[frame])
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    path = processing_utils.save_pil_to_cache(picture, cache_dir=get_upload_folder(), format="jpeg")
    with _guard:
        _shown[name] = path
        while len(_shown) > 512:
            _shown.popitem(last=False)
    return path


def title_of(method: str) -> str:
    """What people read for a method's registry name."""
    return PRUNERS[method].title if method in PRUNERS else method
