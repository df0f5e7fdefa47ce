"""The benchmark runs and writes down what it measured; how fast anything is, no test decides."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from script_core import dpp
from script_core.bench import inputs
from script_core.bench.__main__ import main
from script_core.bench.plain import plain_map
from script_core.bench.tables import Table
from script_core.bench.timing import Effort, Timing, timed


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, llava_folder: Path) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("bench") / "found.json"
    assert main(["--quick", "--device", "cpu", "--model", str(llava_folder), "--json", str(path)]) == 0
    return json.loads(path.read_text())


def test_the_json_says_where_and_with_what_it_was_measured(written: dict[str, Any]) -> None:
    assert {"made", "machine", "libraries", "commit", "changed", "command", "left_out", "tables"} <= set(written)
    assert written["machine"]["processor"] and written["machine"]["cores"] >= 1
    assert written["libraries"]["torch"].startswith(torch.__version__.split("+")[0])
    assert "--quick" in written["command"]


def test_every_part_has_its_table(written: dict[str, Any]) -> None:
    tables = written["tables"]
    assert {"walks", "methods-36", "methods-108", "answers", "growth", "shapes-llama"} == set(tables)
    assert all(table["rows"] and table["title"] and table["note"] for table in tables.values())


def test_every_timing_is_a_median_with_its_spread(written: dict[str, Any]) -> None:
    timings = [v for t in written["tables"].values() for row in t["rows"] for v in row.values() if isinstance(v, dict)]
    assert len(timings) > 50
    for timing in timings:
        assert timing["runs"] >= 1
        assert 0 < timing["best"] <= timing["low"] <= timing["median"] <= timing["high"]


def test_answers_compare_every_method_with_the_unpruned_run(written: dict[str, Any]) -> None:
    rows = written["tables"]["answers"]["rows"]
    assert rows[0]["method"] == "full" and rows[0]["kept"] == rows[0]["of"] == 36
    for row in rows[1:]:
        assert row["kept"] == 16  # a budget of 64 prunes nothing here
        assert row["remark"] or row["KV cache, MB"] < rows[0]["KV cache, MB"]
    assert {"script", "cdpruner", "visionzip", "fastv", "random"} <= {row["method"] for row in rows}


def test_the_yardstick_picks_what_the_library_picks() -> None:
    x, r = inputs.features(80, 32), inputs.relevance(80)
    assert plain_map(x[None], r[None], 12)[0].tolist() == dpp.greedy_map(x, r, 12)[0].tolist()


def test_timings_skip_the_warm_up_and_keep_their_order() -> None:
    calls: list[str] = []
    timing = timed(lambda: calls.append("work"), Effort(3, 5, 1.0), torch.device("cpu"), lambda: calls.append("before"))
    assert timing.runs == 5 and calls == ["before", "work"] * 6
    assert Timing.of([3.0, 1.0, 2.0]) == Timing(2.0, 1.5, 2.5, 1.0, 3)
    assert Timing.of([4.0]) == Timing(4.0, 4.0, 4.0, 4.0, 1)


def test_a_remark_is_printed_once_below_its_table() -> None:
    rows = ({"method": "a", "ms": 1.5, "remark": "It cannot."}, {"method": "b", "ms": None, "remark": "It cannot."})
    text = Table("name", "Title", "Note.", rows).text()
    assert text.count("It cannot.") == 1 and "1.50" in text and text.splitlines()[0] == "Title"


def test_a_missing_gpu_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    if not torch.cuda.is_available():
        assert main(["--device", "cuda"]) == 2
        assert "no GPU" in capsys.readouterr().err
