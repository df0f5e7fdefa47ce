"""Script (arXiv:2512.01949), as this project defines it: drop what repeats, then keep what matters and differs.

Per crop, frame or whole input of n tokens, with a share m of the budget:

1. GSP   G = the tokens left when the round(p n) most redundant are dropped          O(n^2 d / 4)
2. QCRS  r = relevance of each token to the question, min-max to [0, 1]              O(n c)
3. DPP   the greedy order of diag(r) S diag(r), walked to its end                    O(n k^2)
4. keep the first m tokens of that order that lie in G

Paper: with p the pruning ratio, |G| = m, and step 4 keeps G whatever the DPP says. Here: p is a parameter of its own,
so that both modules shape the result; it is lowered only when fewer than m tokens would be left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from script_core import dpp, graph, kernels, relevance, similarity
from script_core.derived import derived
from script_core.pruners.base import CannotPrune, check_budget, highest_first, lowest_first, split_budget
from script_core.pruners.walks import REACH, walks
from script_core.tokens import Query, Selection, VisualTokens

TAU = 0.2  # as in the authors' code; the paper hints at 0.5, which measured worse (NOTES.md)
GAMMA = 1.0
P = 0.25  # share that GSP drops, open in the paper; measured: the more it drops beyond this, the worse (NOTES.md)


@dataclass(frozen=True)
class Script:
    """The method and its ablation (the paper's Table 5): `gsp`, `qcrs` and `dpp` switch its three parts.

    tau in [-1, 1]: cosine from which two tokens are neighbours. gamma >= 0: weight of how similar neighbours are.
    p in [0, 1]: share of tokens that GSP drops. sign: +1 or -1, or None for the backbone's own. scope: "crop" or
    "global". order: "walk" keeps the picks that lie in G; "cascade" runs the DPP over G only. With no part switched
    on, the selection is uniformly random with `seed`.

    The selection of any other budget m' follows without the model: `Selection.order` lists, block after block, the
    whole order of each block (of a block over `walks.REACH` tokens, and on a GPU, where a walk's steps wait for one
    another, a part that covers the budget). Split m' with
    `split_budget`, get each block's G from `graph.survivors(redundancy, p, share)`, take the first `share` tokens of
    the block's order that lie in G.
    """

    tau: float = TAU
    gamma: float = GAMMA
    p: float = P
    sign: float | None = None
    scope: str = "crop"
    order: str = "walk"
    gsp: bool = True
    qcrs: bool = True
    dpp: bool = True
    seed: int = 0

    name: ClassVar[str] = "script"
    title: ClassVar[str] = "Script"
    acts: ClassVar[str] = "before"
    reads_question: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        if not -1 <= self.tau <= 1:
            raise CannotPrune(f"tau is a cosine similarity and must lie between -1 and 1, got {self.tau}.")
        if not 0 <= self.gamma <= 100:
            raise CannotPrune(f"gamma must lie between 0 and 100, got {self.gamma}.")
        if not 0 <= self.p <= 1:
            raise CannotPrune(f"p is the share of tokens that GSP drops and must lie between 0 and 1, got {self.p}.")
        if self.sign not in (None, 1, -1):
            raise CannotPrune(f"sign must be 1, -1 or none for the model's own, got {self.sign}.")
        if self.scope not in ("crop", "global"):
            raise CannotPrune(f'scope must be "crop" or "global", got {self.scope!r}.')
        if self.order not in ("walk", "cascade"):
            raise CannotPrune(f'order must be "walk" or "cascade", got {self.order!r}.')

    def select(self, tokens: VisualTokens, query: Query, budget: int) -> Selection:
        budget = check_budget(budget, len(tokens))
        members = similarity.members(tokens, self.scope)
        shares = split_budget(budget, [len(index) for index in members])
        repeats = redundancy(tokens, self.scope, self.tau, self.gamma)
        matters = relevance.of(tokens, query, members, self.sign)
        allowed = torch.ones(len(tokens), dtype=torch.bool)
        if self.gsp:
            for index, share in zip(members, shares, strict=True):
                allowed[index] = graph.survivors(repeats[index], self.p, share)
        for orders in self._orders(tokens, members, shares, repeats, matters):
            picks = [order[allowed[order]][:share] for order, share in zip(orders, shares, strict=True)]
            if [len(pick) for pick in picks] == shares:
                break
        return Selection.of(
            torch.cat(picks),
            len(tokens),
            torch.cat(orders),
            scores={"redundancy": repeats, "relevance": matters},
            allowed=allowed if self.gsp else None,
            nested=True,
            notes=self._notes(members, shares),
        )

    def _orders(
        self, tokens: VisualTokens, members: tuple[Tensor, ...], shares: list[int], repeats: Tensor, matters: Tensor
    ) -> Iterator[tuple[Tensor, ...]]:
        """The order in which each block's tokens are chosen, walked further each time; the last one is complete."""
        if not self.dpp:
            yield tuple(index[self._sorted(repeats[index], matters[index], i)] for i, index in enumerate(members))
            return
        weight = matters if self.qcrs else torch.ones(len(tokens))
        if self.order == "cascade" and self.gsp:
            yield tuple(cascade(tokens, index, repeats[index], weight[index], self.p) for index in members)
            return
        # GSP turns some picks down, so where not everything is walked it is at first half as far again as the share.
        part = similarity.on_gpu(tokens) or max(map(len, members)) > REACH
        reach = 1 << (3 * max(shares) // 2 - 1).bit_length() if part else REACH
        while True:
            yield walks(tokens, self.scope, weight, reach)
            reach *= 2

    def _sorted(self, repeats: Tensor, matters: Tensor, block: int) -> Tensor:
        """A block's order without the DPP: by relevance, else by redundancy, else at random."""
        if self.qcrs:
            return highest_first(matters)
        if self.gsp:
            return lowest_first(repeats)
        return torch.randperm(len(repeats), generator=torch.Generator().manual_seed(self.seed * 1009 + block))

    def _notes(self, members: tuple[Tensor, ...], shares: list[int]) -> tuple[str, ...]:
        short = [
            share / len(index)
            for index, share in zip(members, shares, strict=True)
            if len(index) and len(index) - round(self.p * len(index)) < share
        ]
        if not (self.gsp and short):
            return ()
        where = "" if len(members) == 1 else f" in {len(short)} of {len(members)} crops or frames"
        return (
            f"The budget needs more tokens than GSP would leave at p = {self.p:g}, so p was lowered to "
            f"{1 - max(short):.3f}{where}: there GSP alone decides which tokens stay.",
        )


@dataclass(frozen=True)
class QCSP(Script):
    """Script without its graph: relevance and diversity over all tokens."""

    gsp: bool = False

    name: ClassVar[str] = "qcsp"
    title: ClassVar[str] = "QCSP (Script without the graph)"


def redundancy(tokens: VisualTokens, scope: str, tau: float, gamma: float) -> Tensor:
    """GSP scores (n,) of every token within its block; the similarities behind them are kept beside the tokens."""
    scores = torch.zeros(len(tokens))
    if similarity.on_gpu(tokens):
        features = tokens.features
        for _, index in similarity.by_size(similarity.members(tokens, scope)):
            scores[index] = kernels.redundancy(features[index.to(features.device)], tau, gamma).cpu()
        return scores
    graphs = derived(tokens, ("bipartite", scope), lambda: _graphs(tokens, scope))
    for index, edges in zip(similarity.members(tokens, scope), graphs, strict=True):
        scores[index] = graph.redundancy_of(edges, tau, gamma)
    return scores


def _graphs(tokens: VisualTokens, scope: str) -> tuple[Tensor, ...]:
    """Each block's bipartite similarities, cut out of the matrix that the walk needs anyway where there is one."""
    known = similarity.of(tokens, scope)
    return tuple(
        torch.from_numpy(rows[0::2, 1::2].copy())
        if isinstance(rows, np.ndarray)
        else graph.bipartite(tokens.features[i])
        for i, rows in zip(known.members, known.rows, strict=True)
    )


def cascade(tokens: VisualTokens, index: Tensor, repeats: Tensor, weight: Tensor, p: float) -> Tensor:
    """A block's order when the DPP runs over G only; the others follow as a lowered p would let them back in."""
    inside = torch.nonzero(graph.survivors(repeats, p, 0)).flatten()
    rest = lowest_first(repeats)[len(inside) :]
    picks, _ = dpp.greedy_map(tokens.features[index[inside].to(tokens.features.device)], weight[inside], len(inside))
    return index[torch.cat([inside[picks], rest])]
