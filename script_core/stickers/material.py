"""A question, and what a scene offers to ask about."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from .canvas import Scene
from .catalogue import KIND_OF, KINDS, NAMES, TINTABLE
from .phrases import PHRASES

T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """`kind` is one of `questions.KINDS_OF_QUESTION`; `about` the stickers that the question names or singles out.

    `about` holds every instance of every noun in the question and whatever a kind or a place singles out ("what fruit
    is there ?"), empty for an absent noun; a number from len(stickers) on means a written word. `words` pairs the
    position of a noun in `text.split()` with its sticker, only for nouns that name exactly one sticker.
    """

    text: str
    answer: str
    kind: str
    about: tuple[int, ...] = ()
    words: tuple[tuple[int, int], ...] = ()


class Material:
    """What a scene offers to ask about, found once and shared by the makers of all kinds."""

    def __init__(self, scene: Scene, rng: np.random.Generator, negatives: str = "random") -> None:
        self.scene = scene
        self.stickers = scene.stickers
        self.negatives = negatives
        self._random = rng.random
        self.next_yes = self.chance(0.5)
        self.by_name: dict[str, list[int]] = defaultdict(list)
        for i, sticker in enumerate(scene.stickers):
            self.by_name[sticker.name].append(i)
        self.unique = [items[0] for items in self.by_name.values() if len(items) == 1]
        looks = Counter((s.name, s.colour) for s in scene.stickers)
        # One of several of its name, but the only one in its colour: "the red car" beside two blue ones.
        self.unique_in_colour = [
            i for i, s in enumerate(scene.stickers)
            if s.colour and looks[s.name, s.colour] == 1 and len(self.by_name[s.name]) > 1
        ]  # fmt: skip

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self._random() * len(options))]

    def chance(self, share: float) -> bool:
        return self._random() < share

    def weighted(self, weights: Mapping[T, float]) -> T:
        left = self._random() * sum(weights.values())
        for option, weight in weights.items():
            left -= weight
            if left < 0:
                return option
        return next(iter(weights))

    def absent(self) -> str:
        """A name that is not in the scene, drawn as `negatives` says."""
        pool: Sequence[str] = NAMES
        if self.negatives == "popular":
            pool = _FREQUENT
        elif self.negatives == "adversarial" and self.by_name:
            pool = KINDS[KIND_OF[self.pick(list(self.by_name))]]
        missing = [name for name in pool if name not in self.by_name]
        return self.pick(missing or [name for name in NAMES if name not in self.by_name])

    def question(
        self, phrase: str, answer: str, kind: str, about: Sequence[int], parts: Mapping[str, str],
        nouns: Mapping[str, int] | None = None,
    ) -> Question:  # fmt: skip
        """Fill one wording of `phrase` with `parts`; `nouns` are the spoken forms that name exactly one sticker."""
        text = self.pick(PHRASES[phrase]).format_map(parts)
        words: tuple[tuple[int, int], ...] = ()
        if nouns:
            split = text.split()
            words = tuple((at, nouns[word]) for at, word in enumerate(split) if word in nouns)
        return Question(text, answer, kind, tuple(about), words)


# The generator draws tintable names twice as often as the others, so they are its "popular" objects.
_FREQUENT: tuple[str, ...] = tuple(sorted(TINTABLE))
