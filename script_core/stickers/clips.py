"""Short clips of sticker scenes, and the questions that only time can answer.

Each frame is a `Scene` of the same stickers; one or two of them move or come in late, the rest and the background
stay as they are, which is the redundancy that token pruning of videos lives on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from .canvas import Scene, Sticker
from .catalogue import indefinite
from .material import Material, Question
from .scenes import make_scene

CLIP_KINDS: tuple[str, ...] = ("appears", "moves", "order", "first")
TRAVEL = 0.3  # of the side: the least way that counts as moving


@dataclass(frozen=True)
class Event:
    """What happens to one sticker: its index in `Clip.cast`, the frame it first shows in, and its way (dx, dy)."""

    sticker: int
    enters: int = 0
    travel: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Clip:
    """`frames`: one scene per frame, equally spaced in time. `cast`: every sticker where it stands at the start.

    Stickers without an event stand still in every frame. Frames hold the cast in its order, without those that have
    not come in yet: `present[t]` maps the stickers of frame t to the cast.
    """

    frames: tuple[Scene, ...]
    cast: tuple[Sticker, ...]
    events: tuple[Event, ...]
    present: tuple[tuple[int, ...], ...]

    @property
    def ways(self) -> dict[int, tuple[float, float]]:
        """Sticker -> how far it moves."""
        return {event.sticker: event.travel for event in self.events}

    @property
    def entries(self) -> list[int]:
        """The frame in which each sticker of the cast is first to be seen."""
        found = dict.fromkeys(range(len(self.cast)), 0) | {event.sticker: event.enters for event in self.events}
        return list(found.values())


def make_clip(
    rng: np.random.Generator, frames: int = 8, *, objects: tuple[int, int] = (2, 5), arrivals: float = 0.0
) -> Clip:
    """A clip in which one or two stickers move left or right, or come in after the first quarter.

    arrivals: share of clips in which two stickers come in and none moves, which chance alone gives to one in eight.
    Raises ValueError for fewer than two frames (nothing can move) or a range `make_scene` does not take.
    """
    if frames < 2:
        raise ValueError(f"A clip of {frames} frames cannot show any movement; use 2 or more.")
    scene = make_scene(rng, objects=objects, sizes=(0.14, 0.3), duplicates=0.1, busy=0.3)
    cast = scene.stickers
    both_enter = arrivals > 0 and rng.random() < arrivals
    number = min(len(cast), 2 if both_enter else 1 + int(rng.random() * 2))
    events = []
    for index in rng.permutation(len(cast))[:number]:
        sticker = cast[int(index)]
        if not both_enter and rng.random() < 0.5:
            # Towards the side with more room, so that it never leaves the canvas.
            room = (1 - sticker.size / 2 - sticker.x, sticker.x - sticker.size / 2)
            way = max(TRAVEL, float(rng.random()) * 0.9 * max(room))
            events.append(Event(int(index), 0, (way if room[0] > room[1] else -way, 0.0)))
        else:
            first = max(1, frames // 4)
            events.append(Event(int(index), first + int(rng.random() * (frames - first) * 0.7)))
    return animate(scene, tuple(events), frames)


def animate(scene: Scene, events: tuple[Event, ...], frames: int) -> Clip:
    """The clip in which `events` happen to the stickers of `scene`, at constant speed."""
    by_sticker = {event.sticker: event for event in events}
    shown: list[Scene] = []
    present: list[tuple[int, ...]] = []
    for t in range(frames):
        here = [i for i in range(len(scene.stickers)) if t >= by_sticker.get(i, Event(i)).enters]
        done = t / max(frames - 1, 1)
        stickers = []
        for i in here:
            dx, dy = by_sticker.get(i, Event(i)).travel
            sticker = scene.stickers[i]
            stickers.append(replace(sticker, x=sticker.x + dx * done, y=sticker.y + dy * done))
        shown.append(replace(scene, stickers=tuple(stickers)))
        present.append(tuple(here))
    return Clip(tuple(shown), scene.stickers, events, tuple(present))


MIX: Mapping[str, float] = MappingProxyType({"appears": 0.3, "moves": 0.25, "order": 0.25, "first": 0.2})


def ask_clip(clip: Clip, rng: np.random.Generator, count: int = 4, mix: Mapping[str, float] = MIX) -> list[Question]:
    """Up to `count` different questions of `CLIP_KINDS`; `about` and `words` refer to `clip.cast`.

    "appears" asks whether an object is to be seen in any frame, yes and no in turn; "moves" which way an object goes;
    "order" which of two objects is to be seen earlier; "first" which comes in first of the objects that are not there
    from the start (only if there are two). `mix` weighs them.
    """
    material = Material(replace(clip.frames[0], stickers=clip.cast), rng)
    asked: dict[str, Question] = {}
    weights = dict(mix)
    for _ in range(6 * count):
        if len(asked) == count or not weights:
            break
        kind = material.weighted(weights)
        question = _MAKERS[kind](clip, material)
        if question is None:
            del weights[kind]
        elif question.text not in asked:
            asked[question.text] = question
            material.next_yes ^= kind == "appears"
    return list(asked.values())


def _appears(clip: Clip, m: Material) -> Question:
    yes = m.next_yes and bool(clip.cast)
    late = [clip.cast[event.sticker].name for event in clip.events if event.enters]
    name = m.pick(late if late and m.chance(0.7) else list(m.by_name)) if yes else m.absent()
    about = m.by_name[name] if yes else []
    nouns = {name: about[0]} if len(about) == 1 else None
    return m.question("appears", "yes" if yes else "no", "appears", about, {"a": indefinite(name)}, nouns)


def _moves(clip: Clip, m: Material) -> Question | None:
    moving = [e for e in clip.events if abs(e.travel[0]) >= TRAVEL and e.sticker in m.unique]
    if not moving:
        return None
    event = m.pick(moving)
    name = clip.cast[event.sticker].name
    answer = "left" if event.travel[0] < 0 else "right"
    return m.question("moves", answer, "moves", (event.sticker,), {"n": name}, {name: event.sticker})


def _first(clip: Clip, m: Material) -> Question | None:
    late = sorted((event.enters, event.sticker) for event in clip.events if event.enters)
    if len(late) < 2 or late[0][0] == late[1][0]:
        return None
    return m.question("first", clip.cast[late[0][1]].name, "first", (late[0][1],), {})


def _order(clip: Clip, m: Material) -> Question | None:
    enters = clip.entries
    pairs = [(i, k) for i in m.unique for k in m.unique if enters[i] < enters[k]]
    if not pairs:
        return None
    # Two that come in are harder than one that was there all along, and rarer.
    late = [pair for pair in pairs if enters[pair[0]]]
    earlier, later = m.pick(late if late and m.chance(0.6) else pairs)
    named = (earlier, later) if m.chance(0.5) else (later, earlier)
    n, b = (clip.cast[i].name for i in named)
    nouns = dict(zip((n, b), named, strict=True))
    return m.question("order", clip.cast[earlier].name, "order", named, {"n": n, "b": b}, nouns)


_MAKERS: Mapping[str, Callable[[Clip, Material], Question | None]] = MappingProxyType(
    {"appears": _appears, "moves": _moves, "order": _order, "first": _first}
)
