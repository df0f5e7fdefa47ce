"""Counterfactual edits: a method's selection with some tokens forced in or out, at the same budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from script_core.pruners.base import CannotPrune, check_budget
from script_core.tokens import Query, Selection, VisualTokens


@dataclass(frozen=True)
class Edited:
    """A pruner around another one. Tokens forced in take the places of the last ones that the method chose; places of
    tokens forced out go to the next ones that it would have chosen."""

    base: Any
    forced_in: tuple[int, ...] = ()
    forced_out: tuple[int, ...] = ()

    name: ClassVar[str] = "edited"
    acts: ClassVar[str] = "before"

    def __post_init__(self) -> None:
        if self.base.acts == "inside":
            raise CannotPrune(f"{self.base.title} chooses inside the language model, so its choice cannot be edited.")
        both = set(self.forced_in) & set(self.forced_out)
        if both:
            raise CannotPrune(f"Token {min(both)} cannot be forced in and out at once.")

    @property
    def title(self) -> str:
        return f"{self.base.title}, edited"

    @property
    def reads_question(self) -> bool:
        return self.base.reads_question

    @property
    def needs(self) -> frozenset[str]:
        return self.base.needs

    def select(self, tokens: VisualTokens, query: Query, budget: int) -> Selection:
        total = len(tokens)
        budget = check_budget(budget, total)
        self._check(budget, total)
        before = self.base.select(tokens, query, budget)
        if before.inserted is not None:
            raise CannotPrune(f"{self.base.title} merges tokens, so its choice cannot be edited.")
        ranked = list(dict.fromkeys([*self.forced_in, *_ranked(before)]))
        kept = [token for token in ranked if token not in self.forced_out][:budget]
        return Selection.of(torch.tensor(kept), total, scores=before.scores, allowed=before.allowed)

    def _check(self, budget: int, total: int) -> None:
        wrong = [token for token in (*self.forced_in, *self.forced_out) if not 0 <= token < total]
        if wrong:
            raise CannotPrune(f"There is no token {wrong[0]}; they are numbered 0 to {total - 1}.")
        if len(set(self.forced_in)) > budget:
            raise CannotPrune(f"{len(set(self.forced_in))} tokens cannot be forced into a budget of {budget}.")
        if total - len(set(self.forced_out)) < budget:
            raise CannotPrune(f"Only {total - len(set(self.forced_out))} tokens are left for a budget of {budget}.")


def _ranked(before: Selection) -> list[int]:
    """All tokens: the kept ones as they were chosen, then the order's next that the graph allows, then the rest."""
    kept = set(before.kept.tolist())
    order = before.order.tolist()
    first = [token for token in order if token in kept]
    first += sorted(kept - set(first))
    allowed = [True] * before.total if before.allowed is None else before.allowed.tolist()
    following = [token for token in order if token not in kept and allowed[token]]
    return [*first, *following, *order, *range(before.total)]


def inside(tokens: VisualTokens, box: tuple[float, float, float, float]) -> tuple[int, ...]:
    """The tokens whose centre lies in a rectangle (left, top, right, bottom), in fractions of the whole picture."""
    left, top, right, bottom = box
    grid = tokens.grid
    found = []
    for token in range(len(tokens)):
        block = grid.blocks[int(grid.block[token])]
        x0, y0, x1, y1 = block.box
        x = x0 + (int(grid.col[token]) + 0.5) / block.cols * (x1 - x0)
        y = y0 + (int(grid.row[token]) + 0.5) / block.rows * (y1 - y0)
        if left <= x < right and top <= y < bottom:
            found.append(token)
    return tuple(found)
