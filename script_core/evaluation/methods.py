"""Methods by name with parameters, as people type them: `script(p=0.3,tau=0.2,scope=global)`."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from script_core.pruners import PRUNERS
from script_core.pruners.base import CannotPrune
from script_core.pruners.random_baseline import Random
from script_core.pruners.script import Script

_FORM = re.compile(r"([a-z_0-9]+)(?:\((.*)\))?")
_WORDS = {"true": True, "false": False, "none": None}


@dataclasses.dataclass(frozen=True)
class Method:
    """What was typed, and the instance (with seed 0, where it has one)."""

    text: str
    pruner: Any

    @property
    def is_random(self) -> bool:
        """Whether another seed may give another selection."""
        bare = isinstance(self.pruner, Script) and not (self.pruner.gsp or self.pruner.qcrs or self.pruner.dpp)
        return bare or isinstance(self.pruner, Random)

    def seeded(self, seed: int) -> Any:
        """The instance for one of several runs."""
        return dataclasses.replace(self.pruner, seed=seed) if self.is_random else self.pruner

    @property
    def parameters(self) -> dict[str, Any]:
        """Every parameter but the seed, defaults included: what a result depends on, whatever the defaults become."""
        fields = dataclasses.fields(self.pruner) if dataclasses.is_dataclass(self.pruner) else ()
        return {f.name: getattr(self.pruner, f.name) for f in fields if f.init and f.name != "seed"}

    @property
    def key(self) -> str:
        """The method with all its parameters; two texts that mean the same have one key."""
        return f"{self.pruner.name}({','.join(f'{k}={v}' for k, v in self.parameters.items())})"


def parse(text: str) -> Method:
    """One method. Raises `CannotPrune` with the reason if the name, a parameter or a value is not one."""
    found = _FORM.fullmatch(text.strip())
    if not found:
        raise CannotPrune(f"{text.strip()!r} is not a method; write a name, or name(parameter=value,...).")
    name, inside = found.groups()
    if name not in PRUNERS:
        raise CannotPrune(f"There is no method {name!r}; the methods are {', '.join(PRUNERS)}.")
    plain = PRUNERS[name]()
    known = {f.name: f for f in dataclasses.fields(plain)} if dataclasses.is_dataclass(plain) else {}
    given: dict[str, Any] = {}
    for part in filter(None, (piece.strip() for piece in (inside or "").split(","))):
        key, equals, value = (side.strip() for side in part.partition("="))
        if not equals or key not in known:
            options = ", ".join(known) or "none at all"
            raise CannotPrune(f"{name} has no parameter {key!r}; it has {options}.")
        given[key] = _value(name, key, value, getattr(plain, key))
    return Method(text.strip(), dataclasses.replace(plain, **given) if given else plain)


def parse_list(text: str) -> tuple[Method, ...]:
    """Several, with commas between them; commas inside brackets belong to a method. Raises `CannotPrune`."""
    parts = [part for part in re.split(r",(?![^()]*\))", text) if part.strip()]
    if not parts:
        raise CannotPrune("Name at least one method, such as script,random.")
    methods: dict[str, Method] = {}
    for part in parts:
        method = parse(part)
        methods.setdefault(method.key, method)
    return tuple(methods.values())


def _value(name: str, key: str, text: str, default: Any) -> Any:
    word = _WORDS.get(text.lower(), text)
    if not isinstance(word, str):
        value: Any = word
    else:
        try:
            value = int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
        except ValueError:
            value = text
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        bool: isinstance(value, bool),
        int: number and isinstance(value, int),
        float: number,
        str: isinstance(value, str),
    }
    if default is not None and not fits.get(type(default), True):
        raise CannotPrune(f"{name} cannot use {key}={text}; its default is {default!r}.")
    return float(value) if isinstance(default, float) else value
