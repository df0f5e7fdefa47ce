"""What is kept beside an encoding: built once, bounded, gone with it."""

from __future__ import annotations

import gc

import numpy as np
import torch

from script_core import similarity
from script_core.derived import PER_ENCODING, Derived, nbytes
from tests import made


def test_bytes_are_counted_wherever_they_lie() -> None:
    assert nbytes((torch.zeros(3), [np.zeros(2), 5])) == 12 + 16
    known = similarity.per_block(torch.rand(6, 4), [torch.arange(4), torch.arange(4, 6)])
    assert nbytes(known) == 8 * (4 + 2) + 8 * (16 + 4)
    assert nbytes(similarity.LazyRows(torch.rand(6, 4))) == 6 * 4 * 8


def test_the_least_recently_used_goes_first_whoever_it_belongs_to() -> None:
    held, one, other = Derived(30), made.tokens(side=3), made.tokens(side=3)
    built: list[str] = []

    def value(tokens: object, key: str) -> None:
        held.of(tokens, key, lambda: built.append(key) or np.zeros(10, np.uint8))  # type: ignore[arg-type]

    value(one, "a")
    value(other, "b")
    value(one, "c")
    value(one, "a")
    assert built == ["a", "b", "c"] and held.nbytes == 30
    value(other, "d")  # 40 bytes: "b" was used longest ago
    assert held.nbytes == 30
    value(one, "a")
    value(one, "c")
    assert built == ["a", "b", "c", "d"]
    value(other, "b")
    assert built[-1] == "b" and held.nbytes == 30


def test_a_value_larger_than_the_limit_is_handed_out_and_not_held() -> None:
    held, tokens = Derived(5), made.tokens(side=3)
    assert len(held.of(tokens, "x", lambda: np.zeros(9, np.uint8))) == 9
    assert held.nbytes == 0


def test_so_many_values_per_encoding_and_none_after_it() -> None:
    held, tokens = Derived(1 << 20), made.tokens(side=3)
    for key in range(PER_ENCODING + 5):
        held.of(tokens, key, lambda: np.zeros(1, np.uint8))
    assert held.nbytes == PER_ENCODING and len(held) == 1
    del tokens
    gc.collect()
    assert held.nbytes == 0 and len(held) == 0
