"""The benchmark runs and writes down what it measured; how fast anything is, no test decides."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from script_core import dpp, similarity
from script_core.bench import inputs
from script_core.bench.__main__ import main
from script_core.bench.parity import Sizes, agreeing, cases
from script_core.bench.plain import plain_map
from script_core.bench.selection import FullRank, growth
from script_core.bench.shapes import NEXT_7B, VIDEO_7B, Shape, made, media
from script_core.bench.tables import Table
from script_core.bench.timing import Effort, Timing, timed
from script_core.prefill import Decoding


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
    shapes = {"shapes-llava_next", "shapes-llava_video"}
    assert {"parity", "walks", "methods-36-cpu", "methods-108-cpu", "answers", "growth"} | shapes == set(tables)
    assert all(table["rows"] and table["title"] and table["note"] for table in tables.values())


def test_the_fast_walk_makes_the_references_picks_in_every_case(written: dict[str, Any]) -> None:
    rows = written["tables"]["parity"]["rows"]
    assert {"random", "rank-deficient", "all equal", "one token", "large"} <= {row["case"] for row in rows}
    assert all(row["same picks from raw features"] == row["kernels"] for row in rows)


def test_another_order_and_other_gains_are_noticed() -> None:
    case = next(cases(Sizes(3, 1, 12, 12)))
    matrices = torch.stack([torch.from_numpy(similarity.gram(crop)) for crop in case.features])

    def wrong(matrices: torch.Tensor, relevance: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        right = [dpp.greedy_walk(m.numpy(), r.numpy(), k) for m, r in zip(matrices, relevance, strict=True)]
        order, gains = (torch.stack([torch.from_numpy(row) for row in rows]) for rows in zip(*right, strict=True))
        order[1] = order[1].flip(0)
        return order, gains + 0.5

    assert agreeing(case, wrong, matrices) == (2, 0.5)


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
        assert row["kept"] == 16  # budgets of 64 and more prune nothing here
        assert row["remark"] or row["KV cache, MB"] < rows[0]["KV cache, MB"]
    assert {"script", "cdpruner", "visionzip", "fastv", "random"} <= {row["method"] for row in rows}


def test_shapes_run_every_method_that_their_family_allows(written: dict[str, Any]) -> None:
    pictures, videos = (written["tables"][f"shapes-{family}"]["rows"] for family in ("llava_next", "llava_video"))
    assert pictures[0]["of"] == 180 and videos[0]["of"] == 27 and pictures[0]["text"] == 40
    inside = {"fastv", "pdrop", "sparsevlm"}
    assert inside | {"script", "cdpruner", "visionzip", "trim"} <= {row["method"] for row in pictures}
    methods = {row["method"] for row in videos}
    assert inside | {"script", "divprune"} <= methods and "visionzip" not in methods
    for row in (*pictures[1:], *videos[1:]):
        assert row["remark"] or row["KV cache, MB"] < pictures[0]["KV cache, MB"]


@pytest.mark.parametrize(("shape", "tokens", "weights"), [(NEXT_7B, 2880, 7.06), (VIDEO_7B, 10816, 8.03)])
def test_shapes_are_the_published_ones(shape: Shape, tokens: int, weights: float) -> None:
    nowhere = torch.device("meta")  # shapes without values
    backend: Any = made(shape, nowhere, torch.bfloat16)
    assert sum(one.numel() for one in backend.model.parameters()) / 1e9 == pytest.approx(weights, abs=0.01)
    few = replace(shape, frames=min(shape.frames, 4))
    encoded = backend.encode(media(few))
    assert encoded.features.shape == (tokens * max(few.frames, 1) // max(shape.frames, 1), shape.text["hidden_size"])
    assert len(Decoding(backend, backend.build("is it?", encoded, None)).logits) == shape.text["vocab_size"]


def test_a_walk_that_would_take_too_long_is_left_out() -> None:
    rows = list(growth((64,), (0.02, 0.5), 0.0, Effort(1, 1, 0.0)))
    assert rows[0]["walk, ms"] is not None and rows[1]["walk, ms"] is None and "Left out" in str(rows[1]["remark"])


def test_the_kernel_of_the_growth_curve_has_full_rank() -> None:
    kernel = FullRank(similarity.gram(inputs.features(40, 3)))
    order, gains = dpp.greedy_walk(kernel, np.linspace(0.5, 1, 40), 40)
    assert sorted(order.tolist()) == list(range(40)) and gains.min() > 0.1


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
    assert text.count("It cannot.") == 1 and text.splitlines()[0] == "### Title"
    assert "| method |   ms |\n|-------:|-----:|\n|      a | 1.50 |\n|      b |    - |" in text


def test_a_column_in_which_nothing_was_measured_is_not_printed() -> None:
    text = Table("name", "Title", "Note.", ({"method": "a", "peak, MB": None},)).text()
    assert "peak" not in text


def test_a_missing_gpu_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    if not torch.cuda.is_available():
        assert main(["--device", "cuda"]) == 2
        assert "no GPU" in capsys.readouterr().err
