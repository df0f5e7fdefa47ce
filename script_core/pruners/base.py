"""What a pruning method is: it reads visual tokens and a query, and says which tokens stay and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from script_core.tokens import Query, Selection, VisualTokens

T = TypeVar("T")

# What a method may need from a model, in words for the page.
NEEDS = {
    "joint": "image patches and text in one embedding space",
    "cls_attention": "the attention of the vision encoder's CLS token",
    "encoder": "the hidden states, keys and CLS attention of the vision encoder",
    "in_model": "a language model whose layers can be run one by one",
}


class CannotPrune(ValueError):
    """A method cannot do what was asked; the message is one sentence that the page shows as it is."""


@runtime_checkable
class Pruner(Protocol):
    """One method with its parameters. Instances are frozen dataclasses, so that they can key a cache.

    name: the registry key. title: what people read. acts: "before", "inside" or "after" ("before" the language model,
    "inside" it, or "after" the encoder with merging). reads_question: whether the selection depends on the question.
    needs: what it requires from a backend, out of "joint", "cls_attention", "encoder", "in_model".
    """

    name: ClassVar[str]
    title: ClassVar[str]
    acts: ClassVar[str]
    reads_question: ClassVar[bool]
    needs: ClassVar[frozenset[str]]

    def select(self, tokens: VisualTokens, query: Query, budget: int) -> Selection:
        """Choose exactly `min(budget, len(tokens))` content tokens.

        Raises `CannotPrune` if the method cannot reach this budget or lacks something that it needs.
        """
        ...


def check_budget(budget: int, total: int) -> int:
    """The budget as an int between 1 and `total`; more than `total` means all.

    Raises `CannotPrune` for anything that is not a whole number of at least 1.
    """
    if isinstance(budget, bool) or not isinstance(budget, int):
        raise CannotPrune(f"The budget must be a whole number of visual tokens, got {budget!r}.")
    if budget < 1:
        raise CannotPrune(f"The budget must be at least 1 of the {total} visual tokens, got {budget}.")
    return min(budget, total)


def pick_count(k: int, total: int) -> int:
    """How many of `total` tokens a walk of `k` picks takes. Raises ValueError if `k` is negative."""
    if k < 0:
        raise ValueError(f"the number of tokens to pick must not be negative, got {k}")
    return min(k, total)


def check_joint(image_embeds: Tensor, text_embeds: Tensor) -> None:
    """Raises ValueError unless these are patches (B, n, c) and at least one text segment (M, c) of one space."""
    found = tuple(image_embeds.shape), tuple(text_embeds.shape)
    if len(found[0]) != 3 or len(found[1]) != 2 or not found[1][0] or found[0][2] != found[1][1]:
        raise ValueError(
            f"relevance needs image (B, n, c) and text (M, c) embeddings of one space, got {found[0]} and {found[1]}"
        )


@dataclass(frozen=True)
class Cut:
    """What an in-model method does to the sequence before a decoder layer runs.

    keep (m,): positions in the current sequence that go on, ascending; text positions must all be among them.
    merged (r, d) or None: new rows, put behind the last kept visual token and before the text that follows.
    """

    keep: Tensor
    merged: Tensor | None = None


class LayerView(Protocol):
    """What an in-model method may look at between two decoder layers. `index` is the layer about to run (>= 1).

    hidden (L, d): states leaving layer index - 1. visual (L,) bool: which rows are visual tokens now. source (L,)
    int64: for each row the content token it came from, -1 for text, newlines and merged rows. inputs (L0, d): the
    embeddings that entered layer 0, before anything was cut. All of them are on the model's device, where a method
    should stay: a value that the host asks for stops the prefill until the GPU has caught up. Two counts are known
    without asking: `count`, the visual rows, and `behind`, the text rows behind the last of them.
    """

    index: int
    hidden: Tensor
    visual: Tensor
    source: Tensor
    inputs: Tensor
    count: int
    behind: int

    def attention(self, rows: Tensor, of_next: bool = False) -> Tensor:
        """Softmaxed causal attention (heads, rows, L) of the given query rows, float32, from q and k of one layer:
        the layer that just ran (its own input rows, so L is that layer's length), or with `of_next` the one about to
        run, on `hidden`."""
        ...


class InsideRun(Protocol):
    """One prefill of an in-model method. `positions`: whether kept rows keep their position ids or are renumbered."""

    positions: str  # "original" or "compact"

    def cut(self, view: LayerView) -> Cut | None:
        """Called before every decoder layer but the first; None leaves the sequence as it is."""
        ...

    def selection(self) -> Selection:
        """After the prefill: what was kept to the end, with scores and per-layer counts."""
        ...


@runtime_checkable
class InsidePruner(Protocol):
    """A method with acts == "inside". It has no `select`; the engine calls `begin` and hands the run to its prefill."""

    name: ClassVar[str]
    title: ClassVar[str]
    acts: ClassVar[str]
    reads_question: ClassVar[bool]
    needs: ClassVar[frozenset[str]]

    def schedule(self, budget: int, total: int, layers: int) -> tuple[int, ...]:
        """Visual tokens that enter each decoder layer, so that their mean is the budget (the average token count),
        except where the authors published a schedule under that count (SparseVLM).

        Raises `CannotPrune` with the reason if the method cannot reach the budget.
        """
        ...

    def begin(self, tokens: VisualTokens, query: Query, budget: int, layers: int) -> InsideRun:
        """A fresh run for one prefill."""
        ...


def require(value: T | None, what: str, title: str) -> T:
    """`value`, or `CannotPrune` in words if the model does not offer it. `what` is one of a method's `needs`."""
    if value is None:
        raise CannotPrune(f"{title} needs {NEEDS[what]}, which this model does not have.")
    return value


def split_budget(budget: int, sizes: list[int]) -> list[int]:
    """Share a budget over blocks as evenly as their sizes allow, the remainder going to the first ones that have room.

    A block smaller than an even share gives all it has and the others divide the rest. The shares add up to
    `min(budget, sum(sizes))`, and no share shrinks when the budget grows.
    """
    shares = [0] * len(sizes)
    left = min(budget, sum(sizes))
    room = [i for i, size in enumerate(sizes) if size > 0]
    while left:
        step = min(left // len(room), min(sizes[i] - shares[i] for i in room))
        receivers = room if step else room[:left]
        for i in receivers:
            shares[i] += max(step, 1)
        left -= max(step, 1) * len(receivers)
        room = [i for i in room if shares[i] < sizes[i]]
    return shares


def lowest_first(scores: Tensor) -> Tensor:
    """Indices by score ascending, the lowest index first among equals."""
    return torch.sort(scores, stable=True).indices


def highest_first(scores: Tensor) -> Tensor:
    """Indices by score descending, the lowest index first among equals."""
    return torch.sort(scores, descending=True, stable=True).indices


def in_blocks(orders: list[Tensor], budget: int, **more: object) -> Selection:
    """A nested selection that shares the budget over blocks; `orders` are each block's tokens, best first."""
    shares = split_budget(budget, [len(order) for order in orders])
    kept = torch.cat([order[:share] for order, share in zip(orders, shares, strict=True)])
    everything = torch.cat(orders)
    return Selection.of(kept, len(everything), everything, nested=True, **more)
