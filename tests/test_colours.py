"""Colours for people who see fewer of them: maps stay ordered, series stay apart, and no meaning is in colour alone.

Colour blindness is simulated with the matrices of Machado, Oliveira and Fernandes (2009) at full severity; distances
are those of CIE 1976 L*a*b*.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from ui.analyse_charts import SERIES
from ui.benchmark import SYMBOLS, look

JS = Path(__file__).parent.parent / "assets" / "js"
SEEN = {
    "all colours": np.eye(3),
    "no red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "no green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "no blue": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def rgb(colour: str) -> np.ndarray:
    digits = colour.lstrip("#")
    return np.array([int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)])


def linear(colours: np.ndarray, eye: str) -> np.ndarray:
    """sRGB (n, 3) in 0..1 to the linear light that this eye cannot tell from it."""
    light = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    return np.clip(light @ SEEN[eye].T, 0, 1)


def lab(colours: np.ndarray, eye: str) -> np.ndarray:
    xyz = linear(colours, eye) @ TO_XYZ.T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def contrast(a: str, b: str, eye: str) -> float:
    """WCAG's ratio of luminances."""
    dark, bright = sorted(float((linear(rgb(c)[None], eye) @ TO_XYZ.T)[0, 1]) for c in (a, b))
    return (bright + 0.05) / (dark + 0.05)


def maps() -> dict[str, np.ndarray]:
    """Each score map of the canvas at 64 values, as the canvas mixes it."""
    text = (JS / "tokengrid-core.js").read_text()
    found = dict(re.findall(r"(\w+): (\[(?:\"[0-9a-f]{6}\",? ?)+\])", text))
    at = np.linspace(0, 1, 64)
    made = {}
    for name, stops in found.items():
        values = np.array([rgb(stop) for stop in re.findall(r"[0-9a-f]{6}", stops)])
        made[name] = np.stack([np.interp(at, np.linspace(0, 1, len(values)), values[:, k]) for k in range(3)], axis=1)
    return made


@pytest.mark.parametrize("eye", SEEN)
@pytest.mark.parametrize("name", ["viridis", "cividis"])
def test_score_maps_grow_brighter_all_the_way_for_every_eye(name: str, eye: str) -> None:
    assert set(maps()) == {"viridis", "cividis"}
    seen = lab(maps()[name], eye)
    lightness = seen[:, 0]
    assert (np.diff(lightness) > 0).all(), "a higher score is brighter, so that greys alone tell the order"
    assert lightness[-1] - lightness[0] > 65
    apart = np.linalg.norm(seen[8:] - seen[:-8], axis=1)
    assert apart.min() > 6, "an eighth of the range can be told apart everywhere"


@pytest.mark.parametrize("eye", SEEN)
def test_lines_of_a_chart_are_told_apart_by_colour_or_by_their_marks(eye: str) -> None:
    looks = [look(at) for at in range(16)]
    assert len(set(looks)) == 16, "as many methods as there are"
    seen = {colour: lab(rgb(colour)[None], eye)[0] for colour in SERIES}
    for (a, mark_a), (b, mark_b) in itertools.combinations(looks, 2):
        assert mark_a != mark_b or np.linalg.norm(seen[a] - seen[b]) > 15, (a, b, mark_a)
    assert len(set(SYMBOLS)) == len(SYMBOLS) >= 8


@pytest.mark.parametrize("eye", SEEN)
def test_kept_tokens_have_an_outline_that_stands_out_from_its_own_halo(eye: str) -> None:
    """The outline lies on a wider line of the opposite brightness, so it is seen on any picture and in greys."""
    text = (JS / "tokengrid-paint.js").read_text()
    for edge, halo in (("#5eead4", "#040a0e"), ("#0f766e", "#ffffff")):
        assert f'edge: "{edge}"' in text
        assert contrast(edge, halo, eye) > 4.5
    for halo in ("rgba(4,10,14,.85)", "rgba(255,255,255,.9)"):
        assert f'halo: "{halo}"' in text
    # Marks on tokens differ in their line, not in colour alone: dashed for look-alikes, dots for merged ones.
    assert "setLineDash(dashed" in text and "ctx.arc(" in (JS / "compare-cell.js").read_text()
