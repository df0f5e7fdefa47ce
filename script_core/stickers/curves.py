"""Draws the loss curves of a training run as one PNG."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

KEYS = ("answer", "name", "question", "symbol", "point1", "place")
COLOURS = ((40, 40, 200), (200, 110, 20), (40, 140, 40), (160, 40, 160), (20, 140, 200), (90, 90, 90))  # BGR
WIDTH, HEIGHT = 440, 260


def draw_curves(out: Path, stages: Sequence[str]) -> Path:
    """`curves.png` in the run directory: one panel per stage, log scale from 0.001 to 10."""
    panels = [_panel(name, out / f"{name}.jsonl") for name in stages]
    target = out / "curves.png"
    cv2.imwrite(str(target), np.concatenate(panels, 1))
    return target


def _panel(name: str, path: Path) -> np.ndarray:
    lines = [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []
    panel = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    cv2.putText(panel, name, (10, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    for decade in range(5):
        y = 245 - 52 * decade
        cv2.line(panel, (30, y), (WIDTH - 10, y), (225, 225, 225), 1)
        cv2.putText(panel, f"1e{decade - 3}", (2, y + 3), cv2.FONT_HERSHEY_SIMPLEX, 0.28, (90, 90, 90), 1, cv2.LINE_AA)
    shown = 0
    for key, colour in zip(KEYS, COLOURS, strict=True):
        values = np.array([x[key] for x in lines if key in x])
        if len(values) < 2:
            continue
        level = 52 * (np.log10(np.clip(values, 1e-3, 10)) + 3)
        points = np.stack([30 + np.linspace(0, WIDTH - 40, len(values)), 245 - level], 1).astype(np.int32)
        cv2.polylines(panel, [points], False, colour, 1, cv2.LINE_AA)
        label = f"{key} {values[-1]:.3f}"
        cv2.putText(panel, label, (WIDTH - 130, 18 + 14 * shown), cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, 1, cv2.LINE_AA)
        shown += 1
    return panel
