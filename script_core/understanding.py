"""What may be asked, what the model is asked instead of what was typed, and what it is not asked at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MAX_QUESTION = 2000  # characters


class QuestionError(ValueError):
    """A question cannot be asked; the message is one sentence for the reader."""


@dataclass(frozen=True)
class Understood:
    """The question as the model is asked it, and a sentence about what it does not know, or None.

    refusal: the sentence that stands in place of an answer when the question has a word that the model does not know;
    `notice` then begins with it and goes on to what the model does know. None if the model is to be asked.
    """

    text: str
    notice: str | None = None
    refusal: str | None = None


def check(question: str) -> str:
    """The question without surrounding space. Raises `QuestionError` if it is empty or longer than 2,000 characters."""
    if not isinstance(question, str) or not question.strip():
        raise QuestionError("Type a question about the picture first.")
    if len(question) > MAX_QUESTION:
        raise QuestionError(
            f"The question has {len(question):,} characters; at most {MAX_QUESTION:,} fit, so make it shorter."
        )
    return question.strip().encode("utf-8", "replace").decode("utf-8")  # half of a surrogate pair becomes "?"


def in_sticker_words(question: str) -> Understood:
    """The question in the wordings that the embedded model was taught.

    A word that it does not know is not guessed about. An adjective ("a big dog") is left out, with a notice; any other
    ("is there a giraffe ?") is refused.
    """
    from script_core.stickers.language import understand
    from script_core.stickers.synonyms import ADJECTIVES

    heard = understand(question)
    unknown = [word for word in heard.unknown if word not in ADJECTIVES]
    if unknown or not heard.text:
        refusal = _refusal(unknown)
        return Understood(heard.text or question, f"{refusal} {what_it_knows()}", refusal)
    if heard.unknown:
        return Understood(heard.text, f'I do not know {_quoted(heard.unknown)}; this answers "{heard.text}" instead.')
    if not heard.taught:
        return Understood(heard.text, "I was not taught questions of this form, so this answer is a guess.")
    return Understood(heard.text)


def in_short() -> str:
    """How much the embedded model knows, in one sentence."""
    from script_core.stickers.catalogue import COLOURS, NAMES, READABLE

    return f"I only know {len(NAMES)} things, {len(COLOURS)} colours and {len(READABLE)} written words."


def what_it_knows() -> str:
    """The same with every word, for readers of a refusal."""
    from script_core.stickers.catalogue import COLOURS, KINDS, READABLE

    things = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in KINDS.items())
    return (
        f"{in_short()} The things are, by kind, {things}. The colours are {', '.join(COLOURS)}. "
        f"The written words that I can read are {', '.join(READABLE)}."
    )


def _refusal(unknown: Sequence[str]) -> str:
    from script_core.stickers.catalogue import READABLE

    if not unknown:
        return "I do not know any of these words."
    if all(word in READABLE for word in unknown):
        return f'I can only read {_quoted(unknown)} in a picture; ask "what word is written ?".'
    return f"I do not know the word{'s' if len(unknown) > 1 else ''} {_quoted(unknown)}."


def _shown(word: str) -> str:
    """At most 40 characters of a word, or the code point of one that nobody could see."""
    return "".join(char for char in word if char.isprintable())[:40] or f"U+{ord(word[0]):04X}"


def _quoted(words: Sequence[str]) -> str:
    """ "a", "b" and "c"; at most five of them, as a question may hold hundreds."""
    quoted = [f'"{_shown(word)}"' for word in words[:5]] + (["others"] if len(words) > 5 else [])
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
