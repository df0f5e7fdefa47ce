"""A bounded, thread-safe, content-addressed store (LRU), and a lock that serves waiting threads in order.

One store per engine holds encoded pictures for all visitors: keys are hashes of content, so nobody has a "current"
picture, and two people who upload the same one share one encoding.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Store(Generic[Value]):
    """Least recently used values up to `limit` bytes, as counted by `size`.

    A value larger than the whole limit is returned to its maker but not held.
    """

    def __init__(self, limit: int, size: Callable[[Value], int]) -> None:
        self._limit = limit
        self._size = size
        self._held: OrderedDict[str, tuple[Value, int]] = OrderedDict()
        self._bytes = 0
        self._guard = threading.Lock()

    def get(self, key: str) -> Value | None:
        """The value, which becomes the most recently used one; None if it is not here."""
        with self._guard:
            if key not in self._held:
                return None
            self._held.move_to_end(key)
            return self._held[key][0]

    def put(self, key: str, value: Value) -> None:
        """Hold the value, dropping the least recently used ones until everything fits."""
        size = self._size(value)
        with self._guard:
            if key in self._held:
                self._bytes -= self._held.pop(key)[1]
            if size > self._limit:
                return
            self._held[key] = (value, size)
            self._bytes += size
            while self._bytes > self._limit:
                self._bytes -= self._held.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Let go of everything."""
        with self._guard:
            self._held.clear()
            self._bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return self._bytes


class Turns:
    """A lock that is granted in the order in which it was asked for.

    `threading.Lock` lets the thread that just released it take it again at once, so that of two answers being
    streamed one would wait until the other is finished; with turns they alternate token by token.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> Turns:
        with self._guard:
            if not self._taken:
                self._taken = True
                return self
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        try:
            mine.acquire()  # released by whoever hands the turn over
        except BaseException:  # interrupted while waiting: the turn must not go to somebody who has left
            self._leave(mine)
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        with self._guard:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._waiting:
            self._waiting.popleft().release()
        else:
            self._taken = False

    def _leave(self, mine: threading.Lock) -> None:
        with self._guard:
            if mine in self._waiting:
                self._waiting.remove(mine)
            else:  # it had just been granted
                self._hand_over()
