"""The wordings of every kind of question, and from them the closed vocabulary of texts and answers.

{n} a name, {a} a name with its indefinite article, {any} what follows "any", {ns} its plural, {b} a second name,
{is} "is" or "are", {kind}, {colour}, {place} a place with its preposition.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .catalogue import ASKED_KINDS, COLOURS, NAMES, READABLE, bare_plural, indefinite, plural

PHRASES: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "existence": (
        "is there {a} in the image ?", "is there {a} in the picture ?", "is there {a} ?", "can you see {a} ?",
        "do you see {a} ?", "does the picture show {a} ?", "are there any {any} ?",
        "are there any {any} in the picture ?",
    ),
    "existence colour": (
        "is there {colour} {n} ?", "is there {colour} {n} in the picture ?", "can you see {colour} {n} ?",
    ),
    "colour": (
        "what colour is the {n} ?", "what is the colour of the {n} ?", "which colour is the {n} ?",
        "which colour does the {n} have ?", "what colour does the {n} have ?",
    ),
    "colour yes": ("is the {n} {colour} ?", "is the colour of the {n} {colour} ?"),
    "kind": (
        "what {kind} is there ?", "which {kind} can you see ?", "what {kind} is in the picture ?",
        "which {kind} is there ?", "what {kind} do you see ?", "what is the {kind} in the picture ?",
    ),
    "at": (
        "what is {place} ?", "what can you see {place} ?", "what object is {place} ?", "which object is {place} ?",
        "what is there {place} ?", "what is {place} of the picture ?",
    ),
    "count": (
        "how many {ns} are there ?", "how many {ns} can you see ?", "how many {ns} are in the picture ?",
        "how many {ns} do you see ?", "what is the number of {ns} ?",
    ),
    "count colour": ("how many {colour} {ns} are there ?", "how many {colour} {ns} can you see ?"),
    "where": (
        "where {is} the {n} ?", "where {is} the {n} in the picture ?", "where in the picture {is} the {n} ?",
        "where can you see the {n} ?", "what is the position of the {n} ?",
    ),
    "where colour": ("where is the {colour} {n} ?", "where is the {colour} {n} in the picture ?"),
    "leftright": (
        "{is} the {n} to the left or right of the {b} ?", "{is} the {n} left or right of the {b} ?",
        "{is} the {n} on the left or right of the {b} ?", "{is} the {n} to the right or left of the {b} ?",
        "on which side of the {b} {is} the {n} ?",
    ),
    "left": ("{is} the {n} to the left of the {b} ?", "{is} the {n} left of the {b} ?",
             "{is} the {n} on the left side of the {b} ?", "{is} the {n} on the left of the {b} ?"),
    "right": ("{is} the {n} to the right of the {b} ?", "{is} the {n} right of the {b} ?",
              "{is} the {n} on the right side of the {b} ?", "{is} the {n} on the right of the {b} ?"),
    "abovebelow": (
        "{is} the {n} above or below the {b} ?", "{is} the {n} below or above the {b} ?",
        "{is} the {n} placed above or below the {b} ?", "is the position of the {n} above or below the {b} ?",
    ),
    "above": ("{is} the {n} above the {b} ?", "{is} the {n} higher than the {b} ?", "{is} the {n} over the {b} ?",
              "{is} the {n} placed above the {b} ?"),
    "below": ("{is} the {n} below the {b} ?", "{is} the {n} lower than the {b} ?", "{is} the {n} under the {b} ?",
              "{is} the {n} placed below the {b} ?"),
    "nextto": (
        "what is next to the {n} ?", "what is closest to the {n} ?", "which object is next to the {n} ?",
        "which object is closest to the {n} ?", "what is near the {n} ?",
    ),
    "nextto left": (
        "what is to the left of the {n} ?", "what is left of the {n} ?", "which object is left of the {n} ?",
    ),
    "nextto right": (
        "what is to the right of the {n} ?", "what is right of the {n} ?", "which object is right of the {n} ?",
    ),
    "nextto above": ("what is above the {n} ?", "which object is above the {n} ?", "what is directly above the {n} ?"),
    "nextto below": ("what is below the {n} ?", "what is under the {n} ?", "which object is below the {n} ?"),
    "reading": (
        "what word is written ?", "what does the sign say ?", "which word can you read ?",
        "what is written in the picture ?", "which word is written on the sign ?",
    ),
    "appears": (
        "does {a} appear in the video ?", "does {a} appear ?", "is there {a} in the video ?",
        "can you see {a} in the video ?",
    ),
    "moves": (
        "does the {n} move left or right ?", "does the {n} move to the left or right ?",
        "which way does the {n} move ?", "where does the {n} move ?",
    ),
    "first": (
        "what appears first ?", "which object appears first ?", "what appears first in the video ?",
    ),
    "order": (
        "does the {n} or the {b} appear first ?", "what appears first the {n} or the {b} ?",
        "which object appears first the {n} or the {b} ?",
    ),
})  # fmt: skip

PLACES: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "top left": ("in the top left", "in the top left corner", "at the top left"),
    "top": ("at the top",),
    "top right": ("in the top right", "in the top right corner", "at the top right"),
    "left": ("on the left",),
    "middle": ("in the middle", "in the centre"),
    "right": ("on the right",),
    "bottom left": ("in the bottom left", "in the bottom left corner", "at the bottom left"),
    "bottom": ("at the bottom",),
    "bottom right": ("in the bottom right", "in the bottom right corner", "at the bottom right"),
})  # fmt: skip
"""The nine places of "where", row by row, with the ways to say "what is {place} ?"."""

CELLS: tuple[str, ...] = tuple(PLACES)

MOST = 6
"""The highest count that is asked for."""


def _vocabulary() -> tuple[str, ...]:
    texts = [phrase for group in PHRASES.values() for phrase in group]
    texts += [phrase for group in PLACES.values() for phrase in group]
    for name in NAMES:
        texts += [name, indefinite(name), plural(name), bare_plural(name)]
    texts += [kind + "s" for kind in ASKED_KINDS]
    texts += [*ASKED_KINDS, *COLOURS, *READABLE, "a", "an", "is", "are", "yes", "no", "objects", "things"]
    texts += ["left", "right", "above", "below", *(str(n) for n in range(MOST + 1))]
    return tuple(sorted({word for text in texts for word in text.split() if not word.startswith("{")}))


VOCABULARY: tuple[str, ...] = _vocabulary()
"""Every word that a question or an answer can contain, sorted; special tokens are not among them."""
