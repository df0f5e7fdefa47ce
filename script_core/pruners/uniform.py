"""Evenly spaced tokens: subsampling that looks at nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from script_core import similarity
from script_core.pruners.base import check_budget, split_budget
from script_core.tokens import Query, Selection, VisualTokens


@dataclass(frozen=True)
class Uniform:
    """Every (n / m)-th token of each crop or frame, the first half a step in, in reading order.

    The sets of two budgets are not nested.
    """

    scope: str = "crop"

    name: ClassVar[str] = "uniform"
    title: ClassVar[str] = "Uniform"
    acts: ClassVar[str] = "before"
    reads_question: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset()

    def select(self, tokens: VisualTokens, query: Query, budget: int) -> Selection:
        budget = check_budget(budget, len(tokens))
        members = similarity.members(tokens, self.scope)
        shares = split_budget(budget, [len(index) for index in members])
        kept = [index[spaced(len(index), share)] for index, share in zip(members, shares, strict=True)]
        return Selection.of(torch.cat(kept), len(tokens))


def spaced(total: int, count: int) -> torch.Tensor:
    """`count` evenly spaced indices below `total`, all different because `count <= total`."""
    return (2 * torch.arange(count) + 1) * total // (2 * max(count, 1))
