"""The patches that the vision encoder's CLS token attends to most, whatever the question (the paper's Figure 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from script_core import similarity
from script_core.pruners.base import check_budget, highest_first, in_blocks, require
from script_core.tokens import Query, Selection, VisualTokens


@dataclass(frozen=True)
class ClsAttention:
    """Top attention within each crop or frame ("crop"), or over all of them ("global")."""

    scope: str = "crop"

    name: ClassVar[str] = "cls_attention"
    title: ClassVar[str] = "CLS attention"
    acts: ClassVar[str] = "before"
    reads_question: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset({"cls_attention"})

    def select(self, tokens: VisualTokens, query: Query, budget: int) -> Selection:
        budget = check_budget(budget, len(tokens))
        attention = require(tokens.cls_attention, "cls_attention", self.title).detach().to("cpu", torch.float32)
        orders = [index[highest_first(attention[index])] for index in similarity.members(tokens, self.scope)]
        return in_blocks(orders, budget, scores={"cls_attention": attention})
