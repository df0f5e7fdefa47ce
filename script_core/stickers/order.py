"""The stage that teaches the language model when things come in: vision and projector stay as they are.

Which of two stickers comes in first is never learned from answers alone. Here every visual token of a clip must also
say when its sticker came in, and because only the language model moves, what vision makes of a scene is worked out
once and asked about several times. Pictures and tiles go on in between, so that nothing else is forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from script_core.stickers.batches import Pool, ask_all, choose
from script_core.stickers.clips import Clip, make_clip
from script_core.stickers.kit import FULL, Kit
from script_core.stickers.layouts import POOLED, film, mosaic_ids, pooled, times_of
from script_core.stickers.losses import ANSWER_WEIGHTS, weighted
from script_core.stickers.modes import ARRIVALS, FRAMES, Modes, Outcome, log_uniform, named
from script_core.stickers.optimiser import Group, block_matrices, others
from script_core.stickers.stages import scenes_of, symbol_losses

CELLS = POOLED**2


@dataclass(frozen=True)
class Looked:
    """A scene or a film as the projector hands it over: tokens (n, d), and whose each one is, (n,) or (f, n / f)."""

    scene: Any
    tokens: Tensor
    owner: np.ndarray


class Order(Modes):
    """Each step clips, pictures or tiles to the language model alone, often with clips or scenes of ideal tokens."""

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        easy, hard = self.pools
        self.easy, self.hard = self.looked(easy, 5), self.looked(hard, 6)
        self.read, self.mosaics = self.looked(self.signs, 9), self.looked(self.tiles, 7, 48)
        self.clips = kit.ring(lambda rng: self.watch(make_clip(rng, FRAMES, arrivals=ARRIVALS)), 8, 384, 0.3)

    def looked(self, pool: Pool[Any], number: int, size: int = 256) -> Pool[Looked]:
        return self.kit.ring(lambda rng: self.look(pool.make(rng)), number, size, 0.15)

    def groups(self) -> list[Group]:
        language = self.kit.model.language
        rest = [*others(language), *self.kit.heads.language_parameters()]
        return [Group(block_matrices(language), "muon", 0.006), Group(rest, "adamw", 4e-4)]

    @torch.no_grad()
    def projected(self, patches: np.ndarray) -> Tensor:
        """Pictures (v, 576, 588) -> visual tokens (v, 576, d)."""
        hidden = self.kit.model.vision(self.kit.pixels(torch.from_numpy(patches)), None)
        return self.kit.model.project(hidden[:, 1:])

    def look(self, seen: Any) -> Looked:
        """A picture or the five views of a large one."""
        tokens = self.projected(seen.patches.reshape(-1, FULL, seen.patches.shape[-1]))
        return Looked(seen.scene, tokens.flatten(0, 1), seen.owner.reshape(-1))

    def watch(self, clip: Clip) -> Looked:
        made = film(clip)
        return Looked(clip, pooled(self.projected(made.patches)).flatten(0, 1), made.cells)

    def losses(self, progress: float) -> Outcome:
        kit, rng = self.kit, self.kit.rng
        draw, ideal = self.turns.random(2)
        loss, parts, count = self.shown() if draw < 0.45 else self.pictured() if draw < 0.85 else self.tiled()
        if ideal < 0.8:
            if ideal < 0.5:
                logic = symbol_losses(kit, self.logic, kit.batch * 3 // 4, int(rng.integers(16, 150)))
            else:
                logic = self.symbolic_clips(kit.batch * 3 // 4, int(rng.integers(6, 15)))
            parts |= {f"logic-{name}": value for name, value in logic.items()}
            loss = loss + weighted(logic, ANSWER_WEIGHTS, 0.5)
        return loss, parts, count

    def shown(self) -> Outcome:
        """Clips, 9 to 144 tokens of every frame."""
        rng = self.kit.rng
        cells = int(rng.choice([9, 18, 36, 72, CELLS], p=[0.1, 0.2, 0.25, 0.2, 0.25]))
        drawn = self.clips.draw(min(2 * CELLS // cells, self.kit.batch))
        favour = float(rng.choice([1.0, 3.0, 10.0]))
        kept = np.stack([[choose(row, cells, rng, favour) for row in item.owner] for item in drawn])
        ids = torch.from_numpy(kept + np.arange(FRAMES)[:, None] * CELLS).view(len(drawn), -1)
        tokens = torch.stack([item.tokens[i] for item, i in zip(drawn, ids.to(self.kit.device), strict=True)])
        owner = np.stack([np.take_along_axis(item.owner, k, 1) for item, k in zip(drawn, kept, strict=True)])
        tokens, ids, times = self.thinned(tokens, ids, 0.2, times_of(scenes_of(drawn), owner))
        parts = self.clip_answers(tokens, ids, scenes_of(drawn), times)
        return weighted(parts, ANSWER_WEIGHTS), named(parts, "clip"), len(drawn)

    def pictured(self) -> Outcome:
        """Single views, whole or thinned, some with a word in them."""
        kit, rng = self.kit, self.kit.rng
        draw = rng.random()
        pool = self.read if draw < 0.2 else self.hard if draw < 0.5 else self.easy
        whole = rng.random() < 0.5
        drawn = pool.draw(max(kit.batch // 4, 1) if whole else kit.batch)
        count = FULL if whole else int(log_uniform(rng, 0.06, 0.5) * FULL)
        tokens, ids = self.some(drawn, count, float(rng.choice([1.0, 3.0])))
        scenes = scenes_of(drawn)
        asked = ask_all(scenes, self.reading if pool is self.read else self.recipe, rng)
        parts = kit.answers(tokens, kit.places(len(drawn), count, ids), scenes, asked)
        return weighted(parts, ANSWER_WEIGHTS), parts, len(drawn)

    def tiled(self) -> Outcome:
        """All 2,880 tokens of one picture, or a quarter of those of four and fewer."""
        whole = self.kit.rng.random() < 0.5
        drawn = self.mosaics.draw(1 if whole else 4)
        total = len(drawn[0].owner)
        tokens, index = self.some(drawn, total if whole else total // 4, float(self.kit.rng.choice([3.0, 10.0])))
        asked = ask_all(scenes_of(drawn), self.high, self.kit.rng)
        ids = torch.from_numpy(mosaic_ids()).view(-1)[index]
        parts = self.tile_answers(tokens, ids, drawn, asked, whole=whole)
        return weighted(parts, ANSWER_WEIGHTS), named(parts, "tile"), len(drawn)

    def some(self, drawn: Sequence[Looked], count: int, favour: float) -> tuple[Tensor, Tensor]:
        """`count` tokens of each (b, count, d), words whole if there is room, and their numbers (b, count)."""
        rng = self.kit.rng
        kept = [choose(item.owner, count, rng, favour, len(item.scene.stickers)) for item in drawn]
        tokens = [item.tokens[torch.from_numpy(k).to(self.kit.device)] for item, k in zip(drawn, kept, strict=True)]
        return torch.stack(tokens), torch.from_numpy(np.stack(kept))
