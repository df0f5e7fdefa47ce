"""The calculator panel: what a method does with a budget on a model, from sizes alone."""

from __future__ import annotations

from html import escape
from itertools import groupby
from typing import Any

from script_core.budgets import SHAPES, Cost, Shape, cost, shape
from script_core.pruners import PRUNERS
from script_core.pruners.base import CannotPrune
from ui import cards
from ui.cards import quantity
from ui.runtime import EMBEDDED_TITLES, Host
from ui.state import CHECKS, Unusable

EMBEDDED = {"stickers": (576, 1), "stickers-anyres": (2880, 5)}  # tokens and crops of a square picture


def choices() -> list[tuple[str, str]]:
    """(title, name) of the models that can be calculated."""
    return [(held.title, name) for name, held in SHAPES.items()] + [(EMBEDDED_TITLES[name], name) for name in EMBEDDED]


def calculate(host: Host, method: str, model: str, budget: Any) -> Cost:
    """The cost of a method at an average budget. Raises `CannotPrune` or `Unusable` with the sentences to show."""
    problems, count = {}, 0
    known = [name for _, name in choices()]
    if method not in tuple(PRUNERS):
        problems["method"] = f"The method must be one of {', '.join(PRUNERS)}."
    if model not in known:
        problems["model"] = f"There are no sizes for {str(model)[:40]!r}; the models are {', '.join(known)}."
    try:
        count = CHECKS["budget"](budget)
    except ValueError as problem:
        problems["budget"] = str(problem)
    if problems:
        raise Unusable(problems)
    return cost(method, _shape(host, model), count)


def calculated(host: Host, method: str, model: str, budget: Any) -> str:
    """The panel's markup; a refusal is shown with its reason."""
    try:
        return _markup(calculate(host, method, model, budget))
    except (CannotPrune, ValueError, RuntimeError) as refusal:
        return cards.note(str(refusal))


def _shape(host: Host, model: str) -> Shape:
    if model not in EMBEDDED:
        return shape(model)
    tokens, crops = EMBEDDED[model]
    return Shape.of(host.engine(model).text_config, tokens, crops, EMBEDDED_TITLES[model], bytes_per_value=4)


def _markup(found: Cost) -> str:
    claimed = "no count" if found.claimed is None else f"{found.claimed:,} tokens"
    whose = "This schedule or split is ours; the authors published none for it." if found.ours else ""
    rows = [
        (
            "Average tokens",
            f"{round(found.average, 2):,} of {found.total:,}",
            "Mean over layers of the tokens entering them.",
        ),
        ("The authors' name for it", claimed, f"{found.configuration[0].upper()}{found.configuration[1:]}. {whose}"),
        (
            "FLOPs, papers' formula",
            _of(found.paper_flops, found.paper_flops_full, "FLOPs"),
            "Visual tokens alone, one FLOP per multiply-add.",
        ),
        (
            "FLOPs, forward pass",
            _of(found.flops, found.flops_full, "FLOPs"),
            "Two per multiply-add, output head included, no text.",
        ),
        ("KV cache", _of(found.kv_bytes, found.kv_bytes_full, "bytes"), "Keys and values of the visual tokens."),
    ]
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td><td>{escape(how)}</td></tr>'
        for name, value, how in rows
    )
    return f'<div class="calc"><table>{body}</table>{_layers(found)}</div>'


def _of(value: float, full: float, unit: str) -> str:
    return f"{quantity(value, unit)} of {quantity(full, unit)} ({100 * value / full:.1f} %)"


def _layers(found: Cost) -> str:
    """A bar per layer, and the same in words."""
    words = ", ".join(f"{count:,} in {len(list(same))} layers" for count, same in groupby(found.entering))
    bars = "".join(f'<i style="height:{max(2.0, 100 * n / found.total):.1f}%"></i>' for n in found.entering)
    caption = f"Visual tokens entering each of {len(found.entering)} layers: {escape(words)}."
    return f'<figure><div class="calc-bars" aria-hidden="true">{bars}</div><figcaption>{caption}</figcaption></figure>'
