"""What people take away: a report (JSON with a versioned schema) and a row for a table (CSV); `figure` draws it.

All of it is made from pixels and numbers, never from the uploaded file, so that nothing of its metadata (place,
camera, name) goes along.
"""

from __future__ import annotations

import csv
import io
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from torch import Tensor

import script_core
from script_core.engine import Engine, find_pruner
from script_core.fidelity import Comparison, agreement, kl, mean_kl
from script_core.media import Media
from script_core.pruners.base import CannotPrune
from script_core.report import Encoded, Result, Selected
from ui.caller import Left
from ui.state import Settings, pruner_of

SCHEMA = "script-report/1"
PACKAGES = ("torch", "transformers", "gradio", "numpy", "pillow")


def report(engine: Engine, media: Media, settings: Settings) -> dict[str, Any]:
    """One fresh run, with everything needed to repeat and to check it. Raises what `Engine.compare` raises."""
    encoded = engine.encode(media)
    pruner = pruner_of(settings, encoded.tokens.relevance_sign)
    budget = min(settings.budget, len(encoded.tokens))
    both = engine.compare(
        encoded, settings.question, pruner=pruner, budget=budget, max_new_tokens=settings.answer_tokens
    )
    selected = engine.select(encoded, settings.question, pruner=pruner, budget=budget)
    return plain(
        {
            "schema": SCHEMA,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "settings": {**asdict(settings), "budget": budget},
            "seeds": {"method": getattr(pruner, "seed", None), "decoding": "greedy"},
            "versions": versions(),
            "model": {**asdict(engine.info), "offers": sorted(engine.info.offers)},
            "media": {"kind": media.kind, "width": media.width, "height": media.height, "sha256_of_pixels": media.key},
            "answers": {"pruned": _answer(both.pruned), "full": _answer(both.full)},
            "fidelity": _fidelity(both),
            **tokens(selected),
        }
    )


def versions() -> dict[str, str]:
    """Of this project, Python and the packages that results depend on."""
    return {
        "script_core": script_core.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def _answer(result: Result) -> dict[str, Any]:
    return {
        "text": result.answer,
        "token_ids": list(result.token_ids),
        "counters": asdict(result.counters),
        "notice": result.notice,
    }


def _fidelity(both: Comparison) -> dict[str, Any]:
    return {
        "same": both.same,
        "kl_first_nats": both.kl_first,
        "kl_answer_nats": both.kl_answer,
        "agreement": both.agreement,
    }


def tokens(selected: Selected) -> dict[str, Any]:
    """Per-token arrays of one selection: where each token sits, its scores, which stay and in which order."""
    selection, grid = selected.selection, selected.encoded.tokens.grid
    return {
        "selection": {
            "method": selected.method,
            "budget": selected.budget,
            "total": selection.total,
            "kept": selection.kept.tolist(),
            "order": selection.order.tolist(),
            "merged_rows": 0 if selection.inserted is None else len(selection.inserted),
            "entering_per_layer": list(selection.entering) if selection.entering else None,
            "select_ms": selected.select_ms,
            "notes": list(selection.notes),
        },
        "blocks": [asdict(block) for block in grid.blocks],
        "tokens": {
            "block": grid.block.tolist(),
            "row": grid.row.tolist(),
            "col": grid.col.tolist(),
            **{name: _rounded(scores) for name, scores in selection.scores.items()},
            **({} if selection.allowed is None else {"survived_graph": selection.allowed.tolist()}),
        },
    }


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{value:.6g}") for value in values.double().cpu().tolist()]


def comparison(
    engine: Engine, media: Media, settings: Settings, methods: Sequence[str], caller: Left
) -> dict[str, Any]:
    """Several methods at one budget, each against all tokens. What a method cannot do is said in its row.

    Raises `HungUp` within one token of the caller's leaving.
    """
    encoded = engine.encode(media)
    every = len(encoded.tokens)
    asked, length = settings.question, settings.answer_tokens
    full = engine.ask(encoded, asked, pruner="full", budget=every, max_new_tokens=length, stop=caller)
    caller.check()
    theirs = engine.forced_logits(encoded, asked, full.token_ids, pruner="full", budget=every)
    rows = [_row(engine, encoded, settings, name, full, theirs, caller) for name in methods]
    return {
        "question": asked,
        "model": engine.info.name,
        "device": engine.info.device,
        "budget": min(settings.budget, every),
        "total": every,
        "full": {"answer": full.answer, "counters": asdict(full.counters)},
        "methods": rows,
    }


def _row(
    engine: Engine,
    encoded: Encoded,
    settings: Settings,
    name: str,
    full: Result,
    theirs: list[Tensor],
    caller: Left,
) -> dict[str, Any]:
    pruner, every = find_pruner(name), len(encoded.tokens)
    budget = every if name == "full" else min(settings.budget, every)
    try:
        result = engine.ask(
            encoded, settings.question, pruner=pruner, budget=budget, max_new_tokens=settings.answer_tokens, stop=caller
        )
        caller.check()
        ours = engine.forced_logits(encoded, settings.question, full.token_ids, pruner=pruner, budget=budget)
    except CannotPrune as refusal:
        return {"method": name, "title": pruner.title, "cannot": str(refusal)}
    return {
        "method": name,
        "title": pruner.title,
        "answer": result.answer,
        "same": result.answer == full.answer,
        "kl_first_nats": kl(theirs[0], ours[0]),
        "kl_answer_nats": mean_kl(theirs, ours),
        "agreement": agreement(theirs, ours),
        "kept": result.counters.kept,
        "average_tokens": sum(result.counters.entering) / len(result.counters.entering),
        "paper_flops": result.counters.computed.paper_flops,
        "select_ms": result.counters.measured.select_ms,
        "prefill_ms": result.counters.measured.prefill_ms,
        "kv_bytes": result.counters.measured.cache_bytes,
    }


def plain(value: Any) -> Any:
    """The same with nothing in it that JSON has no word for: NaN and infinities become None, tuples lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in value]
    return value


def csv_row(made: Mapping[str, Any]) -> str:
    """A header and one row, for a table of many runs; formulas that a spreadsheet would carry out are defused."""
    ours, theirs = made["answers"]["pruned"], made["answers"]["full"]
    measured, computed = ours["counters"]["measured"], ours["counters"]["computed"]
    row = {
        "schema": made["schema"],
        "made": made["made"],
        "model": made["model"]["name"],
        "device": made["model"]["device"],
        "dtype": made["model"]["dtype"],
        "image_sha256": made["media"]["sha256_of_pixels"],
        **made["settings"],
        "seed": made["seeds"]["method"],
        "kept": ours["counters"]["kept"],
        "total": ours["counters"]["total"],
        "answer": ours["text"],
        "full_answer": theirs["text"],
        **made["fidelity"],
        "prefill_ms": measured["prefill_ms"],
        "full_prefill_ms": theirs["counters"]["measured"]["prefill_ms"],
        "select_ms": measured["select_ms"],
        "ttft_ms": measured["ttft_ms"],
        "kv_bytes": measured["cache_bytes"],
        "paper_flops": computed["paper_flops"],
        "full_paper_flops": computed["paper_flops_full"],
        **{f"version_{name}": number for name, number in made["versions"].items()},
    }
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(row)
    writer.writerow(defused(value) for value in row.values())
    return out.getvalue()


def defused(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula gets a quote before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
