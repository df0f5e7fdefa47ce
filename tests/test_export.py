"""What people take away: report, row and picture, and what is not in them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from script_core.engine import Engine
from tests.serving import QUESTION, SHORT
from ui import export, figure
from ui.examples import examples
from ui.limits import read_picture
from ui.state import Settings


@pytest.fixture(scope="module")
def made(engine: Engine) -> dict[str, Any]:
    settings = Settings(question=QUESTION, budget=50, answer_tokens=SHORT)
    return export.report(engine, read_picture(examples()[0].path), settings)


def test_report_says_all_that_is_needed_to_repeat_it(made: dict[str, Any], engine: Engine) -> None:
    again = json.loads(json.dumps(made, allow_nan=False))
    assert again["schema"] == "script-report/1"
    assert set(again) == {
        "schema", "made", "settings", "seeds", "versions", "model", "media", "answers", "fidelity", "selection",
        "blocks", "tokens",
    }  # fmt: skip
    assert {"torch", "transformers", "gradio", "python", "script_core"} <= set(again["versions"])
    assert again["seeds"] == {"method": 0, "decoding": "greedy"}
    assert {len(values) for values in again["tokens"].values()} == {576}
    settings = Settings(**again["settings"])
    repeated = export.report(engine, read_picture(examples()[0].path), settings)
    for key in ("answers", "fidelity", "selection"):
        if key == "selection":
            assert repeated[key]["kept"] == again[key]["kept"]
        elif key == "answers":
            assert repeated[key]["pruned"]["token_ids"] == again[key]["pruned"]["token_ids"]
        else:
            assert repeated[key] == again[key]


def test_csv_is_one_row_that_no_spreadsheet_runs(made: dict[str, Any]) -> None:
    evil = {**made, "settings": {**made["settings"], "question": '=HYPERLINK("http://x","y")'}}
    rows = list(csv.DictReader(io.StringIO(export.csv_row(evil))))
    assert len(rows) == 1 and rows[0]["kept"] == "50" and rows[0]["total"] == "576"
    assert rows[0]["question"].startswith("'=HYPERLINK")
    assert float(rows[0]["kl_first_nats"]) >= 0


def test_figure_shows_kept_tokens_and_holds_no_metadata(made: dict[str, Any], tmp_path: Path) -> None:
    media = read_picture(examples()[0].path)
    picture = Image.open(io.BytesIO(figure.figure(made, media)))
    assert picture.format == "PNG" and not picture.getexif() and picture.info.keys() <= {"dpi"}
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    side = 900
    cell = side / 24
    bright, dark = [], []
    source = np.asarray(Image.fromarray(media.frames[0]).resize((side, side))).astype(int)
    for index in range(576):
        row, col = divmod(index, 24)
        y, x = int((row + 0.5) * cell), int((col + 0.5) * cell)
        far = np.abs(pixels[y, x] - source[y, x]).max()
        (bright if index in made["selection"]["kept"] else dark).append(far)
    assert max(bright) < 40, "kept tokens show the picture"
    assert np.median(dark) > 60, "dropped tokens are veiled"


def test_place_and_camera_do_not_leave_with_an_export(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "home.jpg"
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    exif.get_ifd(0x8825)[1] = "N"
    Image.fromarray(np.full((64, 64, 3), 120, dtype=np.uint8)).save(path, exif=exif)
    assert b"SecretCamera" in path.read_bytes()
    media = read_picture(path)
    report = export.report(engine, media, Settings(question=QUESTION, budget=9, answer_tokens=1))
    for held in (json.dumps(report).encode(), export.csv_row(report).encode(), figure.figure(report, media)):
        assert b"SecretCamera" not in held and b"home.jpg" not in held and str(tmp_path).encode() not in held


def test_shown_pictures_are_made_anew(tmp_path: Path) -> None:
    from ui.tokengrid import shown_pictures

    path = tmp_path / "place.jpg"
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    Image.fromarray(np.full((64, 64, 3), 120, dtype=np.uint8)).save(path, exif=exif)
    shown = shown_pictures(read_picture(path))[0]["path"]
    assert b"SecretCamera" not in Path(shown).read_bytes()
