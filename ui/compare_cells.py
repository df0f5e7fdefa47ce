"""What one cell of a comparison shows, and what is said about several: figures, differences, overlaps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

import torch
from torch import Tensor

from script_core.budgets import Shape, average, named
from script_core.engine import Engine
from script_core.fidelity import agreement, kl, mean_kl
from script_core.pruners.base import highest_first, split_budget
from script_core.report import Encoded, Result, Selected
from script_core.tokens import Selection
from ui.tokengrid import packed

Value = dict[str, Any]


def blank(pruner: Any) -> Value:
    """A cell that waits for its turn."""
    return {
        "method": pruner.name,
        "title": pruner.title,
        "acts": pruner.acts,
        "asks": pruner.reads_question,
        "state": "waiting",
        "text": "",
    }


def drawn(selected: Selected) -> Value:
    """What the canvas of a cell needs: the kept tokens, which of them are merged, and how deep dropped ones went."""
    selection = selected.selection
    value: Value = {"kept": packed(selection.kept, "<u2"), "count": len(selection.kept), "notes": list(selection.notes)}
    if selection.inserted is not None:
        value["inserted"] = len(selection)
        value["beside"] = len(selection) - len(selection.kept)  # merged or CLS tokens that have no place of their own
    if "merged" in selection.scores:
        value["merged"] = packed(torch.nonzero(selection.scores["merged"] > 0).flatten(), "<u2")
    if "layers" in selection.scores:
        value["layers"] = packed(selection.scores["layers"], "<u2")
    return value


def figures(engine: Engine, encoded: Encoded, pruner: Any, result: Result, full: Result) -> Value:
    """Everything measured and computed of one answer, except how far it is from the full one."""
    counters = result.counters
    measured, computed = counters.measured, counters.computed
    crops = sum(1 for index in encoded.tokens.grid.members() if len(index))
    shape = Shape.of(engine.text_config, len(encoded.tokens), crops)
    budget = min(result.budget, len(encoded.tokens))
    claimed, configuration, ours = named(pruner, shape, budget, counters.entering)
    return {
        "text": result.answer or "(the model answered with nothing)",
        "diff": difference(engine.backend.decode, full.token_ids, result.token_ids, engine.backend.eos_ids),
        "same": result.answer == full.answer,
        "average": average(counters.entering),
        "entering": list(counters.entering),
        "separators": counters.newlines,
        "claimed": claimed,
        "configuration": configuration,
        "ours": ours,
        "paper_flops": computed.paper_flops,
        "flops": computed.flops,
        "select_ms": measured.select_ms,
        "prefill_ms": measured.prefill_ms,
        "decode_ms": measured.decode_ms,
        "kv_bytes": measured.cache_bytes,
        "cut_short": result.token_ids[-1] not in engine.backend.eos_ids,
    }


def distance(theirs: Sequence[Tensor], ours: Sequence[Tensor]) -> Value:
    """How far the pruned model is from the full one along the full answer: nats, and share of equal choices."""
    return {
        "kl_first": kl(theirs[0], ours[0]),
        "kl_answer": mean_kl(theirs, ours),
        "agreement": agreement(theirs, ours),
    }


def difference(
    decode: Callable[[list[int]], str], full: Sequence[int], pruned: Sequence[int], eos: frozenset[int]
) -> list[list[str]]:
    """The pruned answer against the full one, token by token: [kind, text] with kind "same", "added" or "missing"."""
    a, b = ([token for token in ids if token not in eos] for ids in (full, pruned))
    theirs, ours = pieces(decode, a), pieces(decode, b)
    parts: list[list[str]] = []
    for kind, i, j, k, m in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind == "equal":
            parts.append(["same", "".join(ours[k:m])])
            continue
        if i < j:
            parts.append(["missing", "".join(theirs[i:j])])
        if k < m:
            parts.append(["added", "".join(ours[k:m])])
    return [part for part in parts if part[1]]


def pieces(decode: Callable[[list[int]], str], ids: Sequence[int]) -> list[str]:
    """The text that each token adds; a token in the middle of a character adds nothing until the character is whole."""
    found, before = [], ""
    for count in range(1, len(ids) + 1):
        now = decode(list(ids[:count])).rstrip("\ufffd")
        found.append(now[len(before) :] if now.startswith(before) else "")
        before = now if now.startswith(before) else before
    return found


def jaccard(kept: Mapping[str, Tensor]) -> Value:
    """Pairwise overlap of kept sets: shared tokens over tokens that either keeps. Names and a symmetric matrix."""
    names = list(kept)
    sets = [set(kept[name].tolist()) for name in names]
    matrix = [[len(a & b) / len(a | b) if a | b else 1.0 for b in sets] for a in sets]
    return {"names": names, "matrix": matrix}


def graph_verdict(selections: Mapping[str, Selection], encoded: Encoded, budget: int) -> str:
    """Whether the graph changed anything, in the paper's method and in the released code, from the sets themselves."""
    said = []
    if {"script", "qcsp"} <= set(selections):
        with_graph, without = (set(selections[name].kept.tolist()) for name in ("script", "qcsp"))
        changed = len(with_graph - without)
        said.append(
            f"Script with its graph (GSP) keeps {changed} of {len(with_graph)} tokens that it would not keep without "
            f"(QCSP): GSP changed {'something' if changed else 'nothing'} here."
        )
    if "script_released" in selections:
        released = selections["script_released"]
        filled, shared = refilled(released, encoded, budget)
        picks = set(released.kept.tolist())
        changed = len(filled - picks)
        said.append(
            f"In the released code GSP agrees with {shared} of the {len(picks)} picks, the other {len(picks) - shared} "
            f"are filled back, and {changed} of {len(picks)} tokens differ from the picks without GSP: it changed "
            f"{'something' if changed else 'nothing'}."
        )
        if "cdpruner" in selections:
            other = set(selections["cdpruner"].kept.tolist())
            said.append(f"The released code and CDPruner share {len(picks & other)} of {len(picks)} tokens.")
    return " ".join(said)


def refilled(released: Selection, encoded: Encoded, budget: int) -> tuple[set[int], int]:
    """The released code's last step carried out: per crop, its graph's top k among the picks, filled back from the
    picks. Returns the resulting set and how many picks the graph agreed with."""
    members = encoded.tokens.grid.members()
    shares = split_budget(budget, [len(index) for index in members])
    result: set[int] = set()
    shared, start = 0, 0
    for index, share in zip(members, shares, strict=True):
        order = released.order[start : start + len(index)].tolist()
        start += len(index)
        connected = set(index[highest_first(released.scores["redundancy"][index])[:share]].tolist())
        agreed = [token for token in order[:share] if token in connected]
        missing = [token for token in order[:share] if token not in connected]
        result |= set(agreed + missing[: share - len(agreed)])
        shared += len(agreed)
    return result, shared
