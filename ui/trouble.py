"""Failures as sentences beside the field that they are about. Never a traceback."""

from __future__ import annotations

import logging
from typing import Any

from script_core.backends.base import CannotLoad
from script_core.engine import QuestionError
from script_core.media import MediaError
from script_core.pruners.base import CannotPrune
from ui import cards, shortage
from ui.runtime import NotReady
from ui.state import Unusable

log = logging.getLogger("script")
View = dict[str, Any]

GENERIC = "Something went wrong on the server. Nothing you entered was lost; try again, or reload the page."
GONE = "The picture is no longer on the server (uploads are deleted after an hour); upload it again."
NOTES = ("media_note", "question_note", "settings_note")
FIELD_OF_PROBLEM = {"question": "question_note"}


def quiet() -> View:
    """All notes empty."""
    return dict.fromkeys(NOTES, "")


def trouble(problem: BaseException) -> View:
    """The sentences for a failure, each beside its field; the other notes are emptied."""
    if isinstance(problem, Unusable):
        view = quiet()
        for name, text in problem.problems.items():
            part = FIELD_OF_PROBLEM.get(name, "settings_note")
            view[part] = view[part] + cards.note(text)
        return view
    if isinstance(problem, MediaError):
        return {**quiet(), "media_note": cards.note(str(problem))}
    if isinstance(problem, QuestionError):
        return {**quiet(), "question_note": cards.note(str(problem))}
    if isinstance(problem, CannotPrune | CannotLoad | NotReady):
        return {**quiet(), "settings_note": cards.note(str(problem))}
    short = shortage.said(problem)
    if short:
        return {**quiet(), "question_note": cards.note(short)}  # above the fold, beside the button to press again
    log.error("unexpected", exc_info=problem)
    return {**quiet(), "settings_note": cards.note(GENERIC)}
