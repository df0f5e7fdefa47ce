"""One contract for every family: the same tokens and logits as transformers' own model, pruned or not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from script_core.backends.base import CannotLoad
from script_core.engine import Engine
from script_core.media import Media
from script_core.prefill import Decoding
from script_core.pruners.base import Cut
from script_core.pruners.script import Script
from script_core.tokens import Selection, VisualTokens
from tests import clips, tiny_families
from tests.tiny import picture

FAMILIES = ["llava_onevision", "llava_video", "video_llava", "internvl", "qwen2_5_vl"]
KINDS = ["image", "video"]
SIZES = [(200, 200), (330, 120), (90, 260), (301, 199), (640, 480)]  # width, height
QUESTION = "what is it?"
TIMES = (0.0, 0.7, 1.4, 2.1)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Engine]:
    made = {}
    for family in FAMILIES:
        folder = tiny_families.save(family, tmp_path_factory.mktemp(family))
        made[family] = Engine.load(folder, device="cpu", newlines="row")
    config = made["llava_video"].backend.model.config  # type: ignore[attr-defined]
    config.image_token_id, config.video_token_id = 270, 271  # the published ids lie beyond a tiny vocabulary
    return made


def media(kind: str, seed: int = 0) -> Media:
    if kind == "image":
        return Media.of([picture(230, 170, seed)])
    return Media.of([picture(120, 90, seed + i) for i in range(len(TIMES))], TIMES)


def library(engine: Engine, source: Media) -> dict[str, Any]:
    """The arguments with which transformers' own model would be asked, with pixels prepared from scratch."""
    backend: Any = engine.backend
    tokens = engine.encode(source).tokens
    config, video = backend.model.config, source.kind == "video"
    texts = backend.prompt_ids(QUESTION, tokens)
    mark = config.image_token_id if not video or backend.family == "internvl" else config.video_token_id
    share = (len(tokens) + len(tokens.newlines)) // (len(texts) - 1)
    ids = list(texts[0])
    for text in texts[1:]:
        ids += [mark] * share + text
    return {"input_ids": torch.tensor([ids])} | PIXELS[backend.family](backend, source, ids, mark)


def squares(side: int, frames: tuple[np.ndarray, ...]) -> Tensor:
    made = SiglipImageProcessorPil(size={"height": side, "width": side}, **tiny_families.HALF)
    return torch.cat([made(f, return_tensors="pt", input_data_format="channels_last")["pixel_values"] for f in frames])


def of_onevision(backend: Any, source: Media, ids: list[int], mark: int) -> dict[str, Any]:
    if source.kind == "video":
        return {"pixel_values_videos": squares(100, source.frames)[None]}
    _, cut = tiny_families.onevision()
    made = cut(source.frames[0], return_tensors="pt", input_data_format="channels_last")
    return {"pixel_values": made["pixel_values"], "image_sizes": made["image_sizes"]}


def of_llava_video(backend: Any, source: Media, ids: list[int], mark: int) -> dict[str, Any]:
    """transformers' own video path is another model's, so the features are worked out cell by cell."""
    if source.kind == "image":
        return of_onevision(backend, source, ids, mark)
    inner = backend.model.model
    with torch.no_grad():
        hidden = inner.vision_tower(squares(100, source.frames), output_hidden_states=True).hidden_states[-1]
        views = inner.multi_modal_projector(hidden).view(len(source.frames), 7, 7, -1)
    rows = []
    for view in views:
        for y in range(3):
            for x in range(3):
                rows.append(view[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean((0, 1)))
            rows.append(inner.image_newline.detach())
    return {"mm_encoder_outputs": {"video": BaseModelOutputWithPooling(pooler_output=torch.stack(rows)[None])}}


def of_video_llava(backend: Any, source: Media, ids: list[int], mark: int) -> dict[str, Any]:
    _, crop = tiny_families.video_llava()
    made = [crop(f, return_tensors="pt", input_data_format="channels_last")["pixel_values"] for f in source.frames]
    return {"pixel_values_videos": torch.cat(made)[None]} if source.kind == "video" else {"pixel_values": made[0]}


def of_internvl(backend: Any, source: Media, ids: list[int], mark: int) -> dict[str, Any]:
    cut: Any = GotOcr2ImageProcessorPil(size={"height": 84, "width": 84}, min_patches=1, max_patches=6)
    options = {"return_tensors": "pt", "input_data_format": "channels_last", "crop_to_patches": source.kind == "image"}
    return {"pixel_values": torch.cat([cut(frame, **options)["pixel_values"] for frame in source.frames])}


def of_qwen(backend: Any, source: Media, ids: list[int], mark: int) -> dict[str, Any]:
    kinds = (torch.tensor([ids]) == mark).int()
    _, prepare = tiny_families.qwen()
    if source.kind == "image":
        made = prepare(source.frames[0], return_tensors="pt", input_data_format="channels_last")
        return {**made, "mm_token_type_ids": kinds}
    made = [prepare(f, return_tensors="pt", input_data_format="channels_last") for f in source.frames]
    grid = made[0]["image_grid_thw"][0].tolist()
    flat = torch.stack([m["pixel_values"] for m in made]).view(2, 2, -1, 3, 2, 14 * 14)
    patches = torch.stack([flat[:, 0, :, :, 0], flat[:, 1, :, :, 0]], 3).flatten(0, 1).flatten(1)
    return {
        "pixel_values_videos": patches, "video_grid_thw": torch.tensor([[2, *grid[1:]]]),
        "second_per_grid_ts": torch.tensor([1.4]), "mm_token_type_ids": 2 * kinds,
    }  # fmt: skip


PIXELS: dict[str, Any] = {
    "llava_onevision": of_onevision,
    "llava_video": of_llava_video,
    "video_llava": of_video_llava,
    "internvl": of_internvl,
    "qwen2_5_vl": of_qwen,
}
CASES = [(family, kind) for family in FAMILIES for kind in KINDS]


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_with_everything_kept_it_is_the_librarys_own_model(engines: dict[str, Engine], family: str, kind: str) -> None:
    engine, source = engines[family], media(kind)
    model: Any = engine.backend.model
    inputs = library(engine, source)
    with torch.no_grad():
        expected = model(**inputs).logits[0, -1]
        theirs = model.generate(**library(engine, source), max_new_tokens=7, do_sample=False)
    new = theirs[0, inputs["input_ids"].shape[1] :]
    result = engine.ask(source, QUESTION, pruner="full", budget=10**6, max_new_tokens=7)
    assert torch.allclose(result.first_logits, expected, atol=2e-4), (result.first_logits - expected).abs().max()
    assert list(result.token_ids) == new.tolist()[: len(result.token_ids)]
    assert result.counters.kept == result.counters.total == len(engine.encode(source).tokens)


@pytest.mark.parametrize("positions", ["compact", "original"])
@pytest.mark.parametrize(("family", "kind"), CASES)
def test_pruned_decoding_is_a_recomputation_without_cache(
    engines: dict[str, Engine], family: str, kind: str, positions: str
) -> None:
    engine = engines[family]
    backend: Any = engine.backend
    tokens = engine.encode(media(kind)).tokens
    kept = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(3))[: len(tokens) // 3]
    chosen = Selection.of(kept, len(tokens))
    prompt = backend.build(QUESTION, tokens, chosen, newlines="row", positions=positions)
    decoding = Decoding(backend, prompt)
    given, logits = [], decoding.logits
    for _ in range(4):
        with torch.no_grad():
            more = backend.language_model.embed_tokens(torch.tensor([given], dtype=torch.int64))
            rows = torch.cat([prompt.embeddings, more], 1)
            numbers = prompt.next_position + torch.arange(len(given)).expand(*prompt.positions.shape[:-1], -1)
            hidden = backend.language_model(
                inputs_embeds=rows, position_ids=torch.cat([prompt.positions, numbers], -1),
                attention_mask=torch.ones(rows.shape[:2], dtype=torch.int64), use_cache=False,
            ).last_hidden_state  # fmt: skip
            expected = backend.lm_head(hidden[0, -1])
        assert torch.allclose(logits, expected, atol=5e-4)
        given.append(int(expected.argmax()))
        logits = decoding.push(given[-1])
    content = prompt.source[prompt.source >= 0]
    assert torch.equal(content, chosen.kept)
    assert torch.allclose(prompt.embeddings[0, prompt.source >= 0], tokens.features[chosen.kept])


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_original_positions_are_those_of_the_full_prompt(engines: dict[str, Engine], family: str, kind: str) -> None:
    backend: Any = engines[family].backend
    tokens = engines[family].encode(media(kind)).tokens
    full = backend.build(QUESTION, tokens, None)
    kept = torch.arange(1, len(tokens), 5)
    pruned = backend.build(QUESTION, tokens, Selection.of(kept, len(tokens)), newlines="none", positions="original")
    where = torch.stack([torch.nonzero(full.source == i)[0, 0] for i in kept])
    assert torch.equal(pruned.positions[..., pruned.source >= 0], full.positions[..., where])
    words, theirs = pruned.positions[..., ~pruned.visual], full.positions[..., ~full.visual]
    assert torch.equal(words, theirs) and pruned.next_position == full.next_position


def test_three_axes_are_kept_whatever_is_asked(engines: dict[str, Engine]) -> None:
    backend: Any = engines["qwen2_5_vl"].backend
    tokens = engines["qwen2_5_vl"].encode(media("video")).tokens
    chosen = Selection.of(torch.arange(0, len(tokens), 4), len(tokens))
    compact, original = (backend.build(QUESTION, tokens, chosen, positions=p) for p in ("compact", "original"))
    assert compact.positions.shape[:2] == (3, 1)
    assert torch.equal(compact.positions, original.positions)
    content = compact.positions[:, 0, compact.source >= 0]
    words = compact.positions[0, 0, compact.source < 0]
    before = int(words[words < content.min()].max())
    grid = tokens.grid
    seconds = torch.tensor([(b.time or 0.0) for b in grid.blocks])[grid.block[chosen.kept]]
    assert torch.equal(content[0], before + 1 + (seconds * 4).long()), "4 ticks a second in this config"
    assert torch.equal(content[1], before + 1 + grid.row[chosen.kept])
    assert torch.equal(content[2], before + 1 + grid.col[chosen.kept])


@pytest.mark.parametrize("method", ["fastv", "pdrop"])
@pytest.mark.parametrize("family", FAMILIES)
def test_methods_inside_the_language_model_run_in_every_family(
    engines: dict[str, Engine], family: str, method: str
) -> None:
    total = len(engines[family].encode(media("video")).tokens)
    result = engines[family].ask(media("video"), QUESTION, pruner=method, budget=total // 2, max_new_tokens=3)
    assert result.counters.entering[-1] < total // 2 < result.counters.entering[0]


def test_a_cut_inside_leaves_three_axes_as_they_are(engines: dict[str, Engine]) -> None:
    backend: Any = engines["qwen2_5_vl"].backend
    tokens = engines["qwen2_5_vl"].encode(media("image")).tokens
    prompt = backend.build(QUESTION, tokens, None)

    @dataclass
    class Thirds:
        positions: str

        def cut(self, view: Any) -> Cut | None:
            stays = ~view.visual | (view.source % 3 == 0)
            return Cut(torch.nonzero(stays).flatten()) if view.index == 2 else None

        def selection(self) -> Selection:
            return Selection.of(torch.arange(0, len(tokens), 3), len(tokens))

    logits = []
    for positions in ("compact", "original"):
        decoding = Decoding(backend, prompt, Thirds(positions))
        logits.append((decoding.logits, decoding.push(70)))
    assert torch.equal(logits[0][0], logits[1][0]) and torch.equal(logits[0][1], logits[1][1])
    assert decoding.lengths[2] < decoding.lengths[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_many_questions_share_one_encoding(engines: dict[str, Engine], family: str) -> None:
    engine = engines[family]
    source = media("video", seed=50)
    first = engine.encode(source)
    assert not first.cached
    questions = ("where?", "who is it?", "how many are there?")
    answers = [engine.ask(source, q, budget=12, max_new_tokens=4).token_ids for q in questions]
    again = engine.encode(source)
    assert again.cached and again.tokens is first.tokens
    assert answers == [engine.ask(source, q, budget=12, max_new_tokens=4).token_ids for q in questions]


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


def test_counts_and_separators(engines: dict[str, Engine]) -> None:
    video, still = media("video"), media("image")
    tokens = {family: engines[family].encode(video).tokens for family in FAMILIES}
    assert len(tokens["llava_onevision"]) == 4 * 16 and tokens["llava_onevision"].newlines.tolist() == [63]
    assert len(tokens["llava_video"]) == 4 * 9 and len(tokens["llava_video"].newlines) == 4 * 3
    assert len(tokens["video_llava"]) == 4 * 37 and len(engines["video_llava"].encode(still).tokens) == 36
    assert len(tokens["internvl"]) == 4 * 9
    assert [b.kind for b in tokens["video_llava"].grid.blocks[:3]] == ["cls", "frame", "cls"]
    assert [b.time for b in tokens["qwen2_5_vl"].grid.blocks] == [0.0, 1.4]
    attention = tokens["video_llava"].cls_attention
    assert attention is not None and torch.allclose(attention.view(4, 37).sum(1), torch.ones(4), atol=1e-5)


def test_very_large_pictures_shrink_the_mosaic_into_one_block(engines: dict[str, Engine]) -> None:
    tokens = engines["llava_onevision"].encode(picture(1190, 590)).tokens
    base, mosaic = tokens.grid.blocks
    assert len(tokens) == 49 + mosaic.rows * mosaic.cols <= 49 + 9 * 49 * 1.21
    assert len(tokens.newlines) == mosaic.rows
    assert mosaic.box == pytest.approx((0, 0, 1, 1), abs=0.04)


def test_frames_share_a_budget_evenly_or_spend_it_where_it_matters(engines: dict[str, Engine]) -> None:
    engine = engines["llava_video"]
    tokens = engine.encode(media("video")).tokens
    even = engine.select(media("video"), QUESTION, pruner=Script(scope="crop"), budget=16).selection
    assert torch.bincount(tokens.grid.block[even.kept]).tolist() == [4, 4, 4, 4]
    free = engine.select(media("video"), QUESTION, pruner=Script(scope="global"), budget=16).selection
    assert len(free.kept) == 16


def test_a_video_file_is_asked_like_a_picture(engines: dict[str, Engine], tmp_path: Path) -> None:
    path = clips.write(tmp_path / "clip.webm", frames=12)
    engine = engines["video_llava"]
    assert engine.info.frames == 8
    result = engine.ask(path, QUESTION, budget=40, max_new_tokens=3)
    assert result.counters.total == 8 * 37 and len(result.selection.kept) == 40
    assert engine.ask(path.read_bytes(), QUESTION, budget=40, max_new_tokens=3).token_ids == result.token_ids


def test_prompts_say_what_the_families_were_trained_on(engines: dict[str, Engine]) -> None:
    def said(family: str, kind: str) -> list[str]:
        backend: Any = engines[family].backend
        texts = backend.prompt_ids("why?", engines[family].encode(media(kind)).tokens)
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
def test_a_question_cannot_smuggle_in_control_words(engines: dict[str, Engine], family: str) -> None:
    backend: Any = engines[family].backend
    tokens = engines[family].encode(media("video")).tokens
    words = " ".join(tiny_families.WORDS[family])
    plain, sly = (backend.prompt_ids(q, tokens) for q in ("a b", f"a {words} b"))
    assert len(plain) == len(sly)
    own = set(range(3, 3 + len(tiny_families.WORDS[family])))
    found = [[[i for i in part if i in own] for part in parts] for parts in (plain, sly)]
    assert found[0] == found[1]


def test_llava_video_reads_the_original_names_and_misses_none(engines: dict[str, Engine], tmp_path: Path) -> None:
    folder = tiny_families.save("llava_video", tmp_path / "ours")
    raw = load_file(folder / "model.safetensors")
    assert not any("language_model" in name or "multi_modal" in name for name in raw)
    loaded: Any = engines["llava_video"].backend.model
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


def test_large_pictures_stay_within_qwens_recommended_number_of_tokens(engines: dict[str, Engine]) -> None:
    backend: Any = engines["qwen2_5_vl"].backend
    theirs = backend._prepare.size
    backend._prepare.size = type(theirs)(shortest_edge=56 * 56, longest_edge=16384 * 28 * 28)
    try:
        _, grid = backend._picture(Media.of([picture(4000, 3000)]))
    finally:
        backend._prepare.size = theirs
    assert 1100 < int(grid.prod()) // 4 <= 1280
