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
    name, typed = _read(text)
    if name not in PRUNERS:
        raise CannotPrune(f"There is no method {name!r}; the methods are {', '.join(PRUNERS)}.")
    plain = PRUNERS[name]()
    known = {f.name: f for f in dataclasses.fields(plain)} if dataclasses.is_dataclass(plain) else {}
    given: dict[str, Any] = {}
    for key, value in typed:
        if value is None or key not in known:
            options = ", ".join(known) or "none at all"
            raise CannotPrune(f"{name} has no parameter {key!r}; it has {options}.")
        given[key] = _value(name, known[key], value, getattr(plain, key))
    return Method(text.strip(), dataclasses.replace(plain, **given) if given else plain)


def _read(text: str) -> tuple[str, list[tuple[str, str | None]]]:
    """The name, and the parameters as typed; None for one without a value. Raises `CannotPrune`."""
    found = _FORM.fullmatch(text.strip())
    if not found:
        raise CannotPrune(f"{text.strip()!r} is not a method; write a name, or name(parameter=value,...).")
    parts = [part.partition("=") for part in (found[2] or "").split(",") if part.strip()]
    return found[1], [(key.strip(), value.strip() if equals else None) for key, equals, value in parts]


def parse_list(text: str) -> tuple[Method, ...]:
    """Several, with commas between them; commas inside brackets belong to a method. Raises `CannotPrune`.

    A seed is refused: whoever asks several methods counts the seeds, and a row is named after what was typed.
    """
    parts = [part for part in re.split(r",(?![^()]*\))", text) if part.strip()]
    if not parts:
        raise CannotPrune("Name at least one method, such as script,random.")
    methods: dict[str, Method] = {}
    for part in parts:
        method = parse(part)
        if "seed" in dict(_read(part)[1]):
            raise CannotPrune(
                f"Leave seed out of {part.strip()}: methods that are random run with the seeds 0, 1, 2 and so on, as "
                "many as are asked for."
            )
        methods.setdefault(method.key, method)
    return tuple(methods.values())


def _value(name: str, field: dataclasses.Field[Any], text: str, default: Any) -> Any:
    """As the parameter's own type, so that 1 and 1.0 are one value."""
    kinds = re.findall(r"\w+", str(field.type))  # of an annotation, such as "float | None"
    word = _WORDS.get(text.lower(), text)
    value = _number(word, "float" not in kinds) if isinstance(word, str) else word
    if type(value).__name__ not in [*kinds, *(["NoneType"] if "None" in kinds else [])]:
        raise CannotPrune(f"{name} cannot use {field.name}={text}; its default is {default!r}.")
    return value + 0.0 if isinstance(value, float) else value  # -0.0 becomes 0.0


def _number(text: str, whole: bool) -> int | float | str:
    """whole: whether what looks like a whole number is one."""
    try:
        return int(text) if whole and re.fullmatch(r"[+-]?\d+", text) else float(text)
    except ValueError:
        return text
