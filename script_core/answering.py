"""One answer: a plan (what is kept, and the prompt that follows from it), then a series of events.

These functions hold no state of their own; an engine lends them its backend and its turns on the model.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from script_core.backends.base import Backend, Prompt
from script_core.cache import Turns
from script_core.counters import Computed, Counters, Measured, cache_bytes, full_flops, kv_cache_bytes, prefill_flops
from script_core.prefill import Decoding, clock
from script_core.pruners.base import InsideRun, check_budget
from script_core.report import Encoded, Event, Finished, FirstToken, Result, Selected, Text
from script_core.tokens import Query, Selection
from script_core.understanding import Understood


@dataclass(frozen=True, eq=False)
class Asked:
    """One question to one picture, with everything that is known before tokens are chosen."""

    question: str
    understood: Understood
    encoded: Encoded
    query: Query
    query_ms: float
    method: Any
    budget: int


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything decided before the language model runs; `run` instead of `selected` for in-model methods."""

    asked: Asked
    prompt: Prompt
    spent_ms: float
    selected: Selected | None
    run: InsideRun | None

    def seen(self, decoding: Decoding) -> Selected:
        """What is kept; for an in-model method it is known only now that its prefill has run."""
        if self.selected is not None:
            return self.selected
        selection = self.run.selection() if self.run is not None else None
        if selection is None:
            raise RuntimeError(f"{self.asked.method.name} has not said what it keeps")
        return selected(self.asked, selection, self.spent_ms + decoding.cut_ms)


def selected(asked: Asked, selection: Selection, spent_ms: float) -> Selected:
    return Selected(selection, spent_ms, asked.encoded, asked.query, asked.method.name, asked.budget)


def choose(asked: Asked, layers: int, device: torch.device) -> tuple[Selection | None, InsideRun | None, float]:
    """The method's selection, or its run if it works inside the language model, and the milliseconds it took.

    Raises `CannotPrune`, and RuntimeError if the method did not keep as many tokens as it was asked for.
    """
    method, tokens = asked.method, asked.encoded.tokens
    budget = check_budget(asked.budget, len(tokens))
    started = clock(device)
    if method.acts == "inside":
        run = method.begin(tokens, asked.query, budget, layers)
        return None, run, clock(device) - started
    selection = method.select(tokens, asked.query, budget)
    if is_pruned(selection) and len(selection) != budget:
        raise RuntimeError(f"{method.name} kept {len(selection)} tokens when it was asked for {budget}")
    return selection, None, clock(device) - started


def is_pruned(selection: Selection) -> bool:
    return selection.inserted is not None or len(selection.kept) < selection.total


def make_plan(backend: Backend, turns: Turns, asked: Asked, newlines: str, positions: str) -> Plan:
    """Choose tokens and assemble the prompt. With nothing pruned, the options have no effect and newlines stay."""
    device = torch.device(backend.info.device)
    tokens = asked.encoded.tokens
    selection, run, spent = choose(asked, backend.text_config.num_hidden_layers, device)
    pruned = asked.budget < len(tokens) if selection is None else is_pruned(selection)
    with turns:  # tokenizers are no safer to share than models
        prompt = backend.build(
            asked.understood.text,
            tokens,
            selection,
            newlines=("row" if newlines == "row" else "none") if pruned else "all",
            positions=positions if pruned else "compact",
        )
    return Plan(asked, prompt, spent, None if selection is None else selected(asked, selection, spent), run)


def answer(backend: Backend, turns: Turns, plan: Plan, max_new_tokens: int, stop: threading.Event) -> Iterator[Event]:
    """Selected, FirstToken, Text ..., Finished. The model is held for the prefill and for each token, not between."""
    device = torch.device(backend.info.device)
    if plan.selected is not None:
        yield plan.selected
    with turns:
        base = _reset_peak(device)
        started = clock(device)
        decoding = Decoding(backend, plan.prompt, plan.run, room=max_new_tokens)
        ids = [int(decoding.logits.argmax())]
        prefill_ms = clock(device) - started - decoding.cut_ms
        peak = None if base is None else torch.cuda.max_memory_allocated(device) - base
    seen = plan.seen(decoding)
    if plan.selected is None:
        yield seen
    held, first_logits = cache_bytes(decoding.cache), decoding.logits.cpu()
    ttft = plan.asked.encoded.encode_ms + plan.asked.query_ms + seen.select_ms + prefill_ms
    yield FirstToken(ids[0], prefill_ms, ttft)

    decode_ms = 0.0
    while ids[-1] not in backend.eos_ids:
        yield Text(backend.decode(ids).rstrip("\ufffd"), ids[-1], len(ids))  # half a character waits for the rest
        if stop.is_set() or len(ids) == max_new_tokens:
            break
        with turns:
            started = clock(device)
            ids.append(int(decoding.push(ids[-1]).argmax()))
            decode_ms += clock(device) - started

    per_token = decode_ms / (len(ids) - 1) if len(ids) > 1 else None
    measured = Measured(
        encode_ms=plan.asked.encoded.encode_ms,
        encode_cached=plan.asked.encoded.cached,
        query_ms=plan.asked.query_ms,
        select_ms=seen.select_ms,
        prefill_ms=prefill_ms,
        ttft_ms=ttft,
        decode_ms=per_token,
        cache_bytes=held,
        peak_bytes=peak,
    )
    counters = _counters(plan, seen.selection, decoding, len(ids), measured, backend.text_config)
    stopped = stop.is_set() and ids[-1] not in backend.eos_ids
    yield Finished(_result(backend, plan.asked, seen.selection, counters, ids, first_logits, stopped))


def declined(backend: Backend, seen: Selected, question: str, understood: Understood) -> Result:
    """The result for a question that the model is not asked: the refusal, and nothing of what it would have done."""
    tokens, layers = seen.encoded.tokens, backend.text_config.num_hidden_layers
    measured = Measured(seen.encoded.encode_ms, seen.encoded.cached, 0.0, seen.select_ms, 0.0, 0.0, None, 0, None)
    computed = Computed(0.0, 0.0, 0.0, 0.0, 0, 0)
    notices = [*seen.encoded.media.notes, *([understood.notice] if understood.notice else [])]
    return Result(
        answer=understood.refusal or "",
        question=question,
        method=seen.method,
        budget=seen.budget,
        model=backend.info.name,
        selection=seen.selection,
        counters=Counters(len(seen.selection), len(tokens), 0, 0, 0, (0,) * layers, measured, computed),
        token_ids=(),
        first_logits=torch.empty(0),
        notice=" ".join(notices) or None,
        declined=True,
    )


def forced_logits(backend: Backend, turns: Turns, plan: Plan, token_ids: Sequence[int]) -> list[Tensor]:
    """The logits before each of the given tokens when the prompt is continued with them."""
    with turns:
        decoding = Decoding(backend, plan.prompt, plan.run)
        logits = [decoding.logits.cpu()]
        for token_id in token_ids[:-1]:
            logits.append(decoding.push(token_id).cpu())
    return logits


def _result(
    backend: Backend,
    asked: Asked,
    selection: Selection,
    counters: Counters,
    ids: list[int],
    first_logits: Tensor,
    stopped: bool,
) -> Result:
    notices = [*asked.encoded.media.notes, *([asked.understood.notice] if asked.understood.notice else [])]
    return Result(
        answer=backend.decode(ids).strip(),
        question=asked.question,
        method=asked.method.name,
        budget=asked.budget,
        model=backend.info.name,
        selection=selection,
        counters=counters,
        token_ids=tuple(ids),
        first_logits=first_logits,
        notice=" ".join(notices) or None,
        stopped=stopped,
    )


def _counters(
    plan: Plan, selection: Selection, decoding: Decoding, generated: int, measured: Measured, config: Any
) -> Counters:
    tokens, prompt = plan.asked.encoded.tokens, plan.prompt
    visual = int(prompt.visual.sum())
    content = int((prompt.source >= 0).sum()) + (0 if selection.inserted is None else len(selection.inserted))
    everything, text = len(tokens) + len(tokens.newlines), len(prompt) - visual
    width = prompt.embeddings.element_size()
    return Counters(
        kept=len(selection),
        total=len(tokens),
        newlines=visual - content,
        text_tokens=text,
        generated=generated,
        entering=decoding.entering,
        measured=measured,
        computed=Computed(
            paper_flops=prefill_flops(decoding.entering, config),
            paper_flops_full=prefill_flops(everything, config),
            flops=full_flops(decoding.lengths, config),
            flops_full=full_flops(everything + text, config),
            kv_bytes=kv_cache_bytes(decoding.lengths, config, width),
            kv_bytes_full=kv_cache_bytes(everything + text, config, width),
        ),
    )


def _reset_peak(device: torch.device) -> int | None:
    """Memory allocated on the GPU before the prefill, None on a CPU."""
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)
