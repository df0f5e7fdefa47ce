"""The video's timeline: places, bars and relevance by frame, and what the canvas is sent."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from script_core.engine import Engine
from script_core.media import Media
from script_core.tokens import Block, Grid, Query, VisualTokens
from tests import tiny_families
from tests.tiny import picture
from ui.video_answer import Watched
from ui.video_state import VideoSettings
from ui.video_timeline import bits, kept_in, most, places, relevance_in

TIMES = (0.0, 0.7, 1.4, 2.1)


def grid(*blocks: tuple[str, int, float]) -> Grid:
    return Grid.full(tuple(Block(kind, side, side, time=time) for kind, side, time in blocks))


def test_each_frame_is_a_place() -> None:
    found = places(grid(("frame", 2, 0.0), ("frame", 2, 0.5)), (0.0, 0.5))
    assert [(place.block, place.time, place.frames) for place in found] == [(0, 0.0, (0,)), (1, 0.5, (1,))]


def test_frames_that_a_model_merges_share_a_place() -> None:
    found = places(grid(("frame", 2, 0.0), ("frame", 2, 1.4), ("frame", 2, 2.8)), (*TIMES, 2.8))
    assert [place.frames for place in found] == [(0, 1), (2, 3), (4,)]


def test_tokens_that_stand_for_a_frame_are_no_place_and_in_no_bar() -> None:
    layout = grid(("cls", 1, 0.0), ("frame", 2, 0.0), ("cls", 1, 1.0), ("frame", 2, 1.0))
    found = places(layout, (0.0, 1.0))
    assert [(place.block, place.frames) for place in found] == [(1, (0,)), (3, (1,))]
    assert kept_in(layout, found, torch.tensor([0, 1, 2, 5, 9])) == [2, 1]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.data())
def test_bars_add_up_to_what_is_kept(sides: list[int], data: Any) -> None:
    layout = grid(*(("frame", side, float(i)) for i, side in enumerate(sides)))
    total = len(layout)
    kept = sorted(data.draw(st.sets(st.integers(0, total - 1))))
    bars = kept_in(layout, places(layout, tuple(map(float, range(len(sides))))), torch.tensor(kept, dtype=torch.int64))
    assert sum(bars) == len(kept)
    assert all(0 <= bar <= side * side for bar, side in zip(bars, sides, strict=True))


@given(st.integers(1, 300), st.data())
def test_a_bitset_holds_exactly_the_kept_tokens(total: int, data: Any) -> None:
    kept = sorted(data.draw(st.sets(st.integers(0, total - 1))))
    raw = base64.b64decode(bits(torch.tensor(kept, dtype=torch.int64), total))
    assert len(raw) == (total + 7) // 8
    assert [i for i in range(8 * len(raw)) if raw[i // 8] >> (i % 8) & 1] == kept


def test_the_place_with_most_is_the_first_one_and_none_if_all_are_equal() -> None:
    assert most([3, 9, 9, 1]) == 1
    assert most([4, 4, 4]) is None and most([7]) is None and most([]) is None


def test_relevance_compares_frames_over_the_whole_video() -> None:
    """Frame 0 has nothing of the question's direction, frame 1 one token half of it, frame 2 one token all of it."""
    layout = grid(*(("frame", 3, float(i)) for i in range(3)))
    features = torch.zeros(27, 2)
    features[:, 0] = 1.0
    features[9] = torch.tensor([1.0, 1.0])
    features[18] = torch.tensor([0.0, 1.0])
    tokens = VisualTokens(features, layout)
    line = relevance_in(tokens, Query("what?", torch.tensor([[0.0, 1.0]])), places(layout, (0.0, 1.0, 2.0)))
    assert line == pytest.approx([0.0, 2**-0.5, 1.0], abs=1e-6)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Engine]:
    return {
        family: Engine.load(tiny_families.save(family, tmp_path_factory.mktemp(family)), device="cpu")
        for family in ("video_llava", "qwen2_5_vl")
    }


def watched(engine: Engine, **changes: Any) -> tuple[dict[str, Any], Any, Media]:
    media = Media.of([picture(120, 90, i) for i in range(len(TIMES))], TIMES)
    seen = Watched.of(engine, media, VideoSettings(question="what is it?", **changes), "")
    selected = engine.select(seen.encoded, "what is it?", pruner=seen.pruner, budget=seen.settings.budget)
    return seen.drawn(selected, set_budget=True), selected, media


def test_a_frame_block_shows_its_own_frame_where_others_lie_between(engines: dict[str, Engine]) -> None:
    value, _, media = watched(engines["video_llava"], each=5)
    frames = [block for block in value["blocks"] if block["kind"] == "frame"]
    assert [block["image"] for block in frames] == [0, 1, 2, 3] and len(value["images"]) == 4
    assert value["unit"] == 4 and value["budget"] == 20 and len(value["line"]) == 4
    for shown, frame in zip(value["images"], media.frames, strict=True):
        with Image.open(shown["path"]) as file:
            assert file.format == "JPEG" and max(file.size) <= 384
            assert abs(np.asarray(file.convert("RGB"), float).mean() - frame.mean()) < 6


def test_merged_frames_show_the_first_of_them(engines: dict[str, Engine]) -> None:
    value, selected, _ = watched(engines["qwen2_5_vl"], each=3)
    assert [place["frames"] for place in value["places"]] == [(0, 1), (2, 3)]
    assert [block["image"] for block in value["blocks"]] == [0, 2]
    assert value["unit"] == 2 and len(selected.selection.kept) == 6
    assert json.loads(json.dumps(value))["n"] == value["n"]


def test_per_frame_every_frame_keeps_as_many_and_shared_they_may_differ(engines: dict[str, Engine]) -> None:
    engine = engines["qwen2_5_vl"]
    bars = {}
    for scope in ("crop", "global"):
        value, selected, media = watched(engine, each=4, scope=scope)
        tokens = selected.encoded.tokens
        bars[scope] = kept_in(tokens.grid, places(tokens.grid, media.times), selected.selection.kept)
        assert sum(bars[scope]) == value["budget"] == 8
    assert bars["crop"] == [4, 4]


def test_methods_without_an_order_send_a_bitset(engines: dict[str, Engine]) -> None:
    value, selected, _ = watched(engines["qwen2_5_vl"], each=4, method="fastv")
    assert "walk" not in value and "kept" not in value
    assert value["bits"] == bits(selected.selection.kept, value["n"])
