"""Turns scenes and questions into tensors: rendered patches with their owners, fake visual tokens, packed questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from script_core.stickers.canvas import Scene, Sticker, Word
from script_core.stickers.catalogue import COLOURS, NAMES, READABLE
from script_core.stickers.model import PATCH, patch_centres
from script_core.stickers.questions import Question, ask
from script_core.stickers.rendering import coverage, render
from script_core.stickers.scenes import make_scene

TRAINING_SEED = 1_000_000  # every seed from here on is training; smaller ones are held out
BACKGROUND, MIXED = -1, -2  # owners of a patch that shows no sticker, or too little of one to be judged

# What a patch can show: an object, or a piece of a written word, which then counts as named by the whole word.
NAME_INDEX = {name: i for i, name in enumerate(NAMES + READABLE)}
COLOUR_INDEX = {colour: i for i, colour in enumerate(COLOURS)}


@dataclass(frozen=True)
class Recipe:
    """What is drawn: scene ranges, the share of scenes with a written word, and the mix of question kinds.

    `negatives`: how absent objects are chosen, drawn anew for every scene.
    """

    objects: tuple[int, int] = (1, 9)
    sizes: tuple[float, float] = (0.11, 0.45)
    duplicates: float = 0.3
    mix: Mapping[str, float] | None = None
    count: int = 8
    words: float = 0.0
    negatives: tuple[str, ...] = ("random",)

    def scene(self, rng: np.random.Generator) -> Scene:
        """One scene of this recipe."""
        words = int(self.words > 0 and rng.random() < self.words)
        return make_scene(rng, objects=self.objects, sizes=self.sizes, duplicates=self.duplicates, words=words)


@dataclass(frozen=True)
class Picture:
    """A rendered scene as patches: uint8 (n, 588), and per patch the sticker that covers it (or BACKGROUND, MIXED)."""

    scene: Scene
    patches: np.ndarray
    owner: np.ndarray


def picture(scene: Scene, side: int) -> Picture:
    """Render at `side` pixels and cut into patches; a sticker or word owns a patch from a quarter of its area on."""
    shown = render(scene, side)
    return Picture(scene, cut(shown.image), owners(shown.owner, len(scene.stickers) + len(scene.words)))


def cut(image: np.ndarray) -> np.ndarray:
    """uint8 (side, side, 3) -> its patches in raster order, (n, 588)."""
    grid = len(image) // PATCH
    return image.reshape(grid, PATCH, grid, PATCH, 3).transpose(0, 2, 1, 3, 4).reshape(grid * grid, -1)


def owners(pixels: np.ndarray, count: int) -> np.ndarray:
    """Who owns each patch, int16 (n,), from who owns each pixel of a square and how many there may be."""
    owner = np.full((len(pixels) // PATCH) ** 2, BACKGROUND, np.int16)
    if count:
        share = coverage(pixels, PATCH, count)
        best = share.argmax(1)
        most = share[np.arange(len(best)), best]
        owner = np.where(most > 0.25, best, np.where(most > 0.02, MIXED, BACKGROUND)).astype(np.int16)
    return owner


Item = TypeVar("Item")


class Pool(Generic[Item]):
    """A ring of what `make` renders. Each item is drawn about 1 / fresh times, with other patches and questions."""

    def __init__(
        self, make: Callable[[np.random.Generator], Item], seed: int | list[int], size: int = 512, fresh: float = 0.4
    ) -> None:
        self.make, self.size, self.fresh = make, size, fresh
        self.rng = np.random.default_rng(seed)
        self.held: list[Item] = []
        self.owed = 0.0
        self.next = 0

    def draw(self, count: int) -> list[Item]:
        """`count` items, some of them new."""
        self.owed += count * self.fresh
        new = max(int(self.owed), count - len(self.held))
        self.owed = max(self.owed - new, 0.0)
        made = [self.make(self.rng) for _ in range(new)]
        old = [self.held[i] for i in self.rng.integers(len(self.held), size=count - new)] if count > new else []
        for item in made:
            if len(self.held) < self.size:
                self.held.append(item)
            else:
                self.held[self.next % self.size] = item
                self.next += 1
        return made + old


@dataclass(frozen=True)
class Facts:
    """What is true of each visual token, (b, k) each: name and colour index (-1: none), kind of owner, position."""

    owner: Tensor
    name: Tensor
    colour: Tensor
    xy: Tensor  # (b, k, 2) centre of the token's own patch
    centre: Tensor  # (b, k, 2) centre of the sticker that owns it (its own centre for background)


def choose(owner: np.ndarray, keep: int, rng: np.random.Generator, favour: float, words: int = 1_000) -> np.ndarray:
    """Indices of `keep` patches in raster order; a sticker's patch is `favour` times as likely as background.

    Owners from the number `words` on are written words, kept whole: a part of one cannot be read.
    """
    weight = np.where(owner == BACKGROUND, 1.0, np.where(owner >= words, 1e4, favour))
    keys = rng.random(len(owner)) ** (1.0 / weight)
    return np.sort(np.argpartition(-keys, keep - 1)[:keep]) if keep < len(owner) else np.arange(len(owner))


def visual_batch(pictures: Sequence[Picture], keep: Sequence[np.ndarray] | None) -> tuple[Tensor, Tensor | None, Facts]:
    """Pixels (b, k, 588) uint8 of the kept patches, their indices (b, k) or None for all, and their facts."""
    n = len(pictures[0].owner)
    centres = patch_centres(int(n**0.5)).numpy()
    rows = [np.arange(n)] * len(pictures) if keep is None else list(keep)
    pixels = np.stack([p.patches if keep is None else p.patches[k] for p, k in zip(pictures, rows, strict=True)])
    owner = np.stack([p.owner[k] for p, k in zip(pictures, rows, strict=True)]).astype(np.int64)
    xy = np.stack([centres[k] for k in rows])
    facts = facts_of([p.scene for p in pictures], owner, xy)
    return torch.from_numpy(pixels), None if keep is None else torch.from_numpy(np.stack(rows)), facts


def facts_of(scenes: Sequence[Scene], owner: np.ndarray, xy: np.ndarray) -> Facts:
    """Look up what the owners (b, k) are; `xy` (b, k, 2) are the tokens' own positions."""
    name, colour, centre = np.full(owner.shape, -1), np.full(owner.shape, -1), xy.astype(np.float32).copy()
    for i, scene in enumerate(scenes):
        if not scene.stickers and not scene.words:
            continue
        mine = owner[i] >= 0
        which = owner[i][mine]
        shown = [(s.name, s.colour or "", s.x, s.y) for s in scene.stickers]
        shown += [(w.text, "", w.x, w.y) for w in scene.words]
        name[i, mine] = np.array([NAME_INDEX[what] for what, _, _, _ in shown])[which]
        colour[i, mine] = np.array([COLOUR_INDEX.get(c, -1) for _, c, _, _ in shown])[which]
        centre[i, mine] = np.array([(x, y) for _, _, x, y in shown], np.float32)[which]
    as_tensor = torch.from_numpy
    return Facts(
        as_tensor(owner.astype(np.int64)),
        as_tensor(name),
        as_tensor(colour),
        as_tensor(xy.astype(np.float32)),
        as_tensor(centre),
    )


def symbolic_facts(scenes: Sequence[Scene], tokens: int, rng: np.random.Generator) -> Facts:
    """`tokens` fake visual tokens per scene, as patches of stickers would be: scattered over each, raster order.

    Every sticker gets at least one token as long as there are enough; up to 70 % show background.
    """
    owners, places = [], []
    for scene in scenes:
        shown: list[Sticker | Word] = [*scene.stickers, *scene.words]
        n = len(shown)
        owner = np.full(tokens, BACKGROUND)
        if n:
            weight = np.array([s.size for s in shown]) ** 2 + 0.005
            count = max(int(tokens * (1 - 0.7 * rng.random())), min(n, tokens))
            first = rng.permutation(n)[:count]
            rest = rng.choice(n, size=count - len(first), p=weight / weight.sum())
            owner[:count] = np.concatenate([first, rest])
        xy = rng.random((tokens, 2))
        mine = owner >= 0
        if n:
            at = np.array([(s.x, s.y, s.size) for s in shown])[owner[mine]]
            xy[mine] = np.clip(at[:, :2] + (rng.random((len(at), 2)) - 0.5) * 0.7 * at[:, 2:], 0.02, 0.98)
        order = np.lexsort((xy[:, 0], np.floor(xy[:, 1] * 24)))
        owners.append(owner[order])
        places.append(xy[order])
    return facts_of(scenes, np.stack(owners), np.stack(places))


def ask_all(scenes: Sequence[Scene], recipe: Recipe, rng: np.random.Generator) -> list[list[Question]]:
    how = [str(rng.choice(recipe.negatives)) for _ in scenes] if len(recipe.negatives) > 1 else []
    how = how or [recipe.negatives[0]] * len(scenes)
    return [ask(scene, rng, recipe.count, recipe.mix, way) for scene, way in zip(scenes, how, strict=True)]
