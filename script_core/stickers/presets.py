"""How long, how large and on what the model is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Length:
    """How long a stage lasts (minutes or steps, whichever ends first), with how many scenes per process and step."""

    minutes: float
    batch: int
    steps: int = 10**9
    workers: int = 1
    decay: float = 0.4  # the rate falls linearly over this last share


@dataclass(frozen=True)
class Preset:
    stages: dict[str, Length]
    device: str = "cpu"
    sizes: dict[str, int] = field(default_factory=dict)
    gate_scenes: int = 96
    destination: Path = ROOT / "assets" / "models" / "stickers"


PRESETS = {
    "cpu": Preset({
        "align": Length(27, 20), "symbols": Length(27, 20),
        "connect": Length(15, 16, workers=2), "tune": Length(57, 16, workers=2, decay=0.6),
        "modes": Length(70, 16, workers=2, decay=0.6),
    }),
    "gpu": Preset({
        "align": Length(5, 128), "symbols": Length(5, 96), "connect": Length(2, 128), "tune": Length(5, 96),
        "modes": Length(7, 96),
    }, device="cuda"),
    "smoke": Preset({
        "align": Length(1, 4, 3), "symbols": Length(1, 4, 3),
        "connect": Length(1, 4, 3), "tune": Length(1, 3, 3),
        "modes": Length(1, 3, 3),
    }, sizes={"vit_width": 96, "vit_heads": 3, "width": 64, "layers": 3, "heads": 2, "mlp": 128, "joint": 32},
        gate_scenes=16),
}  # fmt: skip
