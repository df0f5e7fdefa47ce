"""The part that holds models: it answers requests from its own engines and its own store of pictures.

A worker knows no visitor. It finds pictures by content hash; one that it lacks it asks for, so any worker can take any
request and it costs at most one encoding. Nothing here knows Ray.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from script_core.backends.base import CannotLoad
from script_core.cache import Store
from script_core.engine import Engine
from script_core.media import Media, MediaError
from script_core.pruners.base import CannotPrune
from script_core.report import Encoded, Selected
from script_core.serving.messages import Facts, Missing, Refused, Reply, Request, SentSelection, SentTokens, portable
from script_core.understanding import QuestionError

log = logging.getLogger("script")
SENTENCES = (CannotLoad, CannotPrune, MediaError, QuestionError)
METHODS = ("encode", "select", "forced_logits")  # of a picture; `query` and `decode` have none


class Broken(RuntimeError):
    """The GPU's context is gone, and with it every later call in this process; only a new process helps."""


class Worker:
    """Engines by name, answering requests of any front end.

    engines: what it serves. media_bytes: limit of the store of decoded pictures; encodings are bounded by the engines.
    """

    def __init__(self, engines: Mapping[str, Engine], media_bytes: int = 1 << 28) -> None:
        self._engines = dict(engines)
        self._media: Store[Media] = Store(media_bytes, lambda media: sum(frame.nbytes for frame in media.frames))
        self._running: dict[str, threading.Event] = {}
        self._broken = ""

    @classmethod
    def load(
        cls,
        models: Sequence[str],
        *,
        device: str | None = None,
        held_bytes: int = 1 << 29,
        revisions: Mapping[str, str] | None = None,
    ) -> Worker:
        """Load the models, one after the other. revisions: commits of those on the hub. Raises `CannotLoad`."""
        pinned = revisions or {}
        return cls(
            {
                name: Engine.load(name, device=device, revision=pinned.get(name), held_bytes=held_bytes)
                for name in models
            }
        )

    def describe(self) -> dict[str, Facts]:
        """The models, in the order in which they were given."""
        return {
            name: Facts(engine.info, engine.text_config, frozenset(engine.backend.eos_ids))
            for name, engine in self._engines.items()
        }

    @property
    def streams(self) -> int:
        """How many streams are under way."""
        return len(self._running)

    def check(self) -> None:
        """Raises `Broken` if this process should be replaced."""
        if self._broken:
            raise Broken(self._broken)

    def call(self, request: Request) -> Reply:
        """One finished reply. Raises `Broken`; every other failure is returned as `Refused`."""
        try:
            return portable(self._reply(request))
        except Exception as problem:
            return self._refused(problem)

    def stream(self, request: Request) -> Iterator[Reply]:
        """The events after Encoded, or a single `Missing` or `Refused`. Ends within one token of `stop`."""
        stop = self._running.setdefault(request.run, threading.Event())
        try:
            found = self._found(request)
            if isinstance(found, Missing):
                yield found
                return
            engine, encoded = found
            for event in engine.stream(encoded, **request.arguments, stop=stop):
                if not isinstance(event, Encoded):
                    yield portable(_sent(event))
        except Exception as problem:
            yield self._refused(problem)
        finally:
            stop.set()
            self._running.pop(request.run, None)

    def stop(self, run: str) -> None:
        """End that stream, if it is one of this worker's."""
        event = self._running.get(run)
        if event is not None:
            event.set()

    def _reply(self, request: Request) -> Reply:
        if request.method == "decode":
            return self._engine(request).backend.decode(**request.arguments)
        if request.method == "query":
            return self._engine(request).query(**request.arguments)
        if request.method not in METHODS:
            raise ValueError(f"a worker has no method {request.method!r}")
        found = self._found(request)
        if isinstance(found, Missing):
            return found
        engine, encoded = found
        if request.method == "encode":
            return _sent(encoded)
        return _sent(getattr(engine, request.method)(encoded, **request.arguments))

    def _engine(self, request: Request) -> Engine:
        if request.model not in self._engines:
            raise CannotLoad(f"The workers do not serve {request.model!r}; they serve {', '.join(self._engines)}.")
        engine = self._engines[request.model]
        if (engine.newlines, engine.positions) == (request.newlines, request.positions):
            return engine
        other = copy.copy(engine)  # shares the model, the turns and the stores
        other.newlines, other.positions = request.newlines, request.positions
        return other

    def _found(self, request: Request) -> tuple[Engine, Encoded] | Missing:
        engine = self._engine(request)
        media = request.media
        if media is None:
            media = self._media.get(request.key)
            if media is None:
                return Missing(request.key)
            media = replace(media, notes=request.notes)
        else:
            self._media.put(media.key, media)
        encoded = engine.encode(media)
        return engine, replace(encoded, cached=encoded.cached and not request.fresh)

    def _refused(self, problem: Exception) -> Refused:
        if isinstance(problem, SENTENCES):
            return Refused(problem)
        log.error("a call failed", exc_info=problem)
        if isinstance(problem, torch.OutOfMemoryError):
            torch.cuda.empty_cache()
            return Refused(torch.OutOfMemoryError(str(problem)))
        if isinstance(problem, torch.AcceleratorError):
            self._broken = "the GPU reported an error that a process does not recover from"
            raise Broken(self._broken) from None
        return Refused(RuntimeError(f"{type(problem).__name__} in a model worker; its log says more"))


def _sent(value: Any) -> Any:
    """The value without what the front end has."""
    if isinstance(value, Encoded):
        return SentTokens(value.key, value.tokens, value.encode_ms, value.cached)
    if isinstance(value, Selected):
        return SentSelection(value.selection, value.select_ms, value.query, value.method, value.budget)
    return value
