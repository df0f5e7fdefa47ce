"""What the page offers to click first is answered rightly: from all tokens, and from the 64 that Script keeps."""

from __future__ import annotations

import pytest

from script_core.engine import Engine
from ui.examples import examples
from ui.video_examples import clips

ANSWERS = {
    "breakfast": ("yes", "apple", "top right"),
    "penguins": ("bottom right", "yes", "1"),
    "balloons": ("purple", "no", "yes"),
    "street": ("left", "yes", "airplane"),
    "farm": ("carrot", "1", "no"),
    "music": ("above", "trumpet", "no"),
    "garden": ("top right", "bee", "yes"),
    "night": ("green", "no", "bottom right"),
    "crowd": ("yes", "no", "green"),
}
CLIP_ANSWERS = {
    "launch": ("yes", "no", "yes"),
    "drive": ("right", "right", "yes"),
    "picnic": ("cake", "cake", "no"),
}


@pytest.fixture(scope="module")
def stickers() -> Engine:
    return Engine.load("stickers")


@pytest.mark.parametrize("example", [e for e in examples() if e.is_scene], ids=lambda e: e.id)
def test_every_example_question_is_answered_rightly(stickers: Engine, example) -> None:
    encoded = stickers.encode(str(example.path))
    for method, budget in (("full", 576), ("script", 64)):
        asked = (example.question, *example.more)
        given = tuple(stickers.ask(encoded, q, pruner=method, budget=budget).answer for q in asked)
        assert given == ANSWERS[example.id], method


def test_every_example_clip_is_answered_rightly() -> None:
    engine = Engine.load("stickers-video")
    for clip in clips():
        encoded = engine.encode(str(clip.path))
        for method, budget in (("full", 1152), ("script", 256)):
            asked = (clip.question, *clip.more)
            given = tuple(engine.ask(encoded, q, pruner=method, budget=budget).answer for q in asked)
            assert given == CLIP_ANSWERS[clip.id], (clip.id, method)
