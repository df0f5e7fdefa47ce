"""Every visual token: the reference that pruning is measured against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from script_core.pruners.base import check_budget
from script_core.tokens import Query, Selection, VisualTokens


@dataclass(frozen=True)
class Full:
    """Keep everything, whatever the budget says."""

    name: ClassVar[str] = "full"
    title: ClassVar[str] = "Full (no pruning)"
    acts: ClassVar[str] = "before"
    reads_question: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset()

    def select(self, tokens: VisualTokens, query: Query, budget: int) -> Selection:
        check_budget(budget, len(tokens))
        return Selection.of(torch.arange(len(tokens)), len(tokens))
