"""One contract for every family: the same tokens and logits as transformers' own model, pruned or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from script_core import step
from script_core.engine import Engine
from script_core.media import Media
from script_core.prefill import Decoding
from script_core.pruners.base import Cut
from script_core.tokens import Selection
from tests import tiny_families
from tests.tiny_families import FAMILIES, KINDS, QUESTION, media

SIZES = [(200, 200), (330, 120), (90, 260), (301, 199), (640, 480)]  # width, height


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
def test_with_everything_kept_it_is_the_librarys_own_model(families: dict[str, Engine], family: str, kind: str) -> None:
    engine, source = families[family], media(kind)
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
    families: dict[str, Engine], family: str, kind: str, positions: str
) -> None:
    engine = families[family]
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
def test_steps_of_a_fixed_shape_decode_as_a_growing_cache_does(
    families: dict[str, Engine], family: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend: Any = families[family].backend
    prompt = backend.build(QUESTION, families[family].encode(media(kind)).tokens, None)
    growing = Decoding(backend, prompt)
    monkeypatch.setattr(step, "replayable", lambda backend: True)
    fixed = Decoding(backend, prompt, room=3)
    for _ in range(3):
        token = int(growing.logits.argmax())
        assert torch.allclose(fixed.push(token), growing.push(token), atol=5e-4)


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_original_positions_are_those_of_the_full_prompt(families: dict[str, Engine], family: str, kind: str) -> None:
    backend: Any = families[family].backend
    tokens = families[family].encode(media(kind)).tokens
    full = backend.build(QUESTION, tokens, None)
    kept = torch.arange(1, len(tokens), 5)
    pruned = backend.build(QUESTION, tokens, Selection.of(kept, len(tokens)), newlines="none", positions="original")
    where = torch.stack([torch.nonzero(full.source == i)[0, 0] for i in kept])
    assert torch.equal(pruned.positions[..., pruned.source >= 0], full.positions[..., where])
    words, theirs = pruned.positions[..., ~pruned.visual], full.positions[..., ~full.visual]
    assert torch.equal(words, theirs) and pruned.next_position == full.next_position


def test_three_axes_are_kept_whatever_is_asked(families: dict[str, Engine]) -> None:
    backend: Any = families["qwen2_5_vl"].backend
    tokens = families["qwen2_5_vl"].encode(media("video")).tokens
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
    families: dict[str, Engine], family: str, method: str
) -> None:
    total = len(families[family].encode(media("video")).tokens)
    result = families[family].ask(media("video"), QUESTION, pruner=method, budget=total // 2, max_new_tokens=3)
    assert result.counters.entering[-1] < total // 2 < result.counters.entering[0]


def test_a_cut_inside_leaves_three_axes_as_they_are(families: dict[str, Engine]) -> None:
    backend: Any = families["qwen2_5_vl"].backend
    tokens = families["qwen2_5_vl"].encode(media("image")).tokens
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
def test_many_questions_share_one_encoding(families: dict[str, Engine], family: str) -> None:
    engine = families[family]
    source = media("video", seed=50)
    first = engine.encode(source)
    assert not first.cached
    questions = ("where?", "who is it?", "how many are there?")
    answers = [engine.ask(source, q, budget=12, max_new_tokens=4).token_ids for q in questions]
    again = engine.encode(source)
    assert again.cached and again.tokens is first.tokens
    assert answers == [engine.ask(source, q, budget=12, max_new_tokens=4).token_ids for q in questions]
