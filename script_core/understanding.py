"""What may be asked, and what the model is asked instead of what was typed."""

from __future__ import annotations

from dataclasses import dataclass

MAX_QUESTION = 2000  # characters


class QuestionError(ValueError):
    """A question cannot be asked; the message is one sentence for the reader."""


@dataclass(frozen=True)
class Understood:
    """The question as the model is asked it, and a sentence about what it does not know, or None."""

    text: str
    notice: str | None = None


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
    """The question in the wordings that the embedded model was taught."""
    from script_core.stickers.catalogue import NAMES
    from script_core.stickers.language import understand

    heard = understand(question)
    notice = None
    if heard.unknown:
        words = ", ".join(f'"{word}"' for word in heard.unknown[:5])
        notice = f"I do not know {words}. I only know these {len(NAMES)} things: {', '.join(NAMES)}."
    elif not heard.taught:
        notice = "I was not taught questions of this form, so this answer is a guess."
    return Understood(heard.text or question, notice)
