"""Draws the loss curves of a training run, and accuracy against budget, as one PNG each."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

KEYS = ("answer", "name", "question", "symbol", "point1", "place")
COLOURS = ((40, 40, 200), (200, 110, 20), (40, 140, 40), (160, 40, 160), (20, 140, 200), (90, 90, 90))  # BGR
METHOD_COLOURS = (*COLOURS, (180, 180, 0), (0, 90, 130), (120, 60, 220), (60, 60, 60))
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


def draw_accuracy(rows: Sequence[Mapping[str, Any]], target: Path) -> None:
    """One panel per kind of question: accuracy (0 to 100 %) against the budget, on a log scale, a line per method.

    rows: of the evaluation's results; the full model's row is the grey level.
    """
    full = next(row for row in rows if row["method"] == "full")
    methods = list(dict.fromkeys(row["method"] for row in rows if row["method"] != "full"))
    panels = [_kind(suite, full["suites"][suite], rows, methods) for suite in full["suites"]]
    panels.append(_legend(methods))
    panels += [np.full((HEIGHT, WIDTH, 3), 255, np.uint8)] * (-len(panels) % 3)
    grid = [np.concatenate(panels[i : i + 3], 1) for i in range(0, len(panels), 3)]
    cv2.imwrite(str(target), np.concatenate(grid, 0))


def _kind(suite: str, full: float, rows: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> np.ndarray:
    budgets = sorted({row["budget"] for row in rows if row["method"] != "full"})
    low, span = math.log(budgets[0]), max(math.log(budgets[-1] / budgets[0]), 1e-9)
    panel = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    _write(panel, f"{suite} (all tokens: {100 * full:.0f} %)", 10, 18, 0.45)
    for percent in (0, 25, 50, 75, 100):
        y = 230 - 2 * percent
        cv2.line(panel, (34, y), (WIDTH - 10, y), (225, 225, 225), 1)
        _write(panel, str(percent), 6, y + 4, 0.32)
    cv2.line(panel, (34, round(230 - 200 * full)), (WIDTH - 10, round(230 - 200 * full)), (150, 150, 150), 1)
    for budget in budgets:
        _write(panel, str(budget), round(36 + (WIDTH - 70) * (math.log(budget) - low) / span), 248, 0.32)
    for method, colour in zip(methods, METHOD_COLOURS, strict=False):
        mine = sorted((row["budget"], row["suites"][suite]) for row in rows if row["method"] == method)
        points = [(40 + (WIDTH - 70) * (math.log(b) - low) / span, 230 - 200 * value) for b, value in mine]
        cv2.polylines(panel, [np.array(points).round().astype(np.int32)], False, colour, 1, cv2.LINE_AA)
        for x, y in points:
            cv2.circle(panel, (round(x), round(y)), 2, colour, -1, cv2.LINE_AA)
    return panel


def _legend(methods: Sequence[str]) -> np.ndarray:
    panel = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    for i, (method, colour) in enumerate(zip(methods, METHOD_COLOURS, strict=False)):
        cv2.line(panel, (20, 30 + 22 * i), (60, 30 + 22 * i), colour, 2, cv2.LINE_AA)
        _write(panel, method, 70, 34 + 22 * i, 0.42)
    return panel


def _write(panel: np.ndarray, text: str, x: int, y: int, size: float) -> None:
    cv2.putText(panel, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 1, cv2.LINE_AA)
