"""Ask a picture a question and keep only the visual tokens that the answer needs.

    encode(media) -> select(tokens, query) -> prefill -> decode

`stream` yields each stage as an event, `ask` returns the finished result, `select` stops before the language model
(for sliders). An engine has no current picture: everything that a call needs is in its arguments, and encodings are
kept in one bounded store by content. It may be used from many threads; work on the model is done in turns.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from script_core import answering
from script_core.answering import Asked
from script_core.backends.base import Backend, ModelInfo
from script_core.cache import Store, Turns
from script_core.fidelity import Comparison, agreement, kl, mean_kl
from script_core.media import Media, read_media
from script_core.prefill import Decoding, clock
from script_core.pruners.base import NEEDS, CannotPrune, InsidePruner, Pruner
from script_core.report import Encoded, Event, Finished, Result, Selected
from script_core.tokens import Query
from script_core.understanding import QuestionError as QuestionError
from script_core.understanding import Understood as Understood
from script_core.understanding import check, in_short, in_sticker_words

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    Readable = Media | str | Path | bytes | Image.Image | np.ndarray

AnyPruner = str | Pruner | InsidePruner
MAX_ANSWER = 1024  # tokens


class Engine:
    """One loaded model and everything that is asked of it.

    newlines: what happens to separators between rows of tiles once anything is pruned: "drop", or "row" to keep those
    of rows that still hold a token. positions: "compact" renumbers what is kept, "original" does not.
    held_bytes: limit of the store of encoded pictures, whose tokens lie on the model's device.
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
        frames: int | None = None,
        pool_mode: str | None = None,
        revision: str | None = None,
        **options: Any,
    ) -> Engine:
        """The embedded model (nothing given), a checkpoint folder, or a hub id.

        device: default a GPU if there is one. dtype: default 16 bits on a GPU and float32 elsewhere. frames: how many
        of a video are read, default the family's own number. pool_mode: of LLaVA-Video's frames, "average" or
        "bilinear". revision: a commit of a model on the hub. Other options are the constructor's. Raises `CannotLoad`.
        """
        from script_core.backends import load

        read = load(name_or_path, device=device, dtype=dtype, frames=frames, pool_mode=pool_mode, revision=revision)
        return cls(read, **options)

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
        return Encoded(found.key, found.tokens, media, found.encode_ms, cached=True)

    def forget(self) -> None:
        """Let go of all held encodings, as when memory has run out; the next question encodes anew."""
        self._encoded.clear()
        self._queries.clear()

    def query(self, question: str) -> Query:
        """The question's embeddings. Raises `QuestionError`."""
        return self._query(self.understand(question).text)[0]

    def understand(self, question: str) -> Understood:
        """The question as the model is asked it; for the embedded model, in the words that it knows.

        Raises `QuestionError` if the question is empty or longer than 2,000 characters.
        """
        text = check(question)
        return in_sticker_words(text) if self.info.only_stickers else Understood(text)

    def require(self, question: str) -> Understood:
        """The same where a refusal is of no use. Raises `QuestionError` for a word that the model does not know."""
        understood = self.understand(question)
        if understood.refusal:
            raise QuestionError(f"{understood.refusal} {in_short()}")
        return understood

    def select(
        self, media: Readable | Encoded, question: str, *, pruner: AnyPruner = "script", budget: int = 64
    ) -> Selected:
        """Which tokens a method keeps, without running the language model.

        Methods that work inside the language model need its prefill, and get one. Raises `CannotPrune`.
        """
        asked = self._asked(media, question, find_pruner(pruner), budget)
        selection, run, spent = answering.choose(asked, self.text_config.num_hidden_layers, self._device)
        if selection is not None:
            return answering.selected(asked, selection, spent)
        plan = answering.make_plan(self.backend, self._turns, asked, self.newlines, self.positions)
        with self._turns:
            return plan.seen(Decoding(self.backend, plan.prompt, plan.run))

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

        A question with a word that the embedded model does not know is not asked: the series is then Encoded, Selected
        and Finished with a `declined` result.

        An unusable picture, question, method or answer length is raised here, before the first event (`MediaError`,
        `QuestionError`, `CannotPrune`); a budget that the method cannot reach, when it comes to that.
        """
        if not 1 <= max_new_tokens <= MAX_ANSWER:
            raise QuestionError(f"The answer can have 1 to {MAX_ANSWER} tokens, not {max_new_tokens}.")
        method = find_pruner(pruner)
        self._check(method)
        self.understand(question)
        source = media if isinstance(media, Encoded) else read_media(media, self.info.frames)
        return self._events(source, question, method, budget, max_new_tokens, stop or threading.Event())

    def _events(
        self,
        media: Media | Encoded,
        question: str,
        method: Any,
        budget: int,
        max_new_tokens: int,
        stop: threading.Event,
    ) -> Iterator[Event]:
        encoded = self.encode(media)
        yield encoded
        understood = self.understand(question)
        if understood.refusal:
            seen = self.select(encoded, question, pruner=method, budget=budget)
            yield seen
            yield Finished(answering.declined(self.backend, seen, question, understood))
            return
        plan = self._plan(self._asked(encoded, question, method, budget))
        yield from answering.answer(self.backend, self._turns, plan, max_new_tokens, stop)

    def ask(
        self,
        media: Readable | Encoded,
        question: str,
        *,
        pruner: AnyPruner = "script",
        budget: int = 64,
        max_new_tokens: int = 64,
        stop: threading.Event | None = None,
    ) -> Result:
        """The finished answer, as far as it got if `stop` was set. Raises what `stream` raises."""
        events = self.stream(media, question, pruner=pruner, budget=budget, max_new_tokens=max_new_tokens, stop=stop)
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
        """How far answers with all tokens and with few are apart. Raises what `stream` and `require` raise."""
        self.require(question)
        encoded = self.encode(media)
        every = len(encoded.tokens)
        full = self.ask(encoded, question, pruner="full", budget=every, max_new_tokens=max_new_tokens)
        pruned = self.ask(encoded, question, pruner=pruner, budget=budget, max_new_tokens=max_new_tokens)
        theirs, ours = (
            self.forced_logits(encoded, question, full.token_ids, pruner=method, budget=count)
            for method, count in (("full", every), (pruner, budget))
        )
        return Comparison(
            full=full,
            pruned=pruned,
            kl_first=kl(theirs[0], ours[0]),
            kl_answer=mean_kl(theirs, ours),
            agreement=agreement(theirs, ours),
            same=full.answer == pruned.answer,
        )

    def forced_logits(
        self,
        media: Readable | Encoded,
        question: str,
        token_ids: Sequence[int],
        *,
        pruner: AnyPruner = "script",
        budget: int = 64,
    ) -> list[torch.Tensor]:
        """The logits (V,) before each of these tokens when they are the answer. Raises what `require` raises."""
        self.require(question)
        plan = self._plan(self._asked(media, question, find_pruner(pruner), budget))
        return answering.forced_logits(self.backend, self._turns, plan, token_ids)

    @property
    def _device(self) -> torch.device:
        return torch.device(self.info.device)

    def _asked(self, media: Readable | Encoded, question: str, method: Any, budget: int) -> Asked:
        self._check(method)
        understood = self.understand(question)
        encoded = self.encode(media)
        query, spent = self._query(understood.text)
        return Asked(question, understood, encoded, query, spent, method, budget)

    def _plan(self, asked: Asked) -> answering.Plan:
        return answering.make_plan(self.backend, self._turns, asked, self.newlines, self.positions)

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
            wanted = " and ".join(NEEDS.get(need, need) for need in lacking)
            raise CannotPrune(f"{method.title} needs {wanted}, which {self.info.name} does not offer.")


def find_pruner(pruner: AnyPruner) -> Any:
    """An instance for a registry name (with its defaults), or the instance itself. Raises `CannotPrune`."""
    if not isinstance(pruner, str):
        return pruner
    from script_core.pruners import PRUNERS

    if pruner not in PRUNERS:
        raise CannotPrune(f"There is no method {pruner!r}; the methods are {', '.join(PRUNERS)}.")
    return PRUNERS[pruner]()


def _size(held: Any) -> int:
    return 0 if held is None else int(held.nbytes)
