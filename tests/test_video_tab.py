"""The Video tab without a browser: the timeline, what the canvas is sent, settings and links, handlers as functions."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from script_core.engine import Engine
from script_core.media import Media, read_media
from script_core.stickers.clips import CLIP_KINDS
from script_core.stickers.language import understand
from script_core.tokens import Block, Grid, Query, VisualTokens
from tests import clips as files
from tests import tiny_families
from tests.tiny import picture
from ui.runtime import Host
from ui.state import Unusable
from ui.video import GONE, NONE_YET, PICTURE, VideoHandlers
from ui.video_answer import Watched
from ui.video_examples import clips
from ui.video_state import DEFAULTS, FRAMES, NAMES, VideoSettings, check, from_query, is_link, to_query
from ui.video_timeline import bits, kept_in, most, places, relevance_in

ROOT = Path(__file__).resolve().parent.parent
TIMES = (0.0, 0.7, 1.4, 2.1)

# ---- the timeline ------------------------------------------------------------------------------------------------


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


# ---- what the canvas is sent -------------------------------------------------------------------------------------


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


# ---- settings and links ------------------------------------------------------------------------------------------


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


# ---- the examples ------------------------------------------------------------------------------------------------


def test_the_examples_ask_what_only_time_can_answer() -> None:
    assert [clip.kind for clip in clips()] == list(CLIP_KINDS)
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


# ---- handlers ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def handlers() -> VideoHandlers:
    host = Host()
    host.start()
    host.wait()
    return VideoHandlers(host)


def values(**changes: Any) -> list[Any]:
    settings = DEFAULTS.but(question="does a rocket appear ?", answer_tokens=4)
    return [changes.get(name, getattr(settings, name)) for name in NAMES]


def merged(views: Any) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for view in views:
        result |= view
    return result


FIRST = str(clips()[0].path)


def test_a_clip_is_answered_twice_with_its_timeline_before_the_first_word(handlers: VideoHandlers) -> None:
    views = list(handlers.ask("", FIRST, *values()))
    drawn = next(i for i, view in enumerate(views) if view.get("grid"))
    assert not any((view.get("answers") or {}).get("pruned", {}).get("text") for view in views[:drawn])
    last = merged(views)
    answers, value = last["answers"], last["grid"]
    assert answers["state"] == "done" and answers["kl"] >= 0 and answers["same"] in (True, False)
    assert answers["pruned"]["title"] == "Script, 256 tokens" and answers["full"]["title"] == "All 1,152 tokens"
    assert (value["n"], value["unit"], value["budget"], value["frames"]) == (1152, 8, 256, 8)
    assert last["each"] == {"maximum": 144, "value": 32} and last["stop"] == {"interactive": False}
    assert value["asked"]["example"] == "launch" == clips()[0].id
    assert value["media"] == answers["asked"]["media"], "or the answers would call themselves stale"
    assert [v["answers"]["status"][:6] for v in views if "status" in (v.get("answers") or {})][1] == "1 of 4"


def test_the_rockets_frames_are_the_relevant_ones(handlers: VideoHandlers) -> None:
    """The rocket comes in at half time; relevance is the encoder's, so this does not depend on what is answered."""
    line = merged(handlers.looked("", FIRST, *values()))["grid"]["line"]
    assert min(line[4:]) > max(line[:4])


@pytest.mark.parametrize(("path", "sentence"), [
    (None, NONE_YET), ("gone.webm", GONE), ("still.png", PICTURE), ("text.mp4", "no picture that can be read"),
])  # fmt: skip
def test_trouble_is_a_sentence_beside_the_video(
    handlers: VideoHandlers, tmp_path: Path, path: str | None, sentence: str
) -> None:
    Image.fromarray(picture(64, 64)).save(tmp_path / "still.png")
    (tmp_path / "text.mp4").write_text("not a video")
    last = merged(handlers.ask("", path and str(tmp_path / path), *values()))
    assert sentence in last["media_note"] and "Traceback" not in last["media_note"]
    assert last["answers"]["state"] == "failed" and last["stop"] == {"interactive": False}


def test_a_model_for_pictures_says_so(handlers: VideoHandlers) -> None:
    last = merged(handlers.ask("stickers", FIRST, *values()))
    assert "takes pictures only" in last["settings_note"]


def test_a_video_of_ones_own_is_said_to_be_unknown(handlers: VideoHandlers, tmp_path: Path) -> None:
    own = str(files.write(tmp_path / "own.webm", frames=20))
    last = merged(handlers.ask("", own, *values(frames=16)))
    assert any("only knows sticker scenes" in text for text in last["answers"]["notices"])
    assert any("taught clips of 8 frames" in text for text in last["answers"]["notices"])
    assert last["grid"]["n"] == 16 * 144 and last["grid"]["asked"]["example"] == ""


def test_an_unknown_word_is_answered_by_the_page(handlers: VideoHandlers) -> None:
    last = merged(handlers.ask("", FIRST, *values(question="does a zeppelin appear ?")))
    assert last["answers"]["declined"] and "was not asked" in last["answers"]["status"]
    assert "zeppelin" in last["answers"]["pruned"]["text"] and last["grid"]["n"] == 1152


def test_a_short_video_gives_the_frames_that_it_has(handlers: VideoHandlers, tmp_path: Path) -> None:
    own = str(files.write(tmp_path / "short.webm", frames=3))
    last = merged(handlers.looked("", own, *values(question=""), new_video=True))
    assert last["grid"]["unit"] == 3 and "3 different frames" in last["media_note"]
    assert "No question yet" in last["settings_note"]


def test_a_method_that_cannot_share_says_so(handlers: VideoHandlers) -> None:
    last = merged(handlers.looked("", FIRST, *values(method="divprune", scope="global")))
    assert "in its own way" in last["settings_note"]
    assert merged(handlers.looked("", FIRST, *values(scope="global")))["settings_note"] == ""


def test_opening_asks_once_and_leaves_links_to_themselves(handlers: VideoHandlers) -> None:
    given = ("", FIRST, *values())
    assert list(handlers.opened({}, {"state": "done"}, *given)) == [{"stop": {}}]
    assert list(handlers.opened({"v_each": "3"}, None, *given)) == [{"stop": {}}]
    assert list(handlers.linked({"tab": "video"}, *given)) == [{"stop": {}}]
    assert merged(handlers.opened({"tab": "video"}, None, *given))["answers"]["state"] == "done"


def test_the_opening_is_answered_once_for_all_visitors(
    handlers: VideoHandlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = [getattr(DEFAULTS.but(question=clips()[0].question), name) for name in NAMES]
    first = merged(handlers.opened({}, None, "", FIRST, *opening))
    monkeypatch.setattr(handlers, "ask", lambda *given: iter([{"asked": True}]))
    [again] = handlers.opened({}, None, "", FIRST, *opening)
    assert again["answers"]["pruned"] == first["answers"]["pruned"] and again["grid"]["n"] == 1152
    assert "when this tab was first opened" in again["answers"]["status"]
    assert all(Path(shown["path"]).is_file() for shown in again["grid"]["images"])
    assert list(handlers.opened({}, None, "", FIRST, *values())) == [{"asked": True}], "another question is asked"


def test_a_link_goes_into_the_fields(handlers: VideoHandlers) -> None:
    assert handlers.arrived({"tab": "video", "question": "is it ?"}) == {"question_note": ""}
    view = handlers.arrived({"v_example": "drive", "v_each": "16", "v_frames": "16", "v_model": "nonsense"})
    assert view["media"] == str(clips()[1].path) and view["question"] == clips()[1].question
    assert view["each"]["value"] == 16 and view["frames"] == 16 and "model" not in view
    assert "was ignored" in handlers.arrived({"v_frames": "5"})["question_note"]


def test_stopping_keeps_what_was_said(handlers: VideoHandlers) -> None:
    value = {"pruned": {"state": "done", "text": "yes"}, "full": {"state": "streaming", "text": "ye"}}
    view = handlers.stopped(value)
    assert view["answers"]["pruned"]["state"] == "done" and view["answers"]["full"]["state"] == "stopped"
    assert view["answers"]["full"]["text"] == "ye" and view["stop"] == {"interactive": False}


def test_choosing_a_large_model_reads_its_number_of_frames(
    handlers: VideoHandlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    last = merged(handlers.model_chosen("lmms-lab/LLaVA-Video-7B-Qwen2", FIRST, *values()))
    assert last["frames"] == 64 and last["load"] == {"visible": True, "interactive": False}
    assert "GPU" in last["model_note"] and "grid" not in last


@pytest.mark.parametrize("scope", ["crop", "global"])
def test_the_python_to_copy_runs_and_keeps_as_many(
    handlers: VideoHandlers, scope: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text, note = handlers.shared("Python", "http://x/", "stickers-video", FIRST, *values(scope=scope))
    assert note == ""
    monkeypatch.chdir(ROOT)
    exec(compile(text, "copied.py", "exec"), {})
    assert "256 of 1152" in capsys.readouterr().out


def test_the_link_to_copy_names_the_example(handlers: VideoHandlers, tmp_path: Path) -> None:
    text, note = handlers.shared("Link", "http://x/", "stickers-video", FIRST, *values(each=16))
    assert text.startswith("http://x/?tab=video&v_example=launch") and "v_each=16" in text and note == ""
    own = str(files.write(tmp_path / "own.webm", frames=4))
    text, note = handlers.shared("Link", "http://x/", "stickers-video", own, *values())
    assert "v_example" not in text and "cannot carry your own video" in note
