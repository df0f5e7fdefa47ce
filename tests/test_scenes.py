"""Scenes for visitors: what may be composed, what is drawn, what is suggested, and what the composer is told."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from script_core.media import read_image
from script_core.stickers.batches import TRAINING_SEED
from script_core.stickers.catalogue import COLOURS, NAMES, READABLE, TINTABLE
from script_core.stickers.composing import BACKGROUNDS, FRESH_SEED, LIMIT, SceneError, fresh, read_scene, suggest
from script_core.stickers.rendering import render
from script_core.understanding import in_sticker_words
from ui.pictures import Pictures
from ui.runtime import Host
from ui.scenes import CELL, COLUMNS, Scenes, palette
from ui.tabs.scenes import KINDS_OF_QUESTION, known

DOG = {"name": "dog", "x": 0.5, "y": 0.5, "size": 0.3}


def scene(**changes: Any) -> dict[str, Any]:
    return {"background": "paper", "stickers": [DOG], "word": None, **changes}


# ---- what may be composed ----------------------------------------------------------------------------------------


def test_a_composed_scene_is_drawn_where_it_was_placed() -> None:
    made = read_scene(scene(stickers=[DOG, {"name": "car", "colour": "blue", "x": 0.2, "y": 0.8, "size": 0.2}]))
    owner = render(made, 336).owner
    rows, columns = np.nonzero(owner == 1)
    assert (columns.mean() / 336, rows.mean() / 336) == pytest.approx((0.2, 0.8), abs=0.02)
    assert owner[168, 168] == 0


@pytest.mark.parametrize(("given", "words"), [
    (None, "did not arrive whole"),
    ([], "did not arrive whole"),
    ("stickers", "did not arrive whole"),
    ({}, "did not arrive whole"),
    (scene(stickers={"0": DOG}), "did not arrive whole"),
    (scene(stickers=[]), "is empty"),
    (scene(stickers=[DOG] * (LIMIT + 1)), "can hold 16 stickers and this one has 17"),
    (scene(stickers=[DOG] * 100_000), "100,000"),
    (scene(stickers=["dog"]), "no such sticker"),
    (scene(stickers=[{**DOG, "name": "giraffe"}]), "no such sticker"),
    (scene(stickers=[{**DOG, "name": ["dog"]}]), "no such sticker"),
    (scene(stickers=[{**DOG, "name": "../../etc/passwd"}]), "no such sticker"),
    (scene(stickers=[{**DOG, "colour": "red"}]), "only the colours of its picture"),
    (scene(stickers=[{**DOG, "name": "car"}]), "colour of a car must be one of red"),
    (scene(stickers=[{**DOG, "name": "car", "colour": {}}]), "colour of a car"),
    (scene(stickers=[{**DOG, "x": 1.2}]), "outside of the scene"),
    (scene(stickers=[{**DOG, "y": math.nan}]), "outside of the scene"),
    (scene(stickers=[{**DOG, "x": "0.5"}]), "outside of the scene"),
    (scene(stickers=[{**DOG, "x": True}]), "outside of the scene"),
    (scene(stickers=[{**DOG, "size": 50}]), "6 to 60 %"),
    (scene(stickers=[{**DOG, "size": 0}]), "6 to 60 %"),
    (scene(stickers=[{**DOG, "size": None}]), "6 to 60 %"),
    (scene(background="volcano"), "no such background"),
    (scene(background=["paper"]), "no such background"),
    (scene(word={"text": "<b>", "x": 0.5, "y": 0.5, "size": 0.4}), "cannot be written"),
    (scene(word={"text": "open", "x": 0.5, "y": 0.5, "size": 4}), "20 to 60 %"),
    (scene(word="open"), "cannot be written"),
])  # fmt: skip
def test_what_cannot_be_drawn_is_one_sentence(given: Any, words: str) -> None:
    with pytest.raises(SceneError) as caught:
        read_scene(given)
    sentence = str(caught.value)
    assert words in sentence and sentence.endswith(".") and len(sentence) < 200 and "\n" not in sentence


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.sampled_from(["dog", "car", "red", "open"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*scene(), *DOG, "colour", "text"]), inner, max_size=6)
    ),
    max_leaves=20,
)


@settings(max_examples=200)
@given(json_values)
def test_nothing_but_a_sentence_comes_of_nonsense(given: Any) -> None:
    try:
        read_scene(given)
    except SceneError:
        pass


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_every_sticker_can_stand_on_every_background(background: str) -> None:
    names = list(NAMES)[list(BACKGROUNDS).index(background) :: len(BACKGROUNDS)]
    for name in names:
        colour = {"colour": COLOURS[0]} if name in TINTABLE else {}
        made = read_scene(scene(background=background, stickers=[{**DOG, "name": name, **colour}]))
        assert (render(made, 84).owner == 0).any()


# ---- fresh scenes and suggestions --------------------------------------------------------------------------------


def test_fresh_scenes_are_held_out_and_differ() -> None:
    assert 0 <= FRESH_SEED < TRAINING_SEED
    assert fresh(5) == fresh(5) and fresh(5) != fresh(6)
    assert max(s.size for n in range(20) for s in fresh(n, small=True).stickers) <= 0.2


def test_suggestions_are_three_taught_questions_of_several_kinds() -> None:
    for number in range(40):
        made = fresh(number)
        asked = suggest(made, number)
        assert len(asked) == 3 == len(set(asked)) and asked == suggest(made, number)
        assert all(text[0].isupper() and text.endswith("?") and " ?" not in text for text in asked)
        assert all(in_sticker_words(text).notice is None for text in asked), asked


def test_one_sticker_is_enough_to_ask_about() -> None:
    assert len(suggest(read_scene(scene()))) == 3
    assert len(suggest(read_scene(scene(stickers=[], word={"text": "open", "x": 0.5, "y": 0.5, "size": 0.4})))) == 3


# ---- the page's side ---------------------------------------------------------------------------------------------


@pytest.fixture
def drawn() -> Scenes:
    return Scenes(Host(), Pictures())


def test_a_new_scene_goes_into_the_picture_with_its_questions(drawn: Scenes) -> None:
    view = drawn.new("stickers")
    media = read_image(view["media"])
    assert (media.width, media.height) == (672, 672) and media.key in drawn
    shown = view["examples"]["scene"]
    assert media.key.startswith(shown["media"]) and view["question"] == shown["questions"][0]
    assert len(shown["questions"]) == 3 and "answer" not in repr(shown)
    assert drawn.new("stickers")["media"] != view["media"]


def test_a_composed_scene_is_what_was_sent(drawn: Scenes) -> None:
    view = drawn.composed(scene())
    pixels = np.asarray(Image.open(view["media"]))
    assert np.array_equal(pixels, render(read_scene(scene()), 672).image), "lossless, so that it is asked as drawn"
    assert view["composer_note"] == ""


def test_a_scene_that_cannot_be_drawn_changes_nothing(drawn: Scenes) -> None:
    view = drawn.composed(scene(stickers=[]))
    assert set(view) == {"composer_note"} and 'role="alert"' in view["composer_note"]


def test_scenes_are_offered_for_the_embedded_model_only(drawn: Scenes) -> None:
    assert drawn.offered() and drawn.offered("stickers-anyres")
    assert not drawn.offered("llava-hf/llava-v1.6-vicuna-7b-hf")
    assert not Scenes(Host("/some/folder"), Pictures()).offered()


def test_the_palette_shows_every_sticker_in_every_colour() -> None:
    told = palette()
    assert len(told["cells"]) == len(NAMES) - len(TINTABLE) + len(TINTABLE) * len(COLOURS)
    assert sorted(told["cells"].values()) == list(range(len(told["cells"])))
    sheet = np.asarray(Image.open(Path(told["sheet"]["path"])).convert("RGBA")).astype(int)

    def cell(name: str) -> np.ndarray:
        row, column = divmod(told["cells"][name], COLUMNS)
        return sheet[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]

    for name in told["cells"]:
        assert (cell(name)[..., 3] > 200).sum() > 200, name
    body = cell("car/blue")[cell("car/blue")[..., 3] > 200].mean(0)
    assert body[2] > body[0], "a blue car is blue"
    body = cell("car/red")[cell("car/red")[..., 3] > 200].mean(0)
    assert body[0] > body[2]


def test_what_it_knows_is_complete_and_true() -> None:
    told = known()
    assert all(name in told for name in (*NAMES, *COLOURS, *READABLE))
    for questions in KINDS_OF_QUESTION.values():
        for question in questions:
            assert in_sticker_words(question).notice is None, question
