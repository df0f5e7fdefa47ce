"""The tokens least like the rest, whatever the question: redundancy without a graph (the paper's Figure 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from script_core import similarity
from script_core.pruners.base import check_budget, in_blocks, lowest_first
from script_core.tokens import Query, Selection, VisualTokens


@dataclass(frozen=True)
class SimilarityOnly:
    """Keep the tokens of lowest mean cosine to all tokens of their crop or frame ("crop"), or of all ("global")."""

    scope: str = "crop"

    name: ClassVar[str] = "similarity"
    title: ClassVar[str] = "Similarity only"
    acts: ClassVar[str] = "before"
    reads_question: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset()

    def select(self, tokens: VisualTokens, query: Query, budget: int) -> Selection:
        budget = check_budget(budget, len(tokens))
        scores, orders = torch.zeros(len(tokens)), []
        for index in similarity.members(tokens, self.scope):
            rows = similarity.unit(tokens.features[index.to(tokens.features.device)])
            scores[index] = (rows @ rows.mean(dim=0)).to("cpu", torch.float32)  # the mean of cosines, without n x n
            orders.append(index[lowest_first(scores[index])])
        return in_blocks(orders, budget, scores={"redundancy": scores})
