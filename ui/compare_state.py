"""What a comparison was asked: checked once, written into a link, read back from one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from script_core.pruners import PRUNERS
from ui.state import CHECKS, from_link, usable

FEWEST, MOST = 2, 8
DEFAULT_METHODS = ("script", "cdpruner", "divprune", "visionzip", "fastv", "random")
RELEASED_AGAINST_PAPER = ("script", "script_released", "qcsp", "cdpruner")
BUDGET = 192  # the papers' largest for 576 tokens, and one that methods inside a shallow model can reach, too
PREFIX = "c_"  # of the link's parameters, so that they are not taken for the Ask tab's


@dataclass(frozen=True)
class CompareSettings:
    """One question to one picture, the methods, and their shared average budget. `example`: its id, or ""."""

    question: str = ""
    budget: int = BUDGET
    methods: tuple[str, ...] = DEFAULT_METHODS
    answer_tokens: int = 32
    model: str = ""
    example: str = ""

    def but(self, **changes: Any) -> CompareSettings:
        """The same with some replaced."""
        return replace(self, **changes)


DEFAULTS = CompareSettings()


def check_methods(chosen: Iterable[Any] | None) -> tuple[str, ...]:
    """Registry names in the registry's order, each once. Raises ValueError with a sentence."""
    wanted = {str(name) for name in chosen or ()}
    unknown = sorted(wanted - set(PRUNERS))
    if unknown:
        raise ValueError(f"There is no method {unknown[0][:40]!r}; choose among the ones listed.")
    if not FEWEST <= len(wanted) <= MOST:
        raise ValueError(f"Choose {FEWEST} to {MOST} methods; {len(wanted)} are chosen now.")
    return tuple(name for name in PRUNERS if name in wanted)


_CHECKS = {
    "question": CHECKS["question"],
    "budget": CHECKS["budget"],
    "answer_tokens": CHECKS["answer_tokens"],
    "methods": check_methods,
    "model": str,
    "example": str,
}


def check(**values: Any) -> CompareSettings:
    """Settings from raw values; see `state.usable`."""
    return usable(values, _CHECKS, DEFAULTS)


def to_query(settings: CompareSettings) -> str:
    """The query string of a link that restores this comparison. An uploaded picture cannot be in it."""
    held: dict[str, Any] = {
        "question": settings.question,
        "budget": settings.budget,
        "methods": ",".join(settings.methods),
        "answer_tokens": settings.answer_tokens,
        "model": settings.model,
        "example": settings.example,
    }
    return urlencode({"tab": "compare", **{PREFIX + name: value for name, value in held.items() if value != ""}})


def from_query(query: Mapping[str, str]) -> tuple[CompareSettings, tuple[str, ...]] | None:
    """Settings from a link, and sentences about values that were ignored; None if the link is not for this tab."""
    given: dict[str, Any] = {name: query[PREFIX + name] for name in _CHECKS if PREFIX + name in query}
    if not given:
        return None
    if "methods" in given:
        given["methods"] = [name for name in given["methods"].split(",") if name]
    return from_link(given, _CHECKS, DEFAULTS)
