"""How long, how large and on what the model is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Length:
    """How long a stage lasts (minutes or steps, whichever ends first), with how many scenes per process and step.

    A stage that only steps bound is bit-reproducible: the same seed, machine and torch give the same weights, as long
    as it is not interrupted (a resumed one draws other scenes).
    """

    minutes: float
    batch: int
    steps: int = 10**9
    workers: int = 1
    decay: float = 0.4  # the rate falls linearly over this last share
    keep: float = 0.0  # share of the weights it began with in those it ends with: their mean forgets less
    pace: float = 1.0  # times the stage's own rates: a short stage has no time to mend what a high rate undoes


@dataclass(frozen=True)
class Gate:
    """What a stage must have learned before the next one is worth its time: a figure of its report, at least `least`.

    `path`: the keys that lead to the figure.
    """

    path: tuple[str, ...]
    least: float

    def failure(self, found: Any) -> str | None:
        """None if passed, else a sentence."""
        value = found
        for key in self.path:
            value = value[key]
        value = value[0] if isinstance(value, (list, tuple)) else value
        if value >= self.least:
            return None
        return f"{' / '.join(self.path)} is {value:.3f}, below {self.least:.3f}, which the next stage builds on."


# The language model must compare places before pixels come in, or it stays at what is answered most often.
_GATES = {
    "align": Gate(("auc",), 0.98),
    "symbols": Gate(("100", "leftright"), 0.9),
    "connect": Gate(("accuracy", "existence"), 0.8),
    "tune": Gate(("accuracy", "existence"), 0.9),
    "modes": Gate(("accuracy", "existence"), 0.9),
    "order": Gate(("accuracy", "existence"), 0.9),
}


@dataclass(frozen=True)
class Preset:
    stages: dict[str, Length]
    device: str = "cpu"
    sizes: dict[str, int] = field(default_factory=dict)
    gate_scenes: int = 96
    gates: Mapping[str, Gate] = field(default_factory=dict)
    destination: Path = ROOT / "assets" / "models" / "stickers"


PRESETS = {
    "cpu": Preset({  # two and a half hours on two cores; what they reach is in NOTES.md
        "align": Length(25, 20), "symbols": Length(25, 20),
        "connect": Length(12, 16, workers=2), "tune": Length(42, 16, workers=2, decay=0.6),
        "modes": Length(51, 16, workers=2, decay=0.8, pace=0.5),
        "order": Length(14, 16, workers=2, decay=1.0, keep=0.2),
    }, gates=_GATES),
    "shipped": Preset({  # the lengths of the checkpoint in the repository
        "align": Length(27, 20, 3397), "symbols": Length(27, 20, 2837),
        "connect": Length(15, 16, 1339, workers=2), "tune": Length(57, 16, 2575, workers=2, decay=0.6),
        "modes": Length(363, 16, 19285, workers=2, decay=0.3),
        "order": Length(48, 16, 3101, workers=2, decay=1.0, keep=0.2),
    }, gates=_GATES),
    "gpu": Preset({
        "align": Length(5, 128), "symbols": Length(5, 96), "connect": Length(2, 128), "tune": Length(5, 96),
        "modes": Length(5, 96), "order": Length(2, 64, decay=1.0, keep=0.2),
    }, device="cuda", gates=_GATES),
    "smoke": Preset({
        "align": Length(inf, 4, 3), "symbols": Length(inf, 4, 3),
        "connect": Length(inf, 4, 3), "tune": Length(inf, 3, 3),
        "modes": Length(inf, 3, 3), "order": Length(inf, 3, 2, keep=0.2),
    }, sizes={"vit_width": 96, "vit_heads": 3, "width": 64, "layers": 3, "heads": 2, "mlp": 128, "joint": 32},
        gate_scenes=16),
}  # fmt: skip
