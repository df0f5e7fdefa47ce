"""The fifth stage: one checkpoint for pictures, high resolution and clips, on scenes as hard as visitors make them.

Pictures get up to sixteen stickers, small ones, and written words, with absent objects chosen in all of POPE's ways.
High resolution shows small stickers in a base view and four tiles. Clips have eight frames of 2 x 2 pooled tokens.
Reading has batches of its own: many pictures with one word each, of which vision sees the word and little else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from script_core.stickers.batches import Facts, Picture, Recipe, ask_all, choose, facts_of, visual_batch
from script_core.stickers.canvas import Scene
from script_core.stickers.clips import Clip, ask_clip, make_clip
from script_core.stickers.kit import CLIP_MIX, FULL, HARD_MIX, HIGH_MIX, LOGIC_MIX, READ_MIX, Kit, moved
from script_core.stickers.layouts import (
    CELL_PATCHES,
    POOLED,
    Film,
    film,
    in_order,
    mosaic_ids,
    pooled,
    symbolic_clips,
    tiled,
    times_of,
)
from script_core.stickers.losses import ANSWER_WEIGHTS, VISION_WEIGHTS, projector_losses, symbols, weighted
from script_core.stickers.model import patch_centres
from script_core.stickers.optimiser import Group
from script_core.stickers.questions import NEGATIVES, Question
from script_core.stickers.stages import Tune, align_losses, scenes_of, symbol_losses

FRAMES = 8
ARRIVALS = 0.6  # share of clips in which "what comes in first" can be asked for certain
LATE = 0.68  # the share of the stage after which letters are known, and pictures come more often and whole
WORD_PATCHES = 72  # all of most words; the largest plates cover up to a hundred
PROJECTED = {"symbol": 0.3, "word": 0.3}
# A tile shows part of the scene: where its stickers lie in the whole, and the caption, are not in it to be seen.
TILE_WEIGHTS = {name: VISION_WEIGHTS[name] for name in ("name", "question", "colour")}

Parts = dict[str, Tensor]
Outcome = tuple[Tensor, Parts, int]  # loss, what it consists of, number of pictures


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


class Modes(Tune):
    """Each step one mode and, for the language model, some scenes or clips of ideal tokens."""

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        # The same in every process, or the quicker one would wait.
        self.turns = np.random.default_rng([kit.seed, kit.step])
        self.recipe = Recipe(mix=HARD_MIX, words=0.1, duplicates=0.5, negatives=NEGATIVES)
        hard = Recipe((1, 16), (0.06, 0.48), 0.4, HARD_MIX, words=0.1, negatives=NEGATIVES)
        self.reading = Recipe((0, 3), duplicates=0.0, mix=READ_MIX, count=4, words=1.0)
        self.signs = kit.pool(self.reading, 336, 9, size=384)
        self.pools = (kit.pool(self.recipe, 336, 5, size=384), kit.pool(hard, 336, 6, size=384))
        self.logic = Recipe((1, 12), duplicates=0.5, mix=LOGIC_MIX, words=0.2, negatives=NEGATIVES)
        self.high = Recipe((3, 14), (0.036, 0.09), 0.3, HIGH_MIX, 6, negatives=NEGATIVES)
        self.tiles = kit.ring(lambda rng: tiled(self.high.scene(rng)), 7, 96, 0.3)
        self.films = kit.ring(lambda rng: film(make_clip(rng, FRAMES, arrivals=ARRIVALS)), 8, 96, 0.3)

    def groups(self) -> list[Group]:
        """As in `tune`; vision faster, as letters are new to it."""
        groups = super().groups()
        groups[0].rate = 0.008
        return groups

    def losses(self, progress: float) -> Outcome:
        kit, rng = self.kit, self.kit.rng
        draw, whole = self.turns.random(2)
        late = progress > LATE
        if draw < (0.1 if late else 0.33):
            loss, parts, count = self.words()
        elif draw < (0.62 if late else 0.65):
            loss, parts, count = self.pictures(whole < (0.5 if late else 0.3))
        elif draw < (0.76 if late else 0.84):
            loss, parts, count = self.whole_tiles() if whole < 0.2 else self.some_tiles()
        else:
            loss, parts, count = self.whole_clips() if whole < 0.25 else self.some_clips()
        if rng.random() < 0.4:
            logic = symbol_losses(kit, self.logic, kit.batch * 3 // 4, int(rng.integers(16, 150)))
        else:
            logic = self.symbolic_clips(kit.batch * 3 // 4, int(rng.integers(6, 15)))
        parts |= {f"logic-{name}": value for name, value in logic.items()}
        return loss + weighted(logic, ANSWER_WEIGHTS, 0.5), parts, count

    def pictures(self, whole: bool) -> Outcome:
        """Single views; vision sees all patches or a quarter of them."""
        kit, rng = self.kit, self.kit.rng
        pool = self.pools[int(rng.random() < 0.4)]
        pictures = pool.draw(max(kit.batch // 3, 1) if whole else kit.batch)
        favour = float(rng.choice([1.0, 3.0]))
        keep = None if whole else [choose(p.owner, FULL // 4, rng, favour, len(p.scene.stickers)) for p in pictures]
        asked = ask_all(scenes_of(pictures), self.recipe, rng)
        projected, ids, parts = self.seen(pictures, keep, asked)
        loss = weighted(parts, VISION_WEIGHTS | PROJECTED)
        projected, ids = self.thinned(projected, ids, 0.4)
        places = kit.places(len(pictures), projected.shape[1], ids)
        more = kit.answers(projected, places, scenes_of(pictures), asked)
        return loss + weighted(more, ANSWER_WEIGHTS), parts | more, len(pictures)

    def words(self) -> Outcome:
        """Twice as many pictures, of each the patches of its word and some others."""
        kit, rng = self.kit, self.kit.rng
        pictures = self.signs.draw(2 * kit.batch)
        keep = [choose(p.owner, WORD_PATCHES, rng, 3.0, len(p.scene.stickers)) for p in pictures]
        asked = ask_all(scenes_of(pictures), self.reading, rng)
        projected, ids, parts = self.seen(pictures, keep, asked)
        more = kit.answers(projected, kit.places(len(pictures), WORD_PATCHES, ids), scenes_of(pictures), asked)
        loss = weighted(parts, VISION_WEIGHTS | PROJECTED) + weighted(more, ANSWER_WEIGHTS)
        return loss, named(parts, "read") | named(more, "read"), len(pictures)

    def seen(
        self, pictures: Sequence[Picture], keep: Sequence[np.ndarray] | None, asked: Sequence[Sequence[Question]]
    ) -> tuple[Tensor, Tensor, Parts]:
        """What vision and projector make of the patches `keep` (None: of all): visual tokens (b, k, d), the patches'
        numbers (b, k), and the losses of both."""
        kit = self.kit
        raw, kept, facts = visual_batch(pictures, keep)
        facts = moved(facts, kit.device)
        hidden = kit.model.vision(kit.pixels(raw), None if kept is None else kept.to(kit.device))
        parts = align_losses(kit, hidden, facts, pictures, asked)
        projected = kit.model.project(hidden[:, 1:])
        parts |= projector_losses(kit.model, projected, facts, kit.words)
        return projected, torch.arange(FULL).expand(len(pictures), -1) if kept is None else kept, parts

    def thinned(self, tokens: Tensor, ids: Tensor, chance: float, *more: Tensor) -> tuple[Tensor, ...]:
        """With this chance keep only 6 to 50 % of the tokens (b, k, d), so that every budget is trained.

        more: (b, k, e) each, what else is known of every token.
        """
        rng = self.kit.rng
        total = tokens.shape[1]
        if rng.random() >= chance:
            return tokens, ids, *more
        count = min(max(int(log_uniform(rng, 0.06, 0.5) * total), 8), total)
        index = torch.from_numpy(np.stack([np.sort(rng.choice(total, count, replace=False)) for _ in tokens]))
        others = (x.gather(1, index.to(x.device)[..., None].expand(-1, -1, x.shape[-1])) for x in (tokens, *more))
        return next(others), ids.gather(1, index), *others

    def some_tiles(self) -> Outcome:
        """Five views each, vision on a quarter of the patches of each."""
        kit, rng = self.kit, self.kit.rng
        drawn = self.tiles.draw(max(kit.batch // 4, 1))
        # Every view is a picture to vision: its patches, its owners, and questions about what it shows.
        views = [Picture(t.scene, t.patches[v], t.owner[v]) for t in drawn for v in range(5)]
        favour = float(rng.choice([3.0, 10.0]))
        keep = [choose(p.owner, FULL // 4, rng, favour) for p in views]
        asked = ask_all(scenes_of(drawn), self.high, rng)
        projected, kept, parts = self.seen(views, keep, [a for a in asked for _ in range(5)])
        loss = weighted(parts, TILE_WEIGHTS | PROJECTED)
        ids = torch.from_numpy(mosaic_ids())[torch.arange(5).repeat(len(drawn))].gather(1, kept)
        more = self.tile_answers(
            projected.view(len(drawn), -1, projected.shape[-1]), ids.view(len(drawn), -1), drawn, asked
        )
        return loss + weighted(more, ANSWER_WEIGHTS), named(parts, "tile") | named(more, "tile"), len(drawn)

    def whole_tiles(self) -> Outcome:
        """All 2,880 tokens of one picture, to the language model alone: vision would take too long."""
        kit = self.kit
        drawn = self.tiles.draw(1)
        with torch.no_grad():
            hidden = kit.model.vision(kit.pixels(torch.from_numpy(drawn[0].patches)), None)
        projected = kit.model.project(hidden[:, 1:]).flatten(0, 1)[None]
        asked = ask_all(scenes_of(drawn), self.high, kit.rng)
        more = self.tile_answers(projected, torch.from_numpy(mosaic_ids()).view(1, -1), drawn, asked, whole=True)
        return weighted(more, ANSWER_WEIGHTS), named(more, "tile"), 1

    def tile_answers(
        self, tokens: Tensor, ids: Tensor, drawn: Sequence[Any], asked: list[list[Question]], whole: bool = False
    ) -> Parts:
        kit, rng = self.kit, self.kit.rng
        if not whole:
            tokens, ids = self.thinned(tokens, ids, 0.6)
        tokens, ids = in_order(tokens, ids, newlines=whole or rng.random() < 0.7)
        if rng.random() < 0.5:
            ids = torch.arange(1, ids.shape[1] + 1).expand(len(ids), -1)
        return kit.answers(tokens, ids, scenes_of(drawn), asked)

    def some_clips(self) -> Outcome:
        """Eight frames each; vision sees the patches of 9 to 36 of the 144 cells of every frame."""
        kit, rng = self.kit, self.kit.rng
        cells = int(rng.choice([9, 18, 36]))
        drawn = self.films.draw(max(kit.batch * 9 // cells // 2, 1) if cells > 9 else kit.batch // 2)
        favour = float(rng.choice([1.0, 3.0, 10.0]))
        kept = np.stack([[choose(row, cells, rng, favour) for row in item.cells] for item in drawn])
        patches = CELL_PATCHES[kept].reshape(len(drawn) * FRAMES, -1)
        frames = np.concatenate([item.patches for item in drawn])
        owner = np.concatenate([item.owner for item in drawn])
        pixels = torch.from_numpy(np.take_along_axis(frames, patches[..., None], 1))
        hidden = kit.model.vision(kit.pixels(pixels), torch.from_numpy(patches).to(kit.device))
        projected = kit.model.project(hidden[:, 1:])
        facts = moved(frame_facts(drawn, np.take_along_axis(owner, patches, 1), patches), kit.device)
        parts = projector_losses(kit.model, projected, facts, kit.words)
        tokens = projected.view(len(drawn), FRAMES * cells, 4, -1).mean(2)
        ids = torch.from_numpy(kept + (np.arange(FRAMES) * POOLED**2)[:, None]).view(len(drawn), -1)
        clips = [item.clip for item in drawn]
        owners = np.stack([np.take_along_axis(i.cells, k, 1) for i, k in zip(drawn, kept, strict=True)])
        tokens, ids, times = self.thinned(tokens, ids, 0.3, times_of(clips, owners))
        more = self.clip_answers(tokens, ids, clips, times)
        loss = weighted(parts, PROJECTED) + weighted(more, ANSWER_WEIGHTS)
        return loss, named(parts, "clip") | named(more, "clip"), len(drawn) * 2

    def whole_clips(self) -> Outcome:
        """All 1,152 tokens of two clips, to the language model alone."""
        kit = self.kit
        drawn = self.films.draw(2)
        with torch.no_grad():
            pixels = torch.from_numpy(np.concatenate([item.patches for item in drawn]))
            hidden = kit.model.vision(kit.pixels(pixels), None)[:, 1:]
        tokens = pooled(kit.model.project(hidden)).view(2, FRAMES * POOLED**2, -1)
        clips = [item.clip for item in drawn]
        times = times_of(clips, np.stack([item.cells for item in drawn]))
        more = self.clip_answers(tokens, torch.arange(tokens.shape[1]).expand(2, -1), clips, times)
        return weighted(more, ANSWER_WEIGHTS), named(more, "clip"), 2

    def clip_answers(self, tokens: Tensor, ids: Tensor, clips: list[Clip], times: Tensor) -> Parts:
        """Language-model losses from tokens (b, k, d) of the cells `ids` (b, k); times as in `layouts.times_of`."""
        kit = self.kit
        asked = [ask_clip(clip, kit.rng, 6, CLIP_MIX) for clip in clips]
        casts = [Scene(clip.cast) for clip in clips]
        own = kit.rng.random() < 0.7  # as with all tokens kept; what is pruned is renumbered
        places = ids + 1 if own else torch.arange(1, ids.shape[1] + 1).expand(len(clips), -1)
        return kit.answers(tokens, places, casts, asked, [clip.ways for clip in clips], times)

    def symbolic_clips(self, count: int, tokens: int) -> Parts:
        """Language-model losses on clips of ideal visual tokens, `tokens` a frame."""
        kit, rng = self.kit, self.kit.rng
        made = [make_clip(rng, FRAMES, arrivals=ARRIVALS) for _ in range(count)]
        facts = symbolic_clips(made, tokens, rng)
        visual = symbols(kit.model, moved(facts, kit.device), kit.words)
        visual = visual + 0.02 * rng.random() * torch.randn_like(visual)
        cells = np.sort(rng.random((count, FRAMES, POOLED**2)).argsort(-1)[..., :tokens])
        ids = torch.from_numpy(cells + np.arange(FRAMES)[:, None] * POOLED**2).view(count, -1)
        times = times_of(made, facts.owner.numpy().reshape(count, FRAMES, tokens))
        return self.clip_answers(visual, ids, made, times)


def frame_facts(films: list[Film], owner: np.ndarray, patches: np.ndarray) -> Facts:
    """Facts (b * f, k) of the patches (b * f, k) of every frame."""
    frames = [scene for item in films for scene in item.clip.frames]
    return facts_of(frames, owner.astype(np.int64), patch_centres().numpy()[patches])


def named(parts: Parts, mode: str) -> Parts:
    """The same under names that say the mode, for the log."""
    return {f"{mode}-{name}": value for name, value in parts.items()}
