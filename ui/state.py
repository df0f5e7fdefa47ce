"""What a person can set, in one frozen value: checked once, written into a link, read back from one."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar
from urllib.parse import urlencode

from script_core.pruners import PRUNERS
from script_core.pruners.script import GAMMA, TAU, P
from ui.limits import LIMITS

QUESTION_LIMIT = LIMITS.max_question_chars
ANSWER_LIMIT = LIMITS.max_new_tokens
BUDGET = 64
MOST_TOKENS = 1_000_000  # more than any model reads; larger numbers do not even travel to the browser

Checked = TypeVar("Checked", bound=Any)  # the settings of one tab, a frozen dataclass


@dataclass(frozen=True)
class Settings:
    """Question, method and its parameters. `budget` counts visual tokens; `flip` turns the relevance sign around."""

    question: str = ""
    method: str = "script"
    budget: int = BUDGET
    tau: float = TAU
    gamma: float = GAMMA
    p: float = P
    scope: str = "crop"
    flip: bool = False
    newlines: str = "drop"
    answer_tokens: int = 32

    def but(self, **changes: Any) -> Settings:
        """The same settings with some replaced."""
        return replace(self, **changes)


DEFAULTS = Settings()


class Unusable(ValueError):
    """Settings that cannot be used. `problems` maps a field's name to the sentence to show beside it."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        super().__init__(" ".join(self.problems.values()))


def _question(value: Any) -> str:
    text = " ".join(str(value or "").split())
    if not text:
        raise ValueError("Type a question about the picture first.")
    if len(text) > QUESTION_LIMIT:
        raise ValueError(
            f"The question has {len(text):,} characters; the limit is {QUESTION_LIMIT:,}, so shorten it and ask again."
        )
    return text


def _number(label: str, low: float, high: float) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if isinstance(value, bool) or not math.isfinite(number):
            raise ValueError(f"{label} must be a number from {low:g} to {high:g}.")
        if not low <= number <= high:
            raise ValueError(f"{label} must lie between {low:g} and {high:g}; it is {number:g}.")
        return number

    return check


def _whole(label: str, low: int, high: int | None = None) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        top = math.inf if high is None else high
        number = _number(label, -math.inf, math.inf)(value) if _is_number(value) else math.nan
        if not number.is_integer():
            raise ValueError(f"{label} must be a whole number.")
        if not low <= number <= top:
            limit = f"at least {low}" if high is None else f"between {low} and {high}"
            raise ValueError(f"{label} must be {limit}; it is {int(number)}.")
        return int(number)

    return check


def _budget(value: Any) -> int:
    budget = _whole("The budget", 1)(value)
    if budget > MOST_TOKENS:
        raise ValueError(f"The budget must be at most {MOST_TOKENS:,}.")
    return budget


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def _choice(label: str, *options: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in options:
            raise ValueError(f"{label} must be one of {', '.join(options)}.")
        return str(value)

    return check


def _flag(value: Any) -> bool:
    return value in (True, "1", "true", "True", "on", 1)


CHECKS: dict[str, Callable[[Any], Any]] = {
    "question": _question,
    "method": lambda value: _choice("The method", *PRUNERS)(value),
    "budget": _budget,
    "tau": _number("tau", 0.0, 1.0),
    "gamma": _number("gamma", 0.0, 10.0),
    "p": _number("p", 0.0, 1.0),
    "scope": _choice("The scope", "crop", "global"),
    "flip": _flag,
    "newlines": _choice("The newline policy", "drop", "row"),
    "answer_tokens": _whole("The answer's length", 1, ANSWER_LIMIT),
}
NAMES = tuple(field.name for field in fields(Settings))


def sorted_out(
    values: Mapping[str, Any], checks: Mapping[str, Callable[[Any], Any]], question_needed: bool = True
) -> tuple[dict[str, Any], dict[str, str]]:
    """(usable values, a sentence for each field that cannot be used) of raw values.

    Without `question_needed` an empty question passes, as overlays can be drawn before anything is asked.
    """
    good: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name, value in values.items():
        if name == "question" and not question_needed and not str(value or "").strip():
            good[name] = ""
            continue
        try:
            good[name] = checks[name](value)
        except ValueError as problem:
            problems[name] = str(problem)
    return good, problems


def usable(
    values: Mapping[str, Any],
    checks: Mapping[str, Callable[[Any], Any]],
    defaults: Checked,
    question_needed: bool = True,
) -> Checked:
    """`defaults` with these values. Raises `Unusable` with one sentence for each field that cannot be used."""
    good, problems = sorted_out(values, checks, question_needed)
    if problems:
        raise Unusable(problems)
    return replace(defaults, **good)


def from_link(
    values: Mapping[str, Any], checks: Mapping[str, Callable[[Any], Any]], defaults: Checked
) -> tuple[Checked, tuple[str, ...]]:
    """Settings from a link. Values that cannot be used are left at their defaults; the sentences say which."""
    good, problems = sorted_out(values, checks, question_needed=False)
    notes = tuple(f"The link's {name} was ignored. {text}" for name, text in problems.items())
    return replace(defaults, **good), notes


def check(values: Mapping[str, Any], *, question_needed: bool = True) -> Settings:
    """Settings from raw values; see `usable`."""
    return usable(values, CHECKS, DEFAULTS, question_needed)


def pruner_of(settings: Settings, sign: float = 1.0) -> Any:
    """An instance of the chosen method with those of the settings that it has. `sign` is the backbone's own."""
    cls = PRUNERS[settings.method]
    known = inspect.signature(cls).parameters
    options = {name: getattr(settings, name) for name in ("tau", "gamma", "p", "scope") if name in known}
    if "sign" in known and settings.flip:
        options["sign"] = -1 if sign > 0 else 1
    return cls(**options)


def to_query(settings: Settings, **more: str) -> str:
    """A query string that holds what differs from the defaults, and `more` (such as the example's name)."""
    held = {name: getattr(settings, name) for name in NAMES if getattr(settings, name) != getattr(DEFAULTS, name)}
    return urlencode({**more, **{name: int(v) if isinstance(v, bool) else v for name, v in held.items()}})


def from_query(query: Mapping[str, str]) -> tuple[Settings, tuple[str, ...]]:
    """Settings from a link, and sentences about values that were ignored."""
    return from_link({name: query[name] for name in NAMES if name in query}, CHECKS, DEFAULTS)
