"""The stages of training in their order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from script_core.stickers.modes import Modes
from script_core.stickers.order import Order
from script_core.stickers.stages import Align, Connect, Symbols, Tune

STAGES: Mapping[str, Any] = {
    "align": Align, "symbols": Symbols, "connect": Connect, "tune": Tune, "modes": Modes, "order": Order,
}  # fmt: skip
LAST = list(STAGES)[-1]
