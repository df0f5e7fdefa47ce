"""What all training stages share: the model with its heads, the random generator, and the mixes of questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from script_core.stickers.batches import Facts, Item, Picture, Pool, Recipe, picture
from script_core.stickers.losses import Heads, Words, answer_losses, time_loss
from script_core.stickers.model import GRID, TinyLlava
from script_core.stickers.packing import Packed, Ways, pack, positions_and_mask
from script_core.stickers.tokenizer import BOS, EOS, encode

FULL = GRID * GRID
POSITION_MIX = {
    "existence": 0.24, "where": 0.16, "leftright": 0.2, "abovebelow": 0.14, "count": 0.1, "colour": 0.07, "kind": 0.05,
    "nextto": 0.04,
}  # fmt: skip
EXISTENCE_MIX = {
    "existence": 0.4, "colour": 0.12, "kind": 0.1, "count": 0.12, "where": 0.09, "leftright": 0.07, "abovebelow": 0.06,
    "nextto": 0.04,
}  # fmt: skip

LOGIC_MIX = {"count": 0.35, "nextto": 0.25, "kind": 0.25, "existence": 0.05, "where": 0.05, "leftright": 0.05}
LAST_MIX = {
    "existence": 0.36, "colour": 0.08, "kind": 0.14, "count": 0.16, "where": 0.07, "leftright": 0.06,
    "abovebelow": 0.06, "nextto": 0.07,
}  # fmt: skip
HARD_MIX = {
    "existence": 0.3, "colour": 0.08, "kind": 0.17, "count": 0.22, "where": 0.05, "leftright": 0.04,
    "abovebelow": 0.04, "nextto": 0.06, "reading": 0.1,
}  # fmt: skip
READ_MIX = {"reading": 0.6, "existence": 0.3, "where": 0.1}
CLIP_MIX = {"appears": 0.2, "moves": 0.15, "order": 0.35, "first": 0.3}
HIGH_MIX = {
    "existence": 0.55, "colour": 0.12, "kind": 0.14, "count": 0.09, "where": 0.04, "leftright": 0.03,
    "abovebelow": 0.03,
}  # fmt: skip

T = TypeVar("T", Facts, Packed)


def moved(item: T, device: torch.device) -> T:
    """The same dataclass with its tensors on `device`."""
    found: dict[str, Any] = {f.name: getattr(item, f.name) for f in fields(item)}
    tensors: dict[str, Any] = {k: v.to(device) for k, v in found.items() if isinstance(v, Tensor)}
    return replace(item, **tensors)


@dataclass
class Kit:
    """What all stages share. `step`: where this run of the stage begins; a resumed one draws other scenes."""

    model: TinyLlava
    heads: Heads
    vocabulary: dict[str, int]
    seed: int
    batch: int
    rank: int = 0
    step: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([self.seed, self.rank, self.step])
        self.device = self.model.proj1.device
        self.dtype = self.model.proj1.dtype
        self.words = Words.of(self.vocabulary)
        self.words = Words(self.words.names.to(self.device), self.words.colours.to(self.device))

    def pool(self, recipe: Recipe, side: int, number: int, size: int = 512, fresh: float = 0.5) -> Pool[Picture]:
        """Pictures of a recipe, others in every process."""
        return self.ring(lambda rng: picture(recipe.scene(rng), side), number, size, fresh)

    def ring(self, make: Callable[[np.random.Generator], Item], number: int, size: int, fresh: float) -> Pool[Item]:
        """A pool of its own for every process."""
        return Pool(make, [self.seed + number + 100 * self.rank, self.step], size, fresh)

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Text tower on `<s> text </s>`: (m, c)."""
        rows = [[BOS, *encode(self.vocabulary, t), EOS] for t in texts]
        longest = max(map(len, rows))
        ids = torch.tensor([r + [0] * (longest - len(r)) for r in rows], device=self.device)
        return self.model.text(ids, torch.tensor([len(r) - 1 for r in rows], device=self.device))

    def pixels(self, raw: Tensor) -> Tensor:
        return raw.to(self.device).to(self.dtype) / 127.5 - 1

    def answers(
        self,
        visual: Tensor,
        places: Tensor,
        scenes: Sequence[Any],
        asked: Any,
        ways: Ways = (),
        times: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Language-model losses for visual tokens (b, k, d) at position ids `places` (b, k).

        ways, times: of clips, see `packing.pack` and `losses.time_loss`.
        """
        packed = pack(scenes, asked, self.vocabulary, ways)
        positions, mask = positions_and_mask(packed, places, self.dtype)
        packed = moved(packed, self.device)
        states, visible = self.model.language(
            visual.to(self.dtype), packed.ids, positions.to(self.device), mask.to(self.device)
        )
        parts = answer_losses(self.model, self.heads, states, packed)
        if times is not None:
            parts["time"] = time_loss(self.heads, visible, times.to(self.device))
        return parts

    def places(self, count: int, tokens: int, kept: Tensor | None = None) -> Tensor:
        """Position ids of the visual tokens: consecutive, or as before dropping, or spread as in long inputs."""
        draw = self.rng.random()
        if draw < 0.2 and kept is not None:
            return kept + 1
        if draw < 0.4:
            limit = int(self.rng.integers(tokens, 2930))
            spread = [np.sort(self.rng.choice(limit, tokens, replace=False)) + 1 for _ in range(count)]
            return torch.from_numpy(np.stack(spread))
        return torch.arange(1, tokens + 1).expand(count, -1)
