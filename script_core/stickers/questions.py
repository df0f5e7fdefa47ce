"""Questions about a sticker scene, with their exact answers and the stickers that they are about.

Texts are lower-case words with single spaces and "?" as its own word: `text.split()` is the tokenisation. Every
question comes from the scene's numbers alone, and one that the picture does not decide clearly (an object on a cell
border, two neighbours at the same distance) is not asked.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from .canvas import Scene, Sticker
from .catalogue import (
    ASKED_KINDS,
    COLOURS,
    KIND_OF,
    article,
    bare_plural,
    indefinite,
    plural,
    verb,
)
from .material import Material, Question
from .phrases import CELLS, MOST, PLACES, VOCABULARY

__all__ = ["CELLS", "KINDS_OF_QUESTION", "MIX", "NEGATIVES", "Question", "VOCABULARY", "ask", "cell_of"]

MIX: Mapping[str, float] = MappingProxyType({
    "existence": 0.28, "colour": 0.14, "kind": 0.12, "count": 0.14, "where": 0.12, "leftright": 0.08,
    "abovebelow": 0.07, "nextto": 0.05, "reading": 0.12,
})  # fmt: skip
"""How often each kind is asked by default, before the kinds that a scene has no material for drop out."""

KINDS_OF_QUESTION: tuple[str, ...] = tuple(MIX)
NEGATIVES: tuple[str, ...] = ("random", "popular", "adversarial")
CELL_MARGIN = 0.04
SIDE_MARGIN = 0.08
CLEAR = 0.75  # the nearest neighbour must be at most this share of the second nearest's distance


def ask(
    scene: Scene,
    rng: np.random.Generator,
    count: int = 8,
    mix: Mapping[str, float] | None = None,
    negatives: str = "random",
) -> list[Question]:
    """Up to `count` different questions about the scene; fewer only if `mix` leaves too little to ask.

    `mix` weighs the kinds (default `MIX`); a kind that the scene has no material for drops out. Existence questions
    alternate between yes and no, starting with either. `negatives` chooses the absent objects the way POPE (Li et
    al., 2023) does: any object, one of the most frequent, or one of the same kind as a present one. Raises ValueError
    for an unknown kind or setting.
    """
    if negatives not in NEGATIVES:
        raise ValueError(f"negatives={negatives!r} must be one of {', '.join(NEGATIVES)}.")
    weights = dict(MIX if mix is None else mix)
    unknown = set(weights) - set(MIX)
    if unknown:
        raise ValueError(f"There is no question kind {sorted(unknown)[0]!r}; choose among {', '.join(MIX)}.")
    material = Material(scene, rng, negatives)
    if "count" in weights:
        # Half of all scenes hold nothing twice; asking there less often keeps "1" from being the usual answer.
        weights["count"] *= 2.0 if len(material.unique) < len(material.by_name) else 0.4
    weights = {kind: weight for kind, weight in weights.items() if weight > 0}
    asked: dict[object, Question] = {}
    for _ in range(6 * count):
        if len(asked) == count or not weights:
            break
        kind = material.weighted(weights)
        question = _MAKERS[kind](material)
        if question is None:
            del weights[kind]
        else:
            # The same question in other words teaches nothing, but a lone object is worth several "is there".
            key = question.text if kind == "existence" else (kind, question.about, question.answer)
            if key not in asked:
                asked[key] = question
                material.next_yes ^= kind == "existence"
    return list(asked.values())


def cell_of(sticker: Sticker, margin: float = CELL_MARGIN) -> str | None:
    """Which of the nine `CELLS` holds the sticker's centre; None within `margin` of a border between cells."""
    for value in (sticker.x, sticker.y):
        if min(abs(value - 1 / 3), abs(value - 2 / 3)) < margin:
            return None
    column, row = (min(max(int(value * 3), 0), 2) for value in (sticker.x, sticker.y))
    return CELLS[3 * row + column]


def _existence(m: Material) -> Question:
    yes = m.next_yes and bool(m.stickers)
    coloured = [i for i in m.unique if m.stickers[i].colour]
    if coloured and m.chance(0.2):
        at = m.pick(coloured)
        name, true = m.stickers[at].name, str(m.stickers[at].colour)
        colour = true if yes else m.pick([c for c in COLOURS if c != true])
        spoken = f"{article(colour)} {colour}"
        return m.question("existence colour", _yes(yes), "existence", (at,), {"colour": spoken, "n": name}, {name: at})
    name = m.pick(list(m.by_name)) if yes else m.absent()
    about = m.by_name[name] if yes else []
    nouns = dict.fromkeys((name, bare_plural(name)), about[0]) if len(about) == 1 else None
    parts = {"a": indefinite(name), "any": bare_plural(name)}
    return m.question("existence", _yes(yes), "existence", about, parts, nouns)


def _colour(m: Material) -> Question | None:
    coloured = [i for i in m.unique if m.stickers[i].colour]
    if not coloured:
        return None
    at = m.pick(coloured)
    name, true = m.stickers[at].name, str(m.stickers[at].colour)
    if m.chance(0.15):
        yes = m.chance(0.5)
        colour = true if yes else m.pick([c for c in COLOURS if c != true])
        return m.question("colour yes", _yes(yes), "colour", (at,), {"n": name, "colour": colour}, {name: at})
    return m.question("colour", true, "colour", (at,), {"n": name}, {name: at})


def _kind(m: Material) -> Question | None:
    members: dict[str, list[int]] = defaultdict(list)
    for i, sticker in enumerate(m.stickers):
        members[KIND_OF[sticker.name]].append(i)
    single = [kind for kind in ASKED_KINDS if len(members[kind]) == 1]
    placed = _alone_in_place(m.stickers)
    if single and (not placed or m.chance(0.6)):
        kind = m.pick(single)
        at = members[kind][0]
        return m.question("kind", m.stickers[at].name, "kind", (at,), {"kind": kind})
    if placed:
        place, at = m.pick(placed)
        return m.question("at", m.stickers[at].name, "kind", (at,), {"place": m.pick(PLACES[place])})
    return None


def _alone_in_place(stickers: Sequence[Sticker]) -> list[tuple[str, int]]:
    """(place, sticker) where one sticker alone is there; "top" means alone in the whole top row, as people say it.

    A sticker near a border may count as being in either place, so it spoils both.
    """
    strict = [cell_of(s) for s in stickers]
    reach = 1 / 3 + CELL_MARGIN
    rows = [(s.y < reach, s.y > 1 - reach, s.x < reach, s.x > 1 - reach) for s in stickers]
    found = []
    for i, place in enumerate(strict):
        if place is None:
            continue
        top, bottom, left, right = ("top" in place, "bottom" in place, "left" in place, "right" in place)
        wanted = [k for k, side in enumerate((top, bottom, left, right)) if side]
        if place == "middle":
            near = [max(abs(s.x - 0.5), abs(s.y - 0.5)) < 1 / 6 + CELL_MARGIN for s in stickers]
        else:
            near = [all(sides[k] for k in wanted) for sides in rows]
        if sum(near) == 1 and near[i]:
            found.append((place, i))
    return found


def _count(m: Material) -> Question:
    if m.stickers and m.chance(0.25):
        groups: dict[str, list[int]] = {kind + "s": [] for kind in ASKED_KINDS}
        for i, sticker in enumerate(m.stickers):
            groups.get(KIND_OF[sticker.name] + "s", []).append(i)
        groups["objects"] = groups["things"] = list(range(len(m.stickers)))
        by_value = {word: len(members) for word, members in groups.items() if 1 < len(members) <= MOST}
        if by_value:
            word = m.pick(list(by_value))
            return m.question("count", str(by_value[word]), "count", groups[word], {"ns": word})
    values = Counter(len(items) for items in m.by_name.values() if len(items) <= MOST)
    weights: dict[int, float] = {value: _VALUE_WEIGHTS[value] for value in values}
    value = m.weighted({0: _VALUE_WEIGHTS[0], **weights})
    name = m.pick([n for n, items in m.by_name.items() if len(items) == value]) if value else m.absent()
    about = list(m.by_name[name]) if value else []
    colours = Counter(m.stickers[i].colour for i in about)
    if len(colours) > 1 and m.chance(0.4):
        colour = m.pick(sorted(str(c) for c in colours))
        about = [i for i in about if str(m.stickers[i].colour) == colour]
        return m.question("count colour", str(len(about)), "count", about, {"colour": colour, "ns": plural(name)})
    spoken = plural(name)
    nouns = {spoken.split()[-1]: about[0]} if value == 1 else None
    return m.question("count", str(value), "count", about, {"ns": spoken}, nouns)


# Few scenes hold five of a kind and nearly all hold one of something: chosen so that 0 to 6 come out alike.
_VALUE_WEIGHTS = {0: 0.12, 1: 0.12, 2: 1.0, 3: 1.2, 4: 1.5, 5: 2.0, 6: 2.5}


def _where(m: Material) -> Question | None:
    placed = [(i, place) for i in m.unique if (place := cell_of(m.stickers[i]))]
    bound = [(i, place) for i in m.unique_in_colour if (place := cell_of(m.stickers[i]))]
    if bound and (not placed or m.chance(0.3)):
        at, place = m.pick(bound)
        name, colour = m.stickers[at].name, str(m.stickers[at].colour)
        return m.question("where colour", place, "where", (at,), {"n": name, "colour": colour})
    if not placed:
        return None
    at, place = m.pick(placed)
    name = m.stickers[at].name
    return m.question("where", place, "where", (at,), {"n": name, "is": verb(name)}, {name: at})


def _sides(m: Material, kind: str, axis: str, low: str, high: str) -> Question | None:
    """A comparison along one axis: half as "low or high", half as a balanced yes/no question."""
    for _ in range(8 if len(m.unique) >= 2 else 0):
        one, other = m.pick(m.unique), m.pick(m.unique)
        gap = getattr(m.stickers[one], axis) - getattr(m.stickers[other], axis)
        if one == other or abs(gap) < SIDE_MARGIN:
            continue
        true = low if gap < 0 else high
        n, b = m.stickers[one].name, m.stickers[other].name
        phrase, answer = kind, true
        if m.chance(0.5):
            phrase = m.pick((low, high))
            answer = _yes(phrase == true)
        parts = {"n": n, "b": b, "is": verb(n)}
        return m.question(phrase, answer, kind, (one, other), parts, {n: one, b: other})
    return None


def _leftright(m: Material) -> Question | None:
    return _sides(m, "leftright", "x", "left", "right")


def _abovebelow(m: Material) -> Question | None:
    return _sides(m, "abovebelow", "y", "above", "below")


_DIRECTIONS: tuple[tuple[str, float, float], ...] = (
    ("", 0, 0), ("left", -1, 0), ("right", 1, 0), ("above", 0, -1), ("below", 0, 1),
)  # fmt: skip


def _nextto(m: Material) -> Question | None:
    for _ in range(8 if m.unique and len(m.stickers) >= 2 else 0):
        at = m.pick(m.unique)
        direction, dx, dy = m.pick(_DIRECTIONS)
        winner = _neighbour(m.stickers, at, dx, dy)
        if winner is None:
            continue
        name = m.stickers[at].name
        phrase = f"nextto {direction}".strip()
        return m.question(phrase, m.stickers[winner].name, "nextto", (at,), {"n": name}, {name: at})
    return None


def _neighbour(stickers: Sequence[Sticker], at: int, dx: float, dy: float) -> int | None:
    """The nearest sticker in a direction (a 90 degree fan), or in any for (0, 0); None without a clear winner.

    Stickers a little outside the fan compete too: some would call them "above", so they must be clearly farther.
    """
    here = stickers[at]
    rivals = []
    for i, other in enumerate(stickers):
        x, y = other.x - here.x, other.y - here.y
        along, across = x * dx + y * dy, abs(x * dy) + abs(y * dx)
        anywhere = not (dx or dy)
        if i != at and (anywhere or along > 0.6 * across):
            rivals.append((math.hypot(x, y), i, anywhere or (along >= SIDE_MARGIN and along >= across)))
    rivals.sort()
    if not rivals or not rivals[0][2] or rivals[0][0] > 0.6:
        return None
    if len(rivals) > 1 and rivals[0][0] > CLEAR * rivals[1][0]:
        return None
    return rivals[0][1]


def _reading(m: Material) -> Question | None:
    if len(m.scene.words) != 1:
        return None
    return m.question("reading", m.scene.words[0].text, "reading", (len(m.stickers),), {})


def _yes(value: bool) -> str:
    return "yes" if value else "no"


_MAKERS: Mapping[str, Callable[[Material], Question | None]] = MappingProxyType({
    "existence": _existence, "colour": _colour, "kind": _kind, "count": _count, "where": _where,
    "leftright": _leftright, "abovebelow": _abovebelow, "nextto": _nextto, "reading": _reading,
})  # fmt: skip
