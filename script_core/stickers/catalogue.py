"""What can stand in a sticker scene: 86 objects, their kinds, colours, grammar, and the words that can be written.

The names are single words, so that a word-level tokeniser sees an object as one token. Ten of them exist in six
colours; the others keep the colours of their picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# The order is the order of the atlas cells: append, never reorder, or a shipped atlas shows the wrong pictures.
EMOJI: Mapping[str, str] = MappingProxyType({
    "cup": "2615", "teapot": "1fad6", "knife": "1f52a", "spoon": "1f944", "bottle": "1f37e",
    "apple": "1f34e", "banana": "1f34c", "grapes": "1f347", "strawberry": "1f353", "watermelon": "1f349",
    "pear": "1f350", "lemon": "1f34b", "cherries": "1f352", "pineapple": "1f34d", "kiwi": "1f95d",
    "carrot": "1f955", "corn": "1f33d", "broccoli": "1f966",
    "bread": "1f35e", "pizza": "1f355", "burger": "1f354", "cheese": "1f9c0", "egg": "1f95a", "cake": "1f382",
    "donut": "1f369", "cookie": "1f36a",
    "dog": "1f415", "cat": "1f408", "cow": "1f404", "horse": "1f40e", "pig": "1f416", "sheep": "1f411",
    "rabbit": "1f407", "elephant": "1f418", "duck": "1f986", "fish": "1f41f", "frog": "1f438", "turtle": "1f422",
    "butterfly": "1f98b", "penguin": "1f427", "bee": "1f41d",
    "car": "1f697", "bus": "1f68c", "truck": "1f69a", "bicycle": "1f6b2", "airplane": "2708", "train": "1f682",
    "boat": "26f5", "helicopter": "1f681", "tractor": "1f69c", "rocket": "1f680",
    "hammer": "1f528", "scissors": "2702", "saw": "1fa9a", "wrench": "1f527", "axe": "1fa93",
    "tree": "1f333", "cactus": "1f335", "rose": "1f339", "sunflower": "1f33b", "leaf": "1f341",
    "guitar": "1f3b8", "trumpet": "1f3ba", "drum": "1f941", "piano": "1f3b9",
    "shirt": "1f455", "hat": "1f3a9", "shoe": "1f45f", "dress": "1f457", "glasses": "1f453",
    "heart": "2764", "star": "2b50", "circle": "1f534", "square": "1f7e5",
    "baby": "1f476",
    "balloon": "1f388", "book": "1f4d5", "umbrella": "2602", "gift": "1f381", "chair": "1fa91", "clock": "23f0",
    "phone": "1f4de", "key": "1f511", "camera": "1f4f7", "ball": "26bd", "house": "1f3e0",
})  # fmt: skip
"""Name -> Unicode code point (hexadecimal) of the emoji that pictures it."""

NAMES: tuple[str, ...] = tuple(EMOJI)
"""All 86 object names, in atlas order."""


def _between(first: str, last: str) -> tuple[str, ...]:
    return NAMES[NAMES.index(first) : NAMES.index(last) + 1]


KINDS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "kitchenware": _between("cup", "bottle"),
    "fruit": _between("apple", "kiwi"),
    "vegetable": _between("carrot", "broccoli"),
    "food": _between("bread", "cookie"),
    "animal": _between("dog", "bee"),
    "vehicle": _between("car", "rocket"),
    "tool": _between("hammer", "axe"),
    "plant": _between("tree", "leaf"),
    "instrument": _between("guitar", "piano"),
    "clothing": _between("shirt", "glasses"),
    "shape": _between("heart", "square"),
    "person": ("baby",),
    "thing": _between("balloon", "house"),
})  # fmt: skip
"""Kind -> its names. Every name has exactly one kind."""

KIND_OF: Mapping[str, str] = MappingProxyType({name: kind for kind, names in KINDS.items() for name in names})

# A banana is food, a knife is a tool to some: only kinds whose borders nobody would argue about are asked for.
ASKED_KINDS: tuple[str, ...] = ("fruit", "vegetable", "animal", "vehicle", "plant", "instrument", "shape")
"""The kinds that questions such as "what fruit is there ?" use."""

COLOURS: tuple[str, ...] = ("red", "orange", "yellow", "green", "blue", "purple")

TINTABLE: frozenset[str] = frozenset(
    ("car", "balloon", "shirt", "book", "heart", "star", "circle", "square", "umbrella", "gift")
)
"""The names that exist in every one of `COLOURS`."""

PLURAL_ONLY: frozenset[str] = frozenset(("grapes", "cherries", "scissors", "glasses"))
"""Names that take "are": "where are the scissors ?"."""

_MASS = frozenset(("bread", "cheese", "corn", "broccoli"))
_UNITS = {
    "grapes": "bunch", "cherries": "bunch", "scissors": "pair", "glasses": "pair", "bread": "loaf", "cheese": "piece",
    "corn": "ear", "broccoli": "head",
}  # fmt: skip
_IRREGULAR = {
    "knife": "knives", "strawberry": "strawberries", "sheep": "sheep", "fish": "fish",
    "butterfly": "butterflies", "bus": "buses", "axe": "axes", "cactus": "cacti", "leaf": "leaves", "baby": "babies",
    "loaf": "loaves", "bunch": "bunches", "wrench": "wrenches", "dress": "dresses",
}  # fmt: skip

READABLE: tuple[str, ...] = (
    "open", "exit", "stop", "sale", "cafe", "taxi", "hotel", "shop", "menu", "park", "music", "sport", "water",
    "fresh", "pull", "push", "slow", "north", "south", "east", "west", "fire", "help", "hello", "love", "happy",
    "lucky", "world", "bank", "zoo", "film", "radio", "paris", "rome", "tokyo", "texas", "monday", "friday", "summer",
    "winter",
)  # fmt: skip
"""The words that can be written in a scene (3 to 6 letters). None of them names an object."""


def plural(name: str) -> str:
    """The countable plural: "dogs", "knives", "loaves of bread", "pairs of scissors". The noun is the last word."""
    unit = _UNITS.get(name)
    if unit is not None:
        return f"{_IRREGULAR.get(unit, unit + 's')} of {name}"
    return _IRREGULAR.get(name, name + "s")


def indefinite(name: str) -> str:
    """The name with its indefinite article: "an apple", "some bread", "a pair of scissors". The noun comes last."""
    if name in _MASS:
        return f"some {name}"
    if name in PLURAL_ONLY:
        return f"a {_UNITS[name]} of {name}"
    return f"{article(name)} {name}"


def article(word: str) -> str:
    """ "an" before a vowel letter, else "a". Right for every name and colour here (no "hour", no "unicorn")."""
    return "an" if word[0] in "aeiou" else "a"


def bare_plural(name: str) -> str:
    """What follows "any" or "no": "dogs", but "bread" and "scissors" as they are."""
    return name if name in _UNITS else plural(name)


def verb(name: str) -> str:
    """ "are" for the names that are always plural, else "is"."""
    return "are" if name in PLURAL_ONLY else "is"
