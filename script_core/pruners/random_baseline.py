"""Uniformly random tokens: what any method has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from script_core import similarity
from script_core.pruners.base import check_budget, in_blocks
from script_core.tokens import Query, Selection, VisualTokens


@dataclass(frozen=True)
class Random:
    """A seeded random order within each crop or frame; the same seed gives the same tokens on every machine."""

    seed: int = 0
    scope: str = "crop"

    name: ClassVar[str] = "random"
    title: ClassVar[str] = "Random"
    acts: ClassVar[str] = "before"
    reads_question: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset()

    def select(self, tokens: VisualTokens, query: Query, budget: int) -> Selection:
        budget = check_budget(budget, len(tokens))
        generator = torch.Generator().manual_seed(self.seed)
        members = similarity.members(tokens, self.scope)
        return in_blocks([index[torch.randperm(len(index), generator=generator)] for index in members], budget)
