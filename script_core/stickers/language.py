"""What a visitor types, turned into the wordings that the embedded model was taught.

A 300-word model reads "Is there a puppy in the photo?" only as "is there a dog in the picture ?". The translation is
plain rules: spelling, synonyms, fillers, then a few changes of form. Nothing is guessed: a word with no known meaning
stays in the text and is reported.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from .catalogue import ASKED_KINDS, COLOURS, NAMES, READABLE, article, bare_plural, indefinite, plural
from .forms import agree, alternatives, rephrase
from .phrases import PHRASES, PLACES, VOCABULARY
from .realwords import REAL_WORDS
from .synonyms import ADJECTIVES, FILLERS, NOUN_SYNONYMS, PAIRS, SYNONYMS

# Apostrophes as they are typed and pasted.
APOSTROPHES = str.maketrans(dict.fromkeys("`\u00b4\u2018\u2019\u02bc\u2032", "'"))
# Soft hyphens, joiners, direction marks and the like: beside anything visible they mean nothing here.
HIDDEN = "\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"

LONGEST = 30  # words; the model has never seen a question of half that length
SLIP_LENGTHS = range(4, 21)  # shorter words have too many neighbours to correct, longer ones are no slips


@dataclass(frozen=True)
class Understood:
    """`text`: canonical words with single spaces, ending in "?" (empty if nothing was typed).

    `unknown`: the words that the model does not know, as typed, in order, without repeats; symbols, emoji and blanks
    to be filled in are words too. Unknown nouns stay in the text, unknown adjectives and whatever follows the 30th word
    do not. `taught` tells whether the text is one of the wordings that the model was trained on; on any other its
    answer is a guess.
    """

    text: str
    unknown: tuple[str, ...] = ()
    taught: bool = False


def understand(text: str) -> Understood:
    """Lower-case, correct, translate and rephrase a typed question. Any string is accepted."""
    unknown: list[str] = []
    plain = _plain(text)
    words = [_word(word, unknown) for word in _merge(_split(plain))]
    kept = [part for word in words for part in word.split()][:LONGEST]
    if not kept:
        return Understood("", tuple(dict.fromkeys(unknown)))
    phrase = " ".join(word for word, before in zip(kept, ["", *kept], strict=False) if word != before)
    phrase = agree(phrase if is_taught(f"{phrase} ?") else rephrase(phrase))
    taught = is_taught(f"{phrase} ?")
    if not taught:  # "is there a -- dog ?" is whole without its dash, "is there a ??? ?" is not
        unknown += [run for run in _BLANK.findall(plain) if not _symbols(run)]
    return Understood(f"{phrase} ?", tuple(dict.fromkeys(unknown)), taught)


def is_taught(text: str) -> bool:
    """Whether a canonical text is one of the wordings of `PHRASES`, for any names, colours and places."""
    return any(pattern.fullmatch(text) for pattern in _taught())


@cache
def _taught() -> tuple[re.Pattern[str], ...]:
    slots = {
        "n": NAMES,
        "b": NAMES,
        "a": [indefinite(name) for name in NAMES],
        "any": [bare_plural(name) for name in NAMES],
        "ns": [*(plural(name) for name in NAMES), *(kind + "s" for kind in ASKED_KINDS), "objects", "things"],
        "is": ("is", "are"),
        "kind": ASKED_KINDS,
        "colour": [*COLOURS, *(f"{article(colour)} {colour}" for colour in COLOURS)],
        "place": [way for ways in PLACES.values() for way in ways],
    }
    groups = {slot: f"(?:{alternatives(words)})" for slot, words in slots.items()}
    return tuple(
        re.compile(phrase.replace("?", r"\?").format_map(groups)) for phrases in PHRASES.values() for phrase in phrases
    )


def _plain(text: str) -> str:
    """The text in lower case, with one form for characters that only look different and for Latin letters' accents."""
    plain = unicodedata.normalize("NFKD", text.translate(APOSTROPHES)).casefold()
    plain = unicodedata.normalize("NFKC", re.sub("(?<=[a-z])[\u0300-\u036f]+", "", plain))
    return re.sub(rf"(?<=[^\s{HIDDEN}])[{HIDDEN}]+|[{HIDDEN}]+(?=[^\s{HIDDEN}])", "", plain)


# Marks that stand by themselves after a word that wants another one, other than the mark that ends the question.
_BLANK = re.compile(r"\b(?:an?|the|any|some|no|of|many|or|and)\s+(?!\W\s*$)([^\w\s]++)(?!\w)")


def _split(plain: str) -> list[str]:
    plain = re.sub(r"\b(what|where|who|there|it|that)'s\b|\b(what|where|who|there)s\b", r"\1\2 is", plain)
    plain = re.sub(r"\b(\w+)n't\b", r"\1 not", plain)
    # "the car's colour" is the colour of the car.
    plain = re.sub(r"\b(the|this) (\w+)'s? (colou?r|position|location)\b", r"the \3 of the \2", plain)
    plain = re.sub(r"(?<=[^\W_])_+|_+(?=[^\W_])", " ", plain)  # what is left of them are blanks
    return [word for run in re.findall(r"\w+|[^\w\s]+", plain) if (word := run if run[0].isalnum() else _symbols(run))]


def _symbols(run: str) -> str:
    """Of characters that are no letters, what is not punctuation: emoji, signs, control characters. "" if all is."""
    kept = [char for char in run if char == "_" or unicodedata.category(char)[0] in "SCM"]
    return "".join(kept) if any(unicodedata.category(char)[0] != "M" for char in kept) else ""


def _merge(words: list[str]) -> list[str]:
    """Replace the runs of words in `PAIRS`, longest first; plurals of their last word count too."""
    merged: list[str] = []
    at = 0
    while at < len(words):
        for length in (3, 2, 1):
            run = tuple(words[at : at + length])
            if len(run) == length and run in PAIRS:
                merged.extend(PAIRS[run].split())
                break
            singular = (*run[:-1], _singular(run[-1])) if len(run) == length else ()
            if length > 1 and singular in PAIRS and PAIRS[singular] in NAMES:
                merged.append(bare_plural(PAIRS[singular]))
                break
        else:
            merged.append(words[at])
            length = 1
        at += length
    return merged


def _singular(word: str) -> str:
    for ending, replacement in (("ies", "y"), ("ves", "f"), ("es", ""), ("s", "")):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            candidate = word[: -len(ending)] + replacement
            if candidate in NOUN_SYNONYMS or candidate in SYNONYMS or candidate in _ASKABLE:
                return candidate
            if any(run[-1] == candidate for run in PAIRS):
                return candidate
    return word


# A word that can only be written on a sign ("hello", "water") is not something that can be asked for.
_ASKABLE: frozenset[str] = frozenset(VOCABULARY) - frozenset(READABLE)


def _word(word: str, unknown: list[str]) -> str:
    """The canonical word or words, "" for one that is dropped; unknown ones are noted."""
    known = _known(word)
    if known is not None:
        return known
    if word in ADJECTIVES:
        unknown.append(word)
        return ""
    if len(word) in SLIP_LENGTHS and not {word, word.removesuffix("s")} & REAL_WORDS:
        slips = [other for other in _slips(word) if other in _spellings()]
        # A long word is rarely a slip of a short one: "ther" is "there" before it is "the".
        near = {_known(other) for other in [o for o in slips if len(o) >= SLIP_LENGTHS[0]] or slips}
        if len(near) == 1:
            return str(near.pop())
    unknown.append(word)
    return word


def _known(word: str) -> str | None:
    if word in FILLERS:
        return ""
    if word in _ASKABLE or word in _HELPERS:
        return word
    if word in NOUN_SYNONYMS:
        return NOUN_SYNONYMS[word]
    if word in SYNONYMS:
        return SYNONYMS[word]
    singular = _singular(word)
    if singular in NOUN_SYNONYMS:
        return bare_plural(NOUN_SYNONYMS[singular])
    if singular in SYNONYMS:
        return SYNONYMS[singular] + ("s" if SYNONYMS[singular] == "object" else "")
    return None


# Understood by the rules of form below, and gone from the text after them.
_HELPERS: frozenset[str] = frozenset(
    "it we i could would will show find locate point count contain contains have has hold include includes spot see "
    "anything many some not that which been was were text reading read written say said says being visible and "
    "number object describe be want like know if whether did".split()
)


@cache
def _spellings() -> frozenset[str]:
    words = _ASKABLE | set(NOUN_SYNONYMS) | set(SYNONYMS) | {f"{word}s" for word in NOUN_SYNONYMS}
    return frozenset(word for word in words if len(word) >= SLIP_LENGTHS[0] - 1)


def _slips(word: str) -> Iterable[str]:
    """Every string one slip away: a letter missing, added, wrong, or swapped with its neighbour."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    cuts = [(word[:i], word[i:]) for i in range(len(word) + 1)]
    for left, right in cuts:
        if right:
            yield left + right[1:]
        if len(right) > 1:
            yield left + right[1] + right[0] + right[2:]
        for letter in letters:
            yield left + letter + right
            if right:
                yield left + letter + right[1:]
