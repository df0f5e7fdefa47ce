"""An engine whose model is elsewhere. It is an `Engine` to whoever uses it, so the page takes either."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch

from script_core.backends.base import Backend
from script_core.engine import AnyPruner, Engine, find_pruner
from script_core.media import Media, read_media
from script_core.report import Encoded, Event, Selected
from script_core.serving.messages import Facts, Missing, Refused, Reply, Request, SentSelection, SentTokens
from script_core.serving.replay import again, once
from script_core.tokens import Query
from script_core.understanding import check

if TYPE_CHECKING:
    from script_core.engine import Readable


class Cluster(Protocol):
    """Some workers behind one address. `affinity` is a hint: calls with the same one should reach the same worker.

    Raises `Lost` if the worker that had the call is gone, `Busy` if too many calls wait, `Unreachable` if none can be
    taken.
    """

    def call(self, request: Request, affinity: str) -> Reply:
        """`Worker.call` of one worker."""
        ...

    def stream(self, request: Request, affinity: str) -> Generator[Reply, None, None]:
        """`Worker.stream` of one worker; closing it ends the work there."""
        ...

    def stop(self, run: str) -> None:
        """`Worker.stop` of all workers; does not wait for them."""
        ...


class Distant:
    """What is read of a backend that is elsewhere: facts, and ids to text. It encodes and builds nothing."""

    def __init__(self, facts: Facts, decode: Callable[[list[int]], str]) -> None:
        self.info = facts.info
        self.family = facts.info.family
        self.text_config = facts.text_config
        self.eos_ids = facts.eos_ids
        self.decode = decode


class RemoteEngine(Engine):
    """One model of a cluster. Visual tokens that were fetched are kept in a store of at most `held_bytes`.

    Encoding, selecting and answering happen in a worker; the encoder's inner states stay there, so that
    `Encoded.tokens.encoder` is None here. Times in the events are the worker's. When a worker dies another one is
    asked (see `replay`). Raises what `Engine` raises, and `Busy` and `Unreachable`, which are `CannotLoad`s.
    """

    def __init__(
        self,
        cluster: Cluster,
        model: str,
        facts: Facts,
        *,
        newlines: str = "drop",
        positions: str = "compact",
        held_bytes: int = 1 << 28,
    ) -> None:
        backend = cast(Backend, Distant(facts, self._decode))
        super().__init__(backend, newlines=newlines, positions=positions, held_bytes=held_bytes)
        self._cluster = cluster
        self._model = model

    def encode(self, media: Readable | Encoded) -> Encoded:
        """The picture's visual tokens, from this store or a worker's. Raises `MediaError`."""
        if isinstance(media, Encoded):
            return media
        media = read_media(media, self.info.frames)
        found = self._encoded.get(media.key)
        if found is not None:
            return replace(found, media=media, cached=True)
        sent: SentTokens = self._call("encode", media)
        fresh = Encoded(sent.key, sent.tokens, media, sent.encode_ms, sent.cached)
        self._encoded.put(media.key, fresh)
        return fresh

    def query(self, question: str) -> Query:
        """The question's embeddings. Raises `QuestionError`."""
        query: Query = self._call("query", None, question=check(question))
        return query

    def select(
        self, media: Readable | Encoded, question: str, *, pruner: AnyPruner = "script", budget: int = 64
    ) -> Selected:
        """Which tokens a method keeps, without running the language model. Raises `CannotPrune`."""
        method = find_pruner(pruner)
        self._check(method)
        encoded = self.encode(media)
        return _selected(self._call("select", encoded, question=question, pruner=method, budget=budget), encoded)

    def forced_logits(
        self,
        media: Readable | Encoded,
        question: str,
        token_ids: Sequence[int],
        *,
        pruner: AnyPruner = "script",
        budget: int = 64,
    ) -> list[torch.Tensor]:
        """The logits (V,) before each of the given tokens when the answer is forced to be these tokens."""
        method = find_pruner(pruner)
        self._check(method)
        logits: list[torch.Tensor] = self._call(
            "forced_logits", self.encode(media), question=question, token_ids=list(token_ids), pruner=method,
            budget=budget,
        )  # fmt: skip
        return logits

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
        asked = {"question": question, "pruner": method, "budget": budget, "max_new_tokens": max_new_tokens}
        request = self._request("stream", encoded, asked)
        events = once(lambda: self._attempt(request, encoded.media, stop))
        for event in events:
            yield _selected(event, encoded) if isinstance(event, SentSelection) else event

    def _attempt(self, request: Request, media: Media, stop: threading.Event) -> Iterator[Any]:
        """One worker's events; the worker is told once if `stop` is set."""
        request = replace(request, run=uuid.uuid4().hex)
        told = False
        events = self._cluster.stream(request, request.key)
        try:
            for reply in events:
                if isinstance(reply, Missing):
                    yield from self._attempt(replace(request, media=media), media, stop)
                    return
                if stop.is_set() and not told:
                    self._cluster.stop(request.run)
                    told = True
                yield _accepted(reply)
        finally:
            events.close()

    def _call(self, method: str, media: Media | Encoded | None, **arguments: Any) -> Any:
        request = self._request(method, media, arguments)
        pixels = media.media if isinstance(media, Encoded) else media

        def attempt() -> Reply:
            reply = self._cluster.call(request, request.key)
            if isinstance(reply, Missing):
                reply = self._cluster.call(replace(request, media=pixels), request.key)
            return reply

        return _accepted(again(attempt))

    def _request(self, method: str, media: Media | Encoded | None, arguments: dict[str, Any]) -> Request:
        fresh = isinstance(media, Encoded) and not media.cached
        seen = media.media if isinstance(media, Encoded) else media
        key, notes = ("", ()) if seen is None else (seen.key, seen.notes)
        return Request(
            self._model, method, key, arguments, notes=notes, newlines=self.newlines, positions=self.positions,
            fresh=fresh,
        )  # fmt: skip

    def _decode(self, token_ids: list[int]) -> str:
        return str(self._call("decode", None, token_ids=list(token_ids)))


def _accepted(reply: Reply) -> Any:
    if isinstance(reply, Refused):
        raise reply.problem
    return reply


def _selected(sent: SentSelection, encoded: Encoded) -> Selected:
    return Selected(sent.selection, sent.select_ms, encoded, sent.query, sent.method, sent.budget)
