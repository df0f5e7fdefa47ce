"""What follows from one encoding alone, kept beside it for as long as it lives: similarities, graphs, walks.

Bounded twice: so many values per encoding, and so many bytes over all encodings of the process, the least recently used
going first. A dense matrix of similarities is often ten times as large as the tokens that it belongs to.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from script_core.tokens import VisualTokens

T = TypeVar("T")

# Walks and graphs held per encoding. A page uses about three per question.
PER_ENCODING = 24


@dataclass(slots=True)
class _Entry:
    value: Any
    size: int
    used: int


class Derived:
    """Remembers values beside encodings, up to `limit` bytes in all. Safe between threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: weakref.WeakKeyDictionary[VisualTokens, OrderedDict[Hashable, _Entry]] = weakref.WeakKeyDictionary()
        self._guard = threading.RLock()  # an encoding may end, and be taken out, while it is held
        self._clock = itertools.count()

    def __len__(self) -> int:
        return len(self._held)

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        with self._guard:
            return sum(entry.size for held in list(self._held.values()) for entry in held.values())

    def of(self, tokens: VisualTokens, key: Hashable, build: Callable[[], T]) -> T:
        """`build()`, remembered beside `tokens` under `key`.

        Two threads that ask at the same time may both build, and both get the value stored first. The value must not
        refer to `tokens`, which would keep it alive for ever.
        """
        with self._guard:
            held = self._held.setdefault(tokens, OrderedDict())
            if key in held:
                held.move_to_end(key)
                held[key].used = next(self._clock)
                return held[key].value
        value = build()
        size = nbytes(value)
        with self._guard:
            entry = held.setdefault(key, _Entry(value, size, next(self._clock)))
            while len(held) > PER_ENCODING:
                held.popitem(last=False)
            self._shrink()
        return entry.value

    def _shrink(self) -> None:
        excess = self.nbytes - self._limit
        if excess <= 0:
            return
        everything = [(entry.used, key, held) for held in list(self._held.values()) for key, entry in held.items()]
        for _, key, held in sorted(everything, key=lambda item: item[0]):
            if excess <= 0:
                return
            excess -= held.pop(key).size


def nbytes(value: Any) -> int:
    """Bytes of the arrays and tensors within a value: a container, or an object that holds them as attributes."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if isinstance(value, tuple | list):
        return sum(map(nbytes, value))
    return sum(map(nbytes, vars(value).values())) if hasattr(value, "__dict__") else 0


_DERIVED = Derived(1 << 29)
derived = _DERIVED.of
