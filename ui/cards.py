"""The two answers and the counters, as values and markup. Every number says where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from script_core.backends.progress import PHASES
from script_core.counters import Counters
from ui.assets import read
from ui.loading import Load, title

_PHASES = ("look up", "download", "read weights", "onto the device", "ready")  # in the order of `PHASES`
_ANSWERS_ON_LOAD = "window.ScriptAnswers.mount(element, {props, watch});"


def answers(elem_id: str, *, grid_id: str, question_id: str, ask_id: str, value: Any = None) -> gr.HTML:
    """The pair of answers; it compares what it was asked with what `grid_id` shows, and marks itself stale."""
    return gr.HTML(
        value=value,
        html_template=read("html/answers.html"),
        js_on_load=_ANSWERS_ON_LOAD,
        elem_id=elem_id,
        apply_default_css=False,
        grid_id=grid_id,
        question_id=question_id,
        ask_id=ask_id,
    )


@dataclass(frozen=True)
class Row:
    """One counter: full and pruned values, how each reads, whether it was measured, and how it comes about."""

    label: str
    full: float | None
    pruned: float
    unit: str
    measured: bool
    how: str


def rows(pruned: Counters, full: Counters | None) -> list[Row]:
    """The counters of one question, pruned against full. `full` is None until the full answer has been computed."""
    ours, theirs = pruned.measured, full.measured if full else None
    made = pruned.computed
    lines = f", plus {pruned.newlines} row separators that stayed" if pruned.newlines else ""
    reused = " The encoding was reused from an earlier run of this picture." if ours.encode_cached else ""
    return [
        Row(
            "Visual tokens", pruned.total, pruned.kept, "tokens", True,
            f"Counted: content tokens that enter the language model{lines}. The question and template add "
            f"{pruned.text_tokens} text tokens to either prompt.",
        ),
        Row(
            "Prefill FLOPs", made.paper_flops_full, made.paper_flops, "FLOPs", False,
            "Computed with the formula that pruning papers use: per layer 4nd\u00b2 + 2n\u00b2d + 3ndm over the visual "
            "tokens n, width d, MLP width m, one FLOP per multiply-add. A full forward pass (two per multiply-add, "
            f"text and output head included) goes from {quantity(made.flops_full, 'FLOPs')} to "
            f"{quantity(made.flops, 'FLOPs')}.",
        ),
        Row(
            "Prefill time", theirs.prefill_ms if theirs else None, ours.prefill_ms, "ms", True,
            "Measured once, in this run: the language model reads the prompt, up to the first token's logits. "
            "Selecting tokens took "
            f"{quantity(ours.select_ms, 'ms')} more.",
        ),
        Row(
            "Time to first token", theirs.ttft_ms if theirs else None, ours.ttft_ms, "ms", True,
            f"Measured: encode {quantity(ours.encode_ms, 'ms')} + question {quantity(ours.query_ms, 'ms')} + select "
            f"{quantity(ours.select_ms, 'ms')} + prefill {quantity(ours.prefill_ms, 'ms')}.{reused}",
        ),
        Row(
            "KV cache", theirs.cache_bytes if theirs else made.kv_bytes_full, ours.cache_bytes, "bytes", True,
            "Measured on the cache after prefill: bytes of all keys and values, text tokens included. By formula "
            f"the full prompt takes {quantity(made.kv_bytes_full, 'bytes')}.",
        ),
    ]  # fmt: skip


def quantity(value: float, unit: str) -> str:
    """A number with its unit, three digits at most: 3.82 TFLOPs, 41 ms, 1.4 GiB."""
    if unit == "tokens":
        return f"{int(value):,}"
    if unit == "ms":
        return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.3g} ms" if value >= 1 else f"{value:.2f} ms"
    step, names = (
        (1024, ("B", "KiB", "MiB", "GiB", "TiB")) if unit == "bytes" else (1000, ("", "k", "M", "G", "T", "P"))
    )
    suffix = "" if unit == "bytes" else "FLOPs"
    place = 0
    while value >= step and place < len(names) - 1:
        value, place = value / step, place + 1
    digits = f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    return f"{digits} {names[place]}{suffix}"


def counters_html(pruned: Counters | None, full: Counters | None, device: str = "") -> str:
    """The counters as markup; a sentence while there are none."""
    if pruned is None:
        return '<div class="cnt cnt-none">Counters appear with the first answer.</div>'
    body = "".join(_row(row) for row in rows(pruned, full))
    foot = f'<p class="cnt-device">{escape(device)}</p>' if device else ""
    return f'<div class="cnt"><h3>Cost: all tokens against kept</h3>{body}{foot}</div>'


def _row(row: Row) -> str:
    share = 100 * row.pruned / row.full if row.full else 100.0
    before = quantity(row.full, row.unit) if row.full is not None else "..."
    kind = "measured" if row.measured else "computed"
    change = "" if row.full is None or not row.full else f"{share - 100:+.0f} %"
    return (
        f'<div class="cnt-row" data-counter="{escape(row.label)}">'
        f'<div class="cnt-head"><span class="cnt-label">{escape(row.label)}</span>'
        f'<span class="cnt-tag cnt-{kind}">{kind}</span>'
        f'<span class="cnt-numbers"><span class="cnt-full">{escape(before)}</span> '
        '<span aria-hidden="true">\u2192</span> '
        f'<b>{escape(quantity(row.pruned, row.unit))}</b> <span class="cnt-change">{escape(change)}</span></span></div>'
        f'<div class="cnt-bar" aria-hidden="true"><i style="width:{min(100.0, max(0.6, share)):.2f}%"></i></div>'
        f"<details><summary>How is this computed?</summary><p>{escape(row.how)}</p></details></div>"
    )


def note(text: str, kind: str = "error") -> str:
    """A sentence beside a field; nothing for an empty one. kind: "error" is read out at once, "info" is not."""
    if not text:
        return ""
    role = ' role="alert"' if kind == "error" else ""
    return f'<p class="note note-{kind}"{role}>{escape(text)}</p>'


def badge(text: str, state: str) -> str:
    """What is loaded and ready, for the page's head. state: "loading", "ready" or "failed"."""
    return f'<span class="badge badge-{state}" data-state="{state}"><i aria-hidden="true"></i>{escape(text)}</span>'


def loading(load: Load) -> str:
    """A load that is under way: its phases, the one that it is in, and how far that is."""
    step, at = load.step, PHASES.index(load.step.phase)
    phases = "".join(
        f'<li class="{"done" if number < at else "now" if number == at else "next"}">{label}</li>'
        for number, label in enumerate(_PHASES)
    )
    share = "" if step.share is None else f' value="{step.share:.4f}"'
    return (
        f'<div class="load" data-phase="{step.phase}"><p><b>{escape(title(load.name))}</b>{_bits(load.bits)}: '
        f'<span class="load-said">{escape(step.said())}</span></p>'
        f'<progress max="1"{share} aria-label="{escape(load.said())}"></progress><ol>{phases}</ol>'
        f"<p>{escape(f'On {load.placed}. ' if load.placed else '')}The page stays usable meanwhile.</p></div>"
    )


def _bits(bits: str) -> str:
    return f", {bits[0]}-bit weights" if bits else ""
