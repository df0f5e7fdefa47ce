"""Where every family's tokens lie, what its prompts say, and how its checkpoints are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from script_core.backends.base import CannotLoad
from script_core.engine import Engine
from script_core.media import Media
from script_core.pruners.script import Script
from script_core.tokens import VisualTokens
from tests import clips, tiny_families
from tests.tiny import picture
from tests.tiny_families import FAMILIES, KINDS, QUESTION, TIMES, media

SIZES = [(200, 200), (330, 120), (90, 260), (301, 199), (640, 480)]  # width, height


def local(engine: Engine) -> None:
    """Silence everything that mixes patches, so that a token tells where its pixels came from."""
    for name, weight in engine.backend.model.named_parameters():
        mixes = ("out_proj", "fc2", "projection_layer", "attn.proj", "down_proj")
        if ("tower" in name or "visual" in name) and any(part in name for part in mixes):
            weight.data.zero_()


@pytest.fixture(scope="module")
def clear(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Engine]:
    made = {}
    for family in FAMILIES:
        folder = tiny_families.save(family, tmp_path_factory.mktemp("clear"))
        made[family] = Engine.load(folder, device="cpu")
        local(made[family])
    return made


def place(tokens: VisualTokens, index: int) -> tuple[float, float, float, float]:
    grid = tokens.grid
    block = grid.blocks[int(grid.block[index])]
    left, top, right, bottom = block.box
    wide, high = (right - left) / block.cols, (bottom - top) / block.rows
    x, y = left + int(grid.col[index]) * wide, top + int(grid.row[index]) * high
    return x, y, x + wide, y + high


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_mark_in_the_picture_is_found_where_the_grid_says(
    clear: dict[str, Engine], family: str, size: tuple[int, int]
) -> None:
    engine = clear[family]
    width, height = size
    plain = np.full((height, width, 3), 60, np.uint8)
    before = engine.encode(Media.of([plain])).tokens
    inside = [i for i in range(len(before)) if min(place(before, i)) >= 0 and max(place(before, i)) <= 1]
    assert len(inside) > 0.6 * len(before)
    for index in np.random.default_rng(5).choice(inside, 6, replace=False):
        x0, y0, x1, y1 = place(before, int(index))
        marked = plain.copy()
        rows = slice(round((0.7 * y0 + 0.3 * y1) * height), max(round((0.3 * y0 + 0.7 * y1) * height), 1))
        cols = slice(round((0.7 * x0 + 0.3 * x1) * width), max(round((0.3 * x0 + 0.7 * x1) * width), 1))
        if rows.start >= rows.stop or cols.start >= cols.stop:
            continue  # the token covers less than a pixel
        marked[rows, cols] = 255
        after = engine.encode(Media.of([marked])).tokens
        change = (after.features - before.features).norm(dim=1)
        mates = torch.nonzero(before.grid.block == before.grid.block[index]).flatten()
        assert int(mates[change[mates].argmax()]) == index


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mark_in_one_frame_is_found_in_that_frame(clear: dict[str, Engine], family: str) -> None:
    engine = clear[family]
    frames = [np.full((90, 120, 3), 60, np.uint8) for _ in TIMES]
    before = engine.encode(Media.of(frames, TIMES)).tokens
    frames[2] = frames[2].copy()
    frames[2][30:60, 40:80] = 255
    after = engine.encode(Media.of(frames, TIMES)).tokens
    moved = torch.nonzero((after.features - before.features).norm(dim=1) > 1e-4).flatten()
    assert len(moved)
    times = {before.grid.blocks[int(before.grid.block[i])].time for i in moved}
    assert times == {1.4}, "the frame's own time, which of merged pairs is that of the first"


def test_counts_and_separators(families: dict[str, Engine]) -> None:
    video, still = media("video"), media("image")
    tokens = {family: families[family].encode(video).tokens for family in FAMILIES}
    assert len(tokens["llava_onevision"]) == 4 * 16 and tokens["llava_onevision"].newlines.tolist() == [63]
    assert len(tokens["llava_video"]) == 4 * 9 and len(tokens["llava_video"].newlines) == 4 * 3
    assert len(tokens["video_llava"]) == 4 * 37 and len(families["video_llava"].encode(still).tokens) == 36
    assert len(tokens["internvl"]) == 4 * 9
    assert [b.kind for b in tokens["video_llava"].grid.blocks[:3]] == ["cls", "frame", "cls"]
    assert [b.time for b in tokens["qwen2_5_vl"].grid.blocks] == [0.0, 1.4]
    attention = tokens["video_llava"].cls_attention
    assert attention is not None and torch.allclose(attention.view(4, 37).sum(1), torch.ones(4), atol=1e-5)


def test_very_large_pictures_shrink_the_mosaic_into_one_block(families: dict[str, Engine]) -> None:
    tokens = families["llava_onevision"].encode(picture(1190, 590)).tokens
    base, mosaic = tokens.grid.blocks
    assert len(tokens) == 49 + mosaic.rows * mosaic.cols <= 49 + 9 * 49 * 1.21
    assert len(tokens.newlines) == mosaic.rows
    assert mosaic.box == pytest.approx((0, 0, 1, 1), abs=0.04)


def test_frames_share_a_budget_evenly_or_spend_it_where_it_matters(families: dict[str, Engine]) -> None:
    engine = families["llava_video"]
    tokens = engine.encode(media("video")).tokens
    even = engine.select(media("video"), QUESTION, pruner=Script(scope="crop"), budget=16).selection
    assert torch.bincount(tokens.grid.block[even.kept]).tolist() == [4, 4, 4, 4]
    free = engine.select(media("video"), QUESTION, pruner=Script(scope="global"), budget=16).selection
    assert len(free.kept) == 16


def test_a_video_file_is_asked_like_a_picture(families: dict[str, Engine], tmp_path: Path) -> None:
    path = clips.write(tmp_path / "clip.webm", frames=12)
    engine = families["video_llava"]
    assert engine.info.frames == 8
    result = engine.ask(path, QUESTION, budget=40, max_new_tokens=3)
    assert result.counters.total == 8 * 37 and len(result.selection.kept) == 40
    assert engine.ask(path.read_bytes(), QUESTION, budget=40, max_new_tokens=3).token_ids == result.token_ids


def test_prompts_say_what_the_families_were_trained_on(families: dict[str, Engine]) -> None:
    def said(family: str, kind: str) -> list[str]:
        backend: Any = families[family].backend
        texts = backend.prompt_ids("why?", families[family].encode(media(kind)).tokens)
        return [backend._tokenizer.decode(ids) for ids in texts]

    start = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    assert said("llava_video", "video") == [
        start,
        "\nThe video lasts for 2.10 seconds, and 4 frames are uniformly sampled from it. These frames are located at "
        "0.00s,0.70s,1.40s,2.10s. Please answer the following questions related to this video.\nwhy?"
        "<|im_end|>\n<|im_start|>assistant\n",
    ]
    assert said("llava_video", "image")[1].startswith("\nwhy?")
    frames = said("internvl", "video")
    assert frames[0].endswith("Frame1: <img>") and frames[1] == "</img>\nFrame2: <img>" and len(frames) == 5
    assert said("internvl", "image")[0].endswith("<img>") and said("internvl", "image")[1].startswith("</img>\nwhy?")
    assert said("qwen2_5_vl", "video")[0].endswith("<|vision_start|>")
    assert said("video_llava", "image") == ["USER: ", "\nwhy? ASSISTANT:"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_question_cannot_smuggle_in_control_words(families: dict[str, Engine], family: str) -> None:
    backend: Any = families[family].backend
    tokens = families[family].encode(media("video")).tokens
    words = " ".join(tiny_families.WORDS[family])
    plain, sly = (backend.prompt_ids(q, tokens) for q in ("a b", f"a {words} b"))
    assert len(plain) == len(sly)
    own = set(range(3, 3 + len(tiny_families.WORDS[family])))
    found = [[[i for i in part if i in own] for part in parts] for parts in (plain, sly)]
    assert found[0] == found[1]


def test_llava_video_reads_the_original_names_and_misses_none(families: dict[str, Engine], tmp_path: Path) -> None:
    folder = tiny_families.save("llava_video", tmp_path / "ours")
    raw = load_file(folder / "model.safetensors")
    assert not any("language_model" in name or "multi_modal" in name for name in raw)
    loaded: Any = families["llava_video"].backend.model
    assert torch.equal(loaded.model.multi_modal_projector.linear_2.weight, raw["model.mm_projector.2.weight"])
    words = loaded.model.language_model
    assert torch.equal(words.layers[3].mlp.up_proj.weight, raw["model.layers.3.mlp.up_proj.weight"])
    assert torch.equal(loaded.model.image_newline, raw["model.image_newline"])
    layer = "model.layers.2.self_attn.q_proj.bias"
    for lost in ("model.mm_projector.0.bias", "model.image_newline", "lm_head.weight", layer):
        save_file({k: v for k, v in raw.items() if k != lost}, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(CannotLoad, match="lack"):
            Engine.load(folder, device="cpu")


def test_pooling_is_selectable_where_it_is_a_choice(tmp_path: Path) -> None:
    folder = tiny_families.save("llava_video", tmp_path / "video")
    bilinear = Engine.load(folder, device="cpu", pool_mode="bilinear", frames=6)
    tokens = bilinear.encode(media("video")).tokens
    assert bilinear.info.frames == 6 and len(tokens) == 4 * 16 and len(tokens.newlines) == 4 * 4
    with pytest.raises(CannotLoad, match="average, bilinear"):
        Engine.load(folder, device="cpu", pool_mode="maximum")
    with pytest.raises(CannotLoad, match="pool_mode"):
        Engine.load(tiny_families.save("video_llava", tmp_path / "other"), device="cpu", pool_mode="average")


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_runs_through_the_same_code(family: str, tmp_path: Path) -> None:
    engine = Engine.load(tiny_families.save(family, tmp_path / family), device="cpu", dtype="bfloat16")
    for kind in KINDS:
        result = engine.ask(media(kind), QUESTION, budget=9, max_new_tokens=3)
        assert result.counters.kept == 9 and torch.isfinite(result.first_logits).all()
    assert engine.info.dtype == "bfloat16"


def test_large_pictures_stay_within_qwens_recommended_number_of_tokens(families: dict[str, Engine]) -> None:
    backend: Any = families["qwen2_5_vl"].backend
    theirs = backend._prepare.size
    backend._prepare.size = type(theirs)(shortest_edge=56 * 56, longest_edge=16384 * 28 * 28)
    try:
        _, grid = backend._picture(Media.of([picture(4000, 3000)]))
    finally:
        backend._prepare.size = theirs
    assert 1100 < int(grid.prod()) // 4 <= 1280
