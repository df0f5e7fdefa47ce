"""An in-model method for tests, and its answer computed again layer by layer without a cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from script_core.engine import Engine
from script_core.pruners.base import Cut, LayerView
from script_core.tokens import Query, Selection, VisualTokens

QUESTION = "is there a red apple?"


@dataclass(frozen=True)
class Dropper:
    """An in-model method for these tests: before each layer in `at`, keep the last `keep` visual tokens."""

    at: tuple[int, ...] = (2,)
    keep: int = 5
    merge: int = 0
    positions: str = "original"
    name: ClassVar[str] = "dropper"
    title: ClassVar[str] = "Dropper"
    acts: ClassVar[str] = "inside"
    reads_question: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset({"in_model"})

    def schedule(self, budget: int, total: int, layers: int) -> tuple[int, ...]:
        return tuple(budget for _ in range(layers))

    def begin(self, tokens: VisualTokens, query: Query, budget: int, layers: int) -> _Run:
        return _Run(self, len(tokens), budget)


class _Run:
    def __init__(self, method: Dropper, total: int, budget: int) -> None:
        self.method, self.total, self.budget = method, total, budget
        self.positions = method.positions
        self.left = torch.arange(total)
        self.rows: list[Tensor] = []
        self.cuts: list[tuple[int, Tensor, Tensor | None]] = []

    def cut(self, view: LayerView) -> Cut | None:
        last = torch.tensor([len(view.hidden) - 1])
        self.rows.append(view.attention(last))
        self.rows.append(view.attention(last, of_next=True))
        if view.index not in self.method.at or self.budget >= self.total:
            return None
        visual = torch.nonzero(view.visual).flatten()
        keep = torch.cat([torch.nonzero(~view.visual).flatten(), visual[-self.method.keep :]]).sort().values
        self.left = view.source[visual[-self.method.keep :]]
        merged = view.hidden[visual[: self.method.merge]] if self.method.merge else None
        self.cuts.append((view.index, keep, merged))
        return Cut(keep, merged)

    def selection(self) -> Selection:
        return Selection.of(self.left[self.left >= 0], self.total)


def layer_by_layer(engine: Engine, prompt: Any, run: _Run, token_ids: tuple[int, ...]) -> list[int]:
    """The same cuts replayed on prompt + answer without a cache, with an explicit causal mask per layer."""
    lm, head = engine.backend.language_model, engine.backend.lm_head
    cuts = {index: (keep, merged) for index, keep, merged in run.cuts}
    chosen = []
    for count in range(len(token_ids)):
        more = lm.embed_tokens(torch.tensor([token_ids[:count]], dtype=torch.long))
        hidden = torch.cat([prompt.embeddings, more], 1)
        length = prompt.embeddings.shape[1]
        following = torch.arange(prompt.next_position, prompt.next_position + count)[None]
        positions = torch.cat([prompt.positions, following], 1)
        visual = prompt.visual
        for index, layer in enumerate(lm.layers):
            if index in cuts:
                keep, merged = cuts[index]
                rest = torch.cat([keep, torch.arange(length, length + count)])
                spot = int((keep <= int(torch.nonzero(visual).max())).sum())
                hidden, positions = hidden[:, rest], positions[:, rest]
                visual, length = visual[keep], len(keep)
                if merged is not None:
                    ids = positions[0, spot] - torch.arange(len(merged), 0, -1)
                    hidden = torch.cat([hidden[:, :spot], merged[None], hidden[:, spot:]], 1)
                    positions = torch.cat([positions[:, :spot], ids[None], positions[:, spot:]], 1)
                    visual = torch.cat([visual[:spot], torch.ones(len(merged), dtype=torch.bool), visual[spot:]])
                    length += len(merged)
                if run.positions == "compact":
                    positions = torch.arange(hidden.shape[1])[None]
            size = hidden.shape[1]
            mask = torch.full((size, size), float("-inf")).triu(1)[None, None]
            with torch.no_grad():
                hidden = layer(hidden, attention_mask=mask, position_embeddings=lm.rotary_emb(hidden, positions))
        chosen.append(int(head(lm.norm(hidden[:, -1:]))[0, 0].argmax()))
    return chosen
