"""The Video tab's settings and links, and the clips it offers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from script_core.media import read_media
from script_core.stickers.clips import CLIP_KINDS
from script_core.stickers.language import understand
from ui.state import Unusable
from ui.video_examples import clips
from ui.video_state import DEFAULTS, FRAMES, VideoSettings, check, from_query, is_link, to_query


@pytest.mark.parametrize(("name", "value", "part"), [
    ("question", "", "about the video"), ("question", "x" * 9000, "9,000 characters"), ("frames", 9, "must be one of"),
    ("frames", None, "must be one of"), ("each", 0, "at least 1"), ("each", "many", "whole number"),
    ("scope", "galaxy", "must be one of"), ("method", "no", "must be one of"), ("answer_tokens", 0, "between 1"),
])  # fmt: skip
def test_a_bad_setting_is_one_sentence_under_its_name(name: str, value: Any, part: str) -> None:
    with pytest.raises(Unusable) as caught:
        check({"question": "is it ?", name: value})
    assert set(caught.value.problems) == {name}
    assert part in caught.value.problems[name] and caught.value.problems[name].endswith(".")


@given(
    st.builds(
        VideoSettings,
        question=st.sampled_from(["what moves ?", "a & b = c ?"]),
        method=st.sampled_from(["script", "random", "full"]),
        each=st.integers(1, 500),
        scope=st.sampled_from(["crop", "global"]),
        frames=st.sampled_from(FRAMES),
        answer_tokens=st.integers(1, 256),
    )
)
def test_a_link_holds_the_settings(settings: VideoSettings) -> None:
    from urllib.parse import parse_qsl

    query = dict(parse_qsl(to_query(settings, example="drive")))
    assert query["tab"] == "video" and query["v_example"] == "drive" and is_link(query)
    assert from_query(query) == (settings, ())


def test_what_is_wrong_in_a_link_is_named_and_left_out() -> None:
    settings, notes = from_query({"v_frames": "7", "v_each": "16", "budget": "3"})
    assert settings == DEFAULTS.but(each=16)
    assert len(notes) == 1 and notes[0].startswith("The link's frames was ignored.")
    assert not is_link({"tab": "video", "question": "what?"})


def test_a_budget_is_per_place_and_never_more_than_there_is() -> None:
    assert VideoSettings(each=10).over(8, 1152).budget == 80
    assert VideoSettings(each=500).over(8, 1152).budget == 1152
    assert VideoSettings(each=1, method="full").over(8, 1152).budget == 1152


def test_the_examples_ask_what_only_time_can_answer() -> None:
    assert [clip.kind for clip in clips()] == [kind for kind in CLIP_KINDS if kind != "order"]
    assert any(" first, " in question and " or " in question for question in clips()[2].more)
    for clip in clips():
        assert clip.alt and clip.path.stat().st_size < 100_000
        for question in (clip.question, *clip.more):
            heard = understand(question)
            assert heard.taught and not heard.unknown, question


@pytest.mark.parametrize("clip", clips(), ids=lambda clip: clip.id)
def test_the_examples_can_be_read_and_end_as_their_pictures_show(clip: Any) -> None:
    media = read_media(clip.path, 8)
    assert len(media.frames) == 8 and media.width == media.height == 336
    with Image.open(clip.thumb) as thumb:
        end = np.asarray(Image.fromarray(media.frames[-1]).resize(thumb.size), float)
        assert np.abs(end - np.asarray(thumb.convert("RGB"), float)).mean() < 8
    start = media.frames[0].astype(float)
    assert np.abs(start - media.frames[-1]).max() > 60, "nothing happens"
