"""Ask a picture a question and keep only the visual tokens that the answer needs.

    encode(media) -> select(tokens, query) -> prefill -> decode

`stream` yields each stage as an event, `ask` returns the finished result, `select` stops before the language model
(for sliders). An engine has no current picture: everything that a call needs is in its arguments, and encodings are
kept in one bounded store by content. It may be used from many threads; work on the model is done in turns.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from script_core.backends.base import Backend, ModelInfo, Prompt
from script_core.cache import Store, Turns
from script_core.counters import Computed, Counters, Measured, cache_bytes, full_flops, kv_cache_bytes, prefill_flops
from script_core.fidelity import Comparison, agreement, kl, mean_kl
from script_core.media import Media, read_media
from script_core.prefill import Decoding, clock
from script_core.pruners.base import CannotPrune, InsidePruner, InsideRun, Pruner, check_budget
from script_core.report import Encoded, Event, Finished, FirstToken, Result, Selected, Text
from script_core.tokens import Query, Selection

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    Readable = Media | str | Path | bytes | Image.Image | np.ndarray

AnyPruner = str | Pruner | InsidePruner
MAX_QUESTION = 2000  # characters
MAX_ANSWER = 1024  # tokens


class QuestionError(ValueError):
    """A question cannot be asked; the message is one sentence for the reader."""


@dataclass(frozen=True)
class Understood:
    """What the model is asked instead of what was typed, and a sentence about words that it does not know."""

    text: str
    notice: str | None = None


class Engine:
    """One loaded model and everything that is asked of it.

    newlines: what happens to separators between rows of tiles once anything is pruned: "drop", or "row" to keep those
    of rows that still hold a token. positions: "compact" renumbers what is kept, "original" does not.
    held_bytes: limit of the store of encoded pictures.
    """

    def __init__(
        self, backend: Backend, *, newlines: str = "drop", positions: str = "compact", held_bytes: int = 1 << 29
    ) -> None:
        if newlines not in ("drop", "row") or positions not in ("compact", "original"):
            raise ValueError("newlines is 'drop' or 'row', and positions is 'compact' or 'original'")
        self.backend = backend
        self.newlines = newlines
        self.positions = positions
        self._turns = Turns()
        self._encoded: Store[Encoded] = Store(held_bytes, lambda e: e.tokens.nbytes() + sum(map(_size, e.media.frames)))
        self._queries: Store[Query] = Store(1 << 26, lambda q: _size(q.features) + _size(q.joint) + 256)

    @classmethod
    def load(
        cls,
        name_or_path: str | Path | None = None,
        *,
        device: str | None = None,
        dtype: str | torch.dtype | None = None,
        **options: Any,
    ) -> Engine:
        """The embedded model (nothing given), a checkpoint folder, or a hub id.

        device: default a GPU if there is one. dtype: default float16 on a GPU and float32 elsewhere. Further options
        are those of the constructor. Raises `CannotLoad`.
        """
        from script_core.backends import load

        return cls(load(name_or_path, device=device, dtype=dtype), **options)

    @property
    def info(self) -> ModelInfo:
        return self.backend.info

    @property
    def text_config(self) -> Any:
        """The language model's config, as `counters` wants it."""
        return self.backend.text_config

    def encode(self, media: Readable | Encoded) -> Encoded:
        """The picture's visual tokens, from the store if they are there. Raises `MediaError`."""
        if isinstance(media, Encoded):
            return media
        media = read_media(media, self.info.frames)
        key = f"{self.info.source}|{self.info.family}|{self.info.dtype}|{media.key}"
        found = self._encoded.get(key)
        if found is None:
            with self._turns:
                found = self._encoded.get(key)  # another visitor may have encoded it while we waited
                if found is None:
                    started = clock(self._device)
                    tokens = self.backend.encode(media)
                    fresh = Encoded(key, tokens, media, clock(self._device) - started, cached=False)
                    self._encoded.put(key, fresh)
                    return fresh
        return Encoded(found.key, found.tokens, found.media, found.encode_ms, cached=True)

    def query(self, question: str) -> Query:
        """The question's embeddings. Raises `QuestionError`."""
        return self._query(self.understand(question).text)[0]

    def understand(self, question: str) -> Understood:
        """The question as the model is asked it; for the embedded model, in the words that it knows.

        Raises `QuestionError` if the question is empty or longer than 2,000 characters.
        """
        if not isinstance(question, str) or not question.strip():
            raise QuestionError("Type a question about the picture first.")
        if len(question) > MAX_QUESTION:
            raise QuestionError(
                f"The question has {len(question):,} characters; at most {MAX_QUESTION:,} fit, so make it shorter."
            )
        question = question.strip().encode("utf-8", "replace").decode("utf-8")  # half of a surrogate pair becomes "?"
        if not self.info.only_stickers:
            return Understood(question)
        from script_core.stickers.catalogue import NAMES
        from script_core.stickers.language import understand

        heard = understand(question)
        notice = None
        if heard.unknown:
            words = ", ".join(f'"{word}"' for word in heard.unknown[:5])
            notice = f"I do not know {words}. I only know these {len(NAMES)} things: {', '.join(NAMES)}."
        elif not heard.taught:
            notice = "I was not taught questions of this form, so this answer is a guess."
        return Understood(heard.text or question, notice)

    def select(
        self, media: Readable | Encoded, question: str, *, pruner: AnyPruner = "script", budget: int = 64
    ) -> Selected:
        """Which tokens a method keeps, without running the language model.

        Methods that work inside the language model need its prefill, and get one. Raises `CannotPrune`.
        """
        method = find_pruner(pruner)
        understood = self.understand(question)
        self._check(method)
        encoded = self.encode(media)
        query, _ = self._query(understood.text)
        plan = self._plan(method, encoded, query, understood.text, budget)
        if plan.selected is not None:
            return plan.selected
        with self._turns:
            decoding = Decoding(self.backend, plan.prompt, plan.run)
        return plan.seen(decoding)

    def stream(
        self,
        media: Readable | Encoded,
        question: str,
        *,
        pruner: AnyPruner = "script",
        budget: int = 64,
        max_new_tokens: int = 64,
        stop: threading.Event | None = None,
    ) -> Iterator[Event]:
        """Answer greedily, as a series of events (see `report`); setting `stop` ends it within one token.

        What is wrong with the arguments is raised here, before the first event: `MediaError`, `QuestionError`,
        `CannotPrune`.
        """
        if not 1 <= max_new_tokens <= MAX_ANSWER:
            raise QuestionError(f"The answer can have 1 to {MAX_ANSWER} tokens, not {max_new_tokens}.")
        method = find_pruner(pruner)
        understood = self.understand(question)
        self._check(method)
        source = media if isinstance(media, Encoded) else read_media(media, self.info.frames)
        return self._events(source, question, understood, method, budget, max_new_tokens, stop or threading.Event())

    def ask(
        self,
        media: Readable | Encoded,
        question: str,
        *,
        pruner: AnyPruner = "script",
        budget: int = 64,
        max_new_tokens: int = 64,
    ) -> Result:
        """The finished answer. Raises what `stream` raises."""
        events = self.stream(media, question, pruner=pruner, budget=budget, max_new_tokens=max_new_tokens)
        return [event.result for event in events if isinstance(event, Finished)][0]

    def compare(
        self,
        media: Readable | Encoded,
        question: str,
        *,
        pruner: AnyPruner = "script",
        budget: int = 64,
        max_new_tokens: int = 64,
    ) -> Comparison:
        """Answer with all tokens and with few, and measure how far apart the two are (see `fidelity`)."""
        encoded = self.encode(media)
        total = len(encoded.tokens)
        options = {"max_new_tokens": max_new_tokens}
        full = self.ask(encoded, question, pruner="full", budget=total, **options)
        pruned = self.ask(encoded, question, pruner=pruner, budget=budget, **options)
        theirs = self._forced(encoded, question, find_pruner("full"), total, full.token_ids)
        ours = self._forced(encoded, question, find_pruner(pruner), budget, full.token_ids)
        return Comparison(
            full,
            pruned,
            kl(theirs[0], ours[0]),
            mean_kl(theirs, ours),
            agreement(theirs, ours),
            full.answer == pruned.answer,
        )

    def _forced(
        self, encoded: Encoded, question: str, method: Any, budget: int, token_ids: tuple[int, ...]
    ) -> list[torch.Tensor]:
        """The logits of every step when the prompt is continued with the given tokens."""
        text = self.understand(question).text
        plan = self._plan(method, encoded, self._query(text)[0], text, budget)
        with self._turns:
            decoding = Decoding(self.backend, plan.prompt, plan.run)
            logits = [decoding.logits.cpu()]
            for token_id in token_ids[:-1]:
                logits.append(decoding.push(token_id).cpu())
        return logits

    @property
    def _device(self) -> torch.device:
        return torch.device(self.info.device)

    def _query(self, text: str) -> tuple[Query, float]:
        key = hashlib.sha256(text.encode()).hexdigest()
        found = self._queries.get(key)
        if found is not None:
            return found, 0.0
        with self._turns:
            started = clock(self._device)
            query = self.backend.query(text)
            spent = clock(self._device) - started
        self._queries.put(key, query)
        return query, spent

    def _check(self, method: Any) -> None:
        lacking = sorted(method.needs - self.info.offers)
        if lacking:
            wanted = " and ".join(_NEEDS.get(need, need) for need in lacking)
            raise CannotPrune(f"{method.title} needs {wanted}, which {self.info.name} does not offer.")

    def _plan(self, method: Any, encoded: Encoded, query: Query, text: str, budget: int) -> _Plan:
        tokens = encoded.tokens
        allowed = check_budget(budget, len(tokens))
        started = clock(self._device)
        run: InsideRun | None = None
        selection: Selection | None = None
        if method.acts == "inside":
            run = method.begin(tokens, query, allowed, self.text_config.num_hidden_layers)
            pruned = allowed < len(tokens)
        else:
            selection = method.select(tokens, query, allowed)
            pruned = selection.inserted is not None or len(selection.kept) < len(tokens)
            if pruned and len(selection) != allowed:
                raise RuntimeError(f"{method.name} kept {len(selection)} tokens when it was asked for {allowed}")
        spent = clock(self._device) - started
        newlines = ("row" if self.newlines == "row" else "none") if pruned else "all"
        positions = self.positions if pruned else "compact"
        with self._turns:  # tokenizers are not safe to share either
            prompt = self.backend.build(text, tokens, selection, newlines=newlines, positions=positions)
        return _Plan(encoded, query, method.name, budget, prompt, spent, selection, run)

    def _events(
        self,
        media: Media | Encoded,
        question: str,
        understood: Understood,
        method: Any,
        budget: int,
        max_new_tokens: int,
        stop: threading.Event,
    ) -> Iterator[Event]:
        encoded = self.encode(media)
        yield encoded
        query, query_ms = self._query(understood.text)
        plan = self._plan(method, encoded, query, understood.text, budget)
        if plan.selected is not None:
            yield plan.selected
        with self._turns:
            base = self._reset_peak()
            started = clock(self._device)
            decoding = Decoding(self.backend, plan.prompt, plan.run)
            chosen = int(decoding.logits.argmax())
            spent = clock(self._device) - started
            peak = self._peak_since(base)
        selected = plan.selected or plan.seen(decoding)
        if plan.selected is None:
            yield selected
        held = cache_bytes(decoding.cache)
        first_logits = decoding.logits.cpu()
        prefill_ms = spent - decoding.cut_ms
        ttft = encoded.encode_ms + query_ms + selected.select_ms + prefill_ms
        yield FirstToken(chosen, prefill_ms, ttft)

        ids, text, decode_ms = [chosen], "", 0.0
        while ids[-1] not in self.backend.eos_ids:
            text = self.backend.decode(ids).rstrip("\ufffd")  # half of a character: wait for the rest
            yield Text(text, ids[-1], len(ids))
            if stop.is_set() or len(ids) == max_new_tokens:
                break
            with self._turns:
                started = clock(self._device)
                ids.append(int(decoding.push(ids[-1]).argmax()))
                decode_ms += clock(self._device) - started

        measured = Measured(
            encoded.encode_ms,
            encoded.cached,
            query_ms,
            selected.select_ms,
            prefill_ms,
            ttft,
            decode_ms / (len(ids) - 1) if len(ids) > 1 else None,
            held,
            peak,
        )
        yield Finished(
            Result(
                answer=self.backend.decode(ids).strip(),
                question=question,
                method=method.name,
                budget=budget,
                model=self.info.name,
                selection=selected.selection,
                counters=self._counters(plan, selected.selection, decoding, len(ids), measured),
                token_ids=tuple(ids),
                first_logits=first_logits,
                notice=" ".join((*encoded.media.notes, *([understood.notice] if understood.notice else []))) or None,
                stopped=stop.is_set() and ids[-1] not in self.backend.eos_ids,
            )
        )

    def _counters(
        self, plan: _Plan, selection: Selection, decoding: Decoding, generated: int, measured: Measured
    ) -> Counters:
        tokens, config = plan.encoded.tokens, self.text_config
        text = len(plan.prompt) - int(plan.prompt.visual.sum())
        everything = len(tokens) + len(tokens.newlines)
        width = torch.empty((), dtype=plan.prompt.embeddings.dtype).element_size()
        return Counters(
            kept=len(selection),
            total=len(tokens),
            newlines=int((plan.prompt.visual & (plan.prompt.source < 0)).sum()) - _merged(selection),
            text_tokens=text,
            generated=generated,
            entering=decoding.entering,
            measured=measured,
            computed=Computed(
                prefill_flops(decoding.entering, config),
                prefill_flops(everything, config),
                full_flops(decoding.lengths, config),
                full_flops(everything + text, config),
                kv_cache_bytes(decoding.lengths, config, width),
                kv_cache_bytes(everything + text, config, width),
            ),
        )

    def _reset_peak(self) -> int | None:
        if self._device.type != "cuda":
            return None
        torch.cuda.reset_peak_memory_stats(self._device)
        return torch.cuda.memory_allocated(self._device)

    def _peak_since(self, base: int | None) -> int | None:
        return None if base is None else torch.cuda.max_memory_allocated(self._device) - base


@dataclass(frozen=True, eq=False)
class _Plan:
    """Everything decided before the language model runs; `run` instead of `selection` for in-model methods."""

    encoded: Encoded
    query: Query
    method: str
    budget: int
    prompt: Prompt
    spent_ms: float
    selection: Selection | None
    run: InsideRun | None

    @property
    def selected(self) -> Selected | None:
        if self.selection is None:
            return None
        return Selected(self.selection, self.spent_ms, self.encoded, self.query, self.method, self.budget)

    def seen(self, decoding: Decoding) -> Selected:
        """What the in-model method kept, known now that its prefill has run."""
        assert self.run is not None
        spent = self.spent_ms + decoding.cut_ms
        return Selected(self.run.selection(), spent, self.encoded, self.query, self.method, self.budget)


def find_pruner(pruner: AnyPruner) -> Any:
    """An instance for a registry name (with its defaults), or the instance itself. Raises `CannotPrune`."""
    if not isinstance(pruner, str):
        return pruner
    from script_core.pruners import PRUNERS

    if pruner not in PRUNERS:
        raise CannotPrune(f"There is no method {pruner!r}; the methods are {', '.join(PRUNERS)}.")
    return PRUNERS[pruner]()


_NEEDS = {
    "joint": "an image-text space of the vision encoder",
    "cls_attention": "the CLS attention of the vision encoder",
    "encoder": "the inner states of the vision encoder",
    "in_model": "access to the language model's layers",
}


def _size(held: Any) -> int:
    return 0 if held is None else int(held.nbytes)


def _merged(selection: Selection) -> int:
    """Rows of the prompt that are neither content tokens nor newlines."""
    return 0 if selection.inserted is None else int(selection.inserted.shape[0])
