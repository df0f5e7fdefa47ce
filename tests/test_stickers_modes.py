"""High resolution and clips in training: the same tokens, in the same order, as the backends make of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from script_core.engine import Engine
from script_core.stickers.batches import (
    BACKGROUND,
    MIXED,
    NAME_INDEX,
    TRAINING_SEED,
    Recipe,
    ask_all,
    choose,
    facts_of,
    picture,
)
from script_core.stickers.canvas import Scene, Sticker, Word
from script_core.stickers.checkpoints import build
from script_core.stickers.clips import Event, animate, ask_clip
from script_core.stickers.held_out import MODES, held_out
from script_core.stickers.kit import READ_MIX
from script_core.stickers.layouts import (
    CELL_PATCHES,
    film,
    in_order,
    mosaic_ids,
    newline_ids,
    symbolic_clips,
    tiled,
)
from script_core.stickers.model import patch_centres
from script_core.stickers.modes import WORD_PATCHES, Modes
from script_core.stickers.packing import pack
from script_core.stickers.presets import PRESETS
from script_core.stickers.questions import NEGATIVES, VOCABULARY
from script_core.stickers.tokenizer import word_ids

IDS = word_ids(VOCABULARY)


@pytest.fixture(scope="module")
def engines() -> dict[str, Engine]:
    return {name: Engine.load(mode.model) for name, mode in MODES.items()}


def test_tiles_stand_in_the_order_and_at_the_positions_of_the_backend(engines) -> None:
    tokens = engines["anyres"].encode(np.zeros((672, 672, 3), np.uint8)).tokens
    order = np.argsort(mosaic_ids().ravel())
    assert (tokens.grid.block.numpy() == order // 576).all()
    assert (tokens.grid.row.numpy() == order % 576 // 24).all() and (tokens.grid.col.numpy() == order % 24).all()
    ids = np.sort(mosaic_ids().ravel())
    assert (newline_ids() == ids[tokens.newlines.numpy()] + 1).all()
    assert len(np.unique(np.concatenate([ids, newline_ids()]))) == 2928 == max(newline_ids())


def test_tiled_patches_are_the_pictures_that_the_backend_cuts(engines) -> None:
    scene = Scene((Sticker("dog", None, 0.3, 0.3, 0.2), Sticker("car", "red", 0.8, 0.7, 0.08)))
    cut = tiled(scene)
    views = engines["anyres"].backend.views(next(iter(held_out(1, 1, "anyres"))).media().frames[0])
    assert len(views.blocks) == 5
    sheet = replace(next(iter(held_out(1, 1, "anyres"))), scene=scene)
    pixels = engines["anyres"].backend.views(sheet.media().frames[0]).pixels
    theirs = (pixels.view(5, 3, 24, 14, 24, 14).permute(0, 2, 4, 3, 5, 1).reshape(5, 576, -1) + 1) * 127.5
    np.testing.assert_allclose(cut.patches[1:], theirs[1:].numpy(), atol=0.51)
    assert np.abs(cut.patches[0] - theirs[0].numpy()).mean() < 3  # the base view: another way of halving
    assert set(cut.owner[0]) >= {0, 1} and set(cut.owner[1]) <= {0, BACKGROUND, MIXED} and 1 in cut.owner[4]


def test_pooled_cells_are_those_of_the_backend(engines) -> None:
    half = engines["video"].backend._pooled(torch.arange(576.0)[:, None])[:, 0]
    np.testing.assert_allclose(half.numpy(), CELL_PATCHES.mean(1))


def test_tokens_are_sorted_by_position_with_newlines_as_zeros() -> None:
    tokens = torch.arange(1.0, 4.0).view(1, 3, 1)
    ids = torch.tensor([[600, 3, 630]])
    sorted_tokens, sorted_ids = in_order(tokens, ids, newlines=True)
    assert sorted_ids.shape == (1, 51) and (sorted_ids[0].diff() > 0).all()
    assert sorted_tokens[0, :4, 0].tolist() == [2, 1, 0, 3]
    plain, _ = in_order(tokens, ids, newlines=False)
    assert plain[0, :, 0].tolist() == [2, 1, 3]


def test_a_written_word_owns_its_patches_and_is_named_by_itself() -> None:
    scene = Scene((Sticker("dog", None, 0.2, 0.2, 0.3),), words=(Word("taxi", 0.6, 0.7, 0.5),))
    shown = picture(scene, 336)
    assert {0, 1} <= set(shown.owner)
    facts = facts_of([scene], shown.owner[None].astype(np.int64), patch_centres().numpy()[None])
    assert set(facts.name[facts.owner == 1].tolist()) == {NAME_INDEX["taxi"]}
    np.testing.assert_allclose(facts.centre[facts.owner == 1][0], (0.6, 0.7), atol=1e-6)
    asked = ask_all([scene], Recipe(mix={"reading": 1.0}), np.random.default_rng(0))
    packed = pack([scene], asked, IDS)
    assert asked[0][0].answer == "taxi" and packed.target_xy.tolist() == [pytest.approx([0.6, 0.7])]


def test_a_batch_of_words_shows_words_before_anything_else() -> None:
    rng = np.random.default_rng(6)
    recipe = Recipe((0, 3), duplicates=0.0, mix=READ_MIX, count=4, words=1.0)
    read = 0
    for _ in range(40):
        shown = picture(recipe.scene(rng), 336)
        word = np.flatnonzero(shown.owner >= len(shown.scene.stickers))
        kept = choose(shown.owner, WORD_PATCHES, rng, 3.0, len(shown.scene.stickers))
        lost = min(len(word), WORD_PATCHES) - len(set(word) & set(kept))
        assert len(kept) == WORD_PATCHES and lost <= 3, "a draw may miss some where not even the word fits"
        assert lost == 0 or len(word) > WORD_PATCHES - 8
        (asked,) = ask_all([shown.scene], recipe, rng)
        for question in asked:
            if question.kind == "reading":
                read += 1
                assert question.answer == shown.scene.words[0].text
    assert read >= 30


def test_all_processes_train_the_same_mode_at_the_same_time() -> None:
    kits = [build(PRESETS["smoke"], IDS, TRAINING_SEED, 2, rank) for rank in (0, 1)]
    one, other = (Modes(kit) for kit in kits)
    assert (one.turns.random(9) == other.turns.random(9)).all()
    assert (one.kit.rng.random(9) != other.kit.rng.random(9)).any(), "each on pictures of its own"


def test_a_clip_is_filmed_with_its_late_comer_and_packed_with_its_way() -> None:
    cast = (Sticker("dog", None, 0.2, 0.3, 0.25), Sticker("cake", None, 0.7, 0.7, 0.25))
    clip = animate(Scene(cast), (Event(0, 0, (0.5, 0.0)), Event(1, 2)), 4)
    shot = film(clip)
    assert shot.patches.shape == (4, 576, 588) and shot.cells.shape == (4, 144)
    assert [1 in row for row in shot.cells] == [False, False, True, True]
    columns = [float(np.flatnonzero(row == 0).__mod__(12).mean()) for row in shot.cells]
    assert columns == sorted(columns) and columns[-1] - columns[0] > 4  # half of the side is six cells
    asked = [[q for q in ask_clip(clip, np.random.default_rng(3), 6) if q.kind == "moves"]]
    packed = pack([Scene(clip.cast)], asked, IDS, [clip.ways])
    assert packed.compare_xy.tolist() == [[0.5, 0.0]] * len(asked[0]) and asked[0][0].answer == "right"
    facts = symbolic_clips([clip], 6, np.random.default_rng(0))
    assert facts.owner.shape == (1, 24) and facts.xy.shape == (1, 24, 2)


@pytest.mark.parametrize("mode", MODES)
def test_held_out_sheets_know_what_every_token_shows(engines, mode) -> None:
    drawn = list(held_out(5, 9, mode))
    assert sum(len(sheet.asked) for sheet in drawn) == 9 and drawn == list(held_out(5, 9, mode))
    assert {q.kind for sheet in held_out(5, 120, mode) for q in sheet.asked} == set(MODES[mode].mix)
    sheet = drawn[0]
    tokens = engines[mode].encode(sheet.media()).tokens
    assert len(sheet.owner) == len(tokens) == MODES[mode].tokens
    about = [q for q in sheet.asked if q.about][0].about
    assert np.isin(sheet.owner, about).any() and not np.isin(sheet.owner, about).all()


def test_absent_objects_are_drawn_in_every_way_that_a_recipe_names() -> None:
    scene = Scene((Sticker("dog", None, 0.3, 0.3, 0.3),))
    rng = np.random.default_rng(0)
    recipe = Recipe(mix={"existence": 1.0}, count=4, negatives=NEGATIVES)
    asked = ask_all([scene] * 60, recipe, rng)
    absent = [q.text for row in asked for q in row if q.answer == "no"]
    assert any("balloon" in text for text in absent) and any("penguin" in text or "cat" in text for text in absent)
