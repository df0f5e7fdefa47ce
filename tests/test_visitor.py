"""A visitor composes a scene and asks ten things about it in their own words: right answers, or an honest sentence."""

from __future__ import annotations

import pytest

from script_core.engine import Engine
from script_core.report import Encoded
from script_core.stickers.composing import read_scene
from script_core.stickers.rendering import render

COMPOSED = {
    "background": "meadow",
    "stickers": [
        {"name": "car", "colour": "red", "x": 0.2, "y": 0.18, "size": 0.26},
        {"name": "dog", "x": 0.8, "y": 0.2, "size": 0.26},
        {"name": "apple", "x": 0.5, "y": 0.5, "size": 0.22},
        {"name": "balloon", "colour": "blue", "x": 0.2, "y": 0.82, "size": 0.26},
        {"name": "bee", "x": 0.56, "y": 0.84, "size": 0.22},
        {"name": "bee", "x": 0.86, "y": 0.82, "size": 0.22},
    ],
}
ASKED = (
    ("Is there a puppy in the photo?", "yes"),  # a synonym, twice
    ("can you see any elefants?", "no"),  # a slip
    ("What color is the automobile?", "red"),
    ("whats the colour of the ballon", "blue"),
    ("How many bees are there?", "2"),
    ("Where's the apple?", "middle"),
    ("what kind of fruit can you see?", "apple"),
    ("Is the dog to the left or to the right of the car?", "right"),
    ("Hi! Could you tell me whether there is a banana somewhere?", "no"),
    ("Is there a giraffe?", None),
)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load()


@pytest.fixture(scope="module")
def scene(engine: Engine) -> Encoded:
    return engine.encode(render(read_scene(COMPOSED), 672).image)


@pytest.mark.parametrize(("question", "answer"), ASKED)
def test_ten_free_form_questions(engine: Engine, scene: Encoded, question: str, answer: str | None) -> None:
    result = engine.ask(scene, question, pruner="full", budget=576, max_new_tokens=6)
    if answer is None:
        assert result.declined and result.answer == 'I do not know the word "giraffe".'
    else:
        assert not result.declined and result.notice is None, "the question was not understood"
        assert result.answer == answer
