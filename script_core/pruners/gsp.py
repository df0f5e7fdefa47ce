"""Graph-structured pruning alone, section 4.1: keep the least redundant tokens, whatever the question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from script_core import similarity
from script_core.pruners.base import check_budget, in_blocks, lowest_first
from script_core.pruners.script import GAMMA, TAU, redundancy
from script_core.tokens import Query, Selection, VisualTokens


@dataclass(frozen=True)
class GSP:
    """Keep each block's tokens of lowest redundancy. Parameters as in `Script`; p follows from the budget."""

    tau: float = TAU
    gamma: float = GAMMA
    scope: str = "crop"

    name: ClassVar[str] = "gsp"
    title: ClassVar[str] = "GSP (the graph alone)"
    acts: ClassVar[str] = "before"
    reads_question: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset()

    def select(self, tokens: VisualTokens, query: Query, budget: int) -> Selection:
        budget = check_budget(budget, len(tokens))
        members = similarity.members(tokens, self.scope)
        scores = redundancy(tokens, self.scope, self.tau, self.gamma)
        return in_blocks([i[lowest_first(scores[i])] for i in members], budget, scores={"redundancy": scores})
