"""How far a load has come: the phases it goes through, told to whoever wants to show them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

PHASES = ("resolve", "download", "read", "move", "ready")
_SAID = {
    "resolve": "asking the hub what is needed",
    "download": "downloading",
    "read": "reading the weights",
    "move": "moving to the device",
    "ready": "ready",
}


@dataclass(frozen=True)
class Step:
    """One moment of a load. done, total: bytes while downloading, tensors while reading; total 0 without a count."""

    phase: str
    done: int = 0
    total: int = 0

    @property
    def share(self) -> float | None:
        """Between 0 and 1, None without a count."""
        return min(1.0, self.done / self.total) if self.total else None

    def said(self) -> str:
        """What happens, in a few words: downloading 3.2 of 14.1 GB."""
        if self.phase == "download" and self.total:
            size, unit = (1e9, "GB") if self.total >= 1e9 else (1e6, "MB")
            return f"downloading {self.done / size:.1f} of {self.total / size:.1f} {unit}"
        if self.phase == "read" and self.share is not None:
            return f"reading the weights, {100 * self.share:.0f} %"
        return _SAID[self.phase]


Told = Callable[[Step], None]


def silent(step: Step) -> None:
    """For callers who do not want to know."""
