"""Where tokens come from, where they lie, and how they stand in a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from script_core.backends import load
from script_core.backends.checkpoint import load_parts
from script_core.backends.llava import Llava
from script_core.backends.placement import Placement
from script_core.engine import Engine
from script_core.media import Media, read_image
from script_core.tokens import Selection, VisualTokens
from tests import tiny
from tests.tiny import picture

SHAPES = [(84, 84), (200, 120), (100, 260), (40, 300), (300, 40), (513, 511)]  # (width, height)


def hf_features(engine: Engine, image: np.ndarray) -> torch.Tensor:
    """What transformers' own class gives the language model for this picture."""
    backend: Any = engine.backend
    inputs = backend._prepare(image, return_tensors="pt", input_data_format="channels_last")
    with torch.no_grad():
        return torch.cat(list(backend.model.model.get_image_features(**inputs, return_dict=True).pooler_output))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", ["llava", "llava_next"])
def test_features_are_those_of_transformers(request: Any, family: str, shape: tuple[int, int]) -> None:
    engine = request.getfixturevalue(family)
    image = picture(*shape)
    tokens = engine.encode(image).tokens
    theirs = hf_features(engine, image)
    content = torch.ones(len(theirs), dtype=torch.bool)
    content[tokens.newlines + 1 + torch.arange(len(tokens.newlines))] = False
    assert torch.allclose(tokens.features, theirs[content], atol=1e-5)
    assert torch.equal(engine.backend.build("a", tokens, None).visual.sum(), torch.tensor(len(theirs)))
    if family == "llava_next":
        assert torch.equal(theirs[~content], tokens.newline.expand(len(tokens.newlines), -1))
    else:
        assert len(tokens.newlines) == 0 and len(tokens) == 36


@pytest.mark.parametrize("family", ["llava", "llava_next"])
def test_inner_states_are_those_of_the_tower(request: Any, family: str) -> None:
    engine = request.getfixturevalue(family)
    backend = engine.backend
    image = picture(200, 120)
    tokens = engine.encode(image).tokens
    pixels = backend.views(image).pixels
    tower = backend.model.model.vision_tower
    tower.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            out = tower(pixels, output_hidden_states=True, output_attentions=True)
            block = tower.encoder.layers[-2]
            keys = block.self_attn.k_proj(block.layer_norm1(out.hidden_states[-3]))
    finally:
        tower.set_attn_implementation("sdpa")
    state = tokens.encoder
    assert torch.allclose(state.hidden, out.hidden_states[-2], atol=1e-5)
    assert torch.allclose(state.cls_attention, out.attentions[-2][:, :, 0, 1:], atol=1e-5)
    assert torch.allclose(state.keys, keys.unflatten(-1, (2, 16)).mean(2), atol=1e-5)
    grid = tokens.grid
    assert torch.equal(tokens.cls_attention, state.cls_attention.mean(1)[grid.block, state.patch])
    again = state.project(state.hidden[grid.block, 1 + state.patch])
    assert torch.allclose(again, tokens.features, atol=1e-5)


@pytest.mark.parametrize("spot", [(0.1, 0.2), (0.5, 0.5), (0.8, 0.35), (0.3, 0.9)])
@pytest.mark.parametrize("shape", [(168, 168), (240, 130), (120, 280), (430, 90)])
@pytest.mark.parametrize("kind", ["crop", "pad", "squash", "next"])
def test_a_mark_is_found_under_the_tokens_whose_boxes_hold_it(
    tmp_path_factory: pytest.TempPathFactory, request: Any, kind: str, shape: tuple[int, int], spot: tuple[float, float]
) -> None:
    backend: Any = _backend(kind, tmp_path_factory, request)
    width, height = shape
    plain = np.full((height, width, 3), 90, dtype=np.uint8)
    marked = plain.copy()
    x, y = int(spot[0] * width), int(spot[1] * height)
    marked[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = 255
    before, after = backend.views(plain), backend.views(marked)
    place = backend.layout(marked, after)
    change = (after.pixels - before.pixels).abs().sum(1)  # (B, s, s)
    cells = change.unfold(1, 14, 14).unfold(2, 14, 14).sum((-1, -2)).flatten(1)[place.view, place.patch]
    grid = backend.encode(read_image(marked)).grid
    assert torch.equal(grid.block, place.view)
    for index, block in enumerate(after.blocks):
        here = grid.block == index
        if not here.any():
            continue
        left, top, right, bottom = block.box
        col = ((x + 0.5) / width - left) / (right - left) * block.cols
        row = ((y + 0.5) / height - top) / (bottom - top) * block.rows
        strongest = int(torch.where(here, cells, -1).argmax())
        if not (0 <= col < block.cols and 0 <= row < block.rows):
            continue
        off = max(abs(int(grid.col[strongest]) + 0.5 - col), abs(int(grid.row[strongest]) + 0.5 - row))
        on_token = (here & (grid.col == int(col)) & (grid.row == int(row))).any()  # not unpadded away
        assert off <= 1.01 or not on_token, (block, col, row)


_MADE: dict[str, Any] = {}


def _backend(kind: str, factory: pytest.TempPathFactory, request: Any) -> Any:
    if kind in ("crop", "next"):
        return request.getfixturevalue("llava" if kind == "crop" else "llava_next").backend
    if kind not in _MADE:
        if kind == "pad":
            _MADE[kind] = load(tiny.save_llava(factory.mktemp("pad"), pad=True), device="cpu")
        else:
            folder = str(request.getfixturevalue("next_folder"))
            _MADE[kind] = Llava(
                load_parts(folder, "llava_next", Placement(torch.device("cpu"), torch.float32)), squash=True
            )
    return _MADE[kind]


def test_published_geometry_has_the_published_counts(tmp_path: Path) -> None:
    llava = load(tiny.save_llava(tmp_path / "a", side=336, joint=False), device="cpu")
    assert len(llava.encode(read_image(picture(640, 480)))) == 576
    big: Any = load(tiny.save_llava_next(tmp_path / "b", side=336, joint=False), device="cpu")
    for (width, height), content, newlines in [((672, 672), 2880, 48), ((640, 480), 2304, 36), ((336, 336), 1152, 24)]:
        image = picture(width, height)
        place = big.layout(image, big.views(image))
        assert (len(place.view), len(place.newlines)) == (content, newlines)


def test_every_crop_is_a_rectangle_in_reading_order(llava_next: Engine) -> None:
    grid = llava_next.encode(picture(150, 150)).tokens.grid
    assert [block.kind for block in grid.blocks] == ["base", "tile", "tile", "tile", "tile"]
    for index, members in enumerate(grid.members()):
        keys = grid.row[members] * 6 + grid.col[members]
        assert torch.equal(keys, torch.arange(36)), index
    assert grid.blocks[0].box == (0.0, 0.0, 1.0, 1.0)
    assert grid.blocks[4].box == (0.5, 0.5, 1.0, 1.0)


def test_newlines_follow_their_rows(llava_next: Engine) -> None:
    tokens = llava_next.encode(picture(150, 150)).tokens  # 2 x 2 tiles: 12 rows of 12 tokens
    assert tokens.newlines.tolist() == [36 + 12 * row + 11 for row in range(12)]
    backend = llava_next.backend
    kept = torch.tensor([3, 36 + 12 * 4 + 2, 36 + 12 * 4 + 7, 36 + 12 * 9])
    prompt = backend.build("a", tokens, Selection.of(kept, len(tokens)), newlines="row")
    seen = prompt.source[prompt.visual].tolist()
    assert seen == [3, 36 + 50, 36 + 55, -1, 36 + 108, -1]
    rows = prompt.embeddings[0, prompt.visual]
    assert torch.equal(rows[3], tokens.newline) and torch.equal(rows[1], tokens.features[36 + 50])
    dropped = backend.build("a", tokens, Selection.of(kept, len(tokens)), newlines="none")
    assert dropped.source[dropped.visual].tolist() == kept.tolist()


def test_original_positions_are_those_of_the_full_prompt(llava_next: Engine) -> None:
    tokens = llava_next.encode(picture(150, 150)).tokens
    backend = llava_next.backend
    full = backend.build("what?", tokens, None)
    kept = Selection.of(torch.tensor([0, 40, 60, 179]), len(tokens))
    for newlines in ("none", "row"):
        pruned = backend.build("what?", tokens, kept, newlines=newlines, positions="original")
        where = {int(s): int(p) for s, p in zip(full.source, full.positions[0], strict=True) if s >= 0}
        for source, position in zip(pruned.source.tolist(), pruned.positions[0].tolist(), strict=True):
            assert source < 0 or where[source] == position
        assert pruned.next_position == full.next_position == len(full)
        for row, position in zip(pruned.embeddings[0], pruned.positions[0], strict=True):
            assert torch.equal(row, full.embeddings[0, position])


def test_merged_rows_take_the_place_of_kept_ones(llava: Engine) -> None:
    tokens = llava.encode(picture(90, 90)).tokens
    merged = torch.randn(5, 48)
    selection = Selection.of(torch.tensor([1, 2, 9]), len(tokens), inserted=merged)
    for positions in ("compact", "original"):
        prompt = llava.backend.build("a", tokens, selection, newlines="none", positions=positions)
        assert torch.equal(prompt.embeddings[0, prompt.visual], merged)
        assert len(prompt.positions[0].unique()) == len(prompt)


def test_half_precision_features_come_back_unchanged(llava_folder: Path) -> None:
    backend: Any = load(llava_folder, device="cpu", dtype="bfloat16")
    tokens: VisualTokens = backend.encode(read_image(picture(90, 90)))
    prompt = backend.build("a", tokens, None)
    assert tokens.features.dtype == torch.float32 and prompt.embeddings.dtype == torch.bfloat16
    assert torch.equal(prompt.embeddings[0, prompt.visual].float(), tokens.features)


@pytest.mark.parametrize("name", ["stickers", "stickers-anyres"])
def test_the_embedded_model_in_both_modes(name: str) -> None:
    engine = Engine.load(name, device="cpu")
    assert engine.info.only_stickers and "joint" in engine.info.offers
    image = picture(672, 672)
    result = engine.ask(image, "Is there a puppy?", budget=64, max_new_tokens=4)
    assert result.selection.total == (576 if name == "stickers" else 2880)
    assert len(result.selection.kept) == 64
    assert engine.encode(image).tokens.grid.blocks[0].box == (0.0, 0.0, 1.0, 1.0)
    assert engine.understand("Is there a puppy?").text == "is there a dog ?"
    assert "I do not know" in (engine.ask(image, "is there a zeppelin?", max_new_tokens=1).notice or "")


def test_a_video_is_read_as_its_first_frame(llava: Engine) -> None:
    frames = [picture(90, 90, 1), picture(90, 90, 2)]
    video = Media.of(frames, times=(0.0, 1.0))
    assert video.kind == "video"
    assert torch.equal(llava.encode(video).tokens.features, llava.encode(frames[0]).tokens.features)
