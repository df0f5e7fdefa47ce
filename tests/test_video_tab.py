"""The Video tab's handlers as plain functions: a clip answered, trouble, links, the opening answer, and Stop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests import clips as files
from tests.handling import fields, handlers_of, merged
from tests.tiny import picture
from ui.loading import Load
from ui.pair import stopped
from ui.runtime import NotReady
from ui.video import GONE, NONE_YET, PICTURE, VideoHandlers
from ui.video_examples import clips
from ui.video_state import DEFAULTS, NAMES

ROOT = Path(__file__).resolve().parent.parent
FIRST = str(clips()[0].path)

handlers = handlers_of(VideoHandlers)
values = fields(DEFAULTS.but(question="does a rocket appear ?", answer_tokens=4), NAMES)


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


def test_opening_asks_once(handlers: VideoHandlers) -> None:
    given = ("", FIRST, *values())
    assert list(handlers.opened({}, {"state": "done"}, *given)) == [{"stop": {}}]
    assert merged(handlers.opened({"tab": "video"}, None, *given))["answers"]["state"] == "done"


def test_a_link_is_answered_whatever_its_fields_hold_by_then(handlers: VideoHandlers) -> None:
    link = {"tab": "video", "v_example": "drive", "v_each": "3", "v_model": "nonsense"}
    answers = merged(handlers.opened(link, None, "", FIRST, *values()))["answers"]
    assert answers["state"] == "done" and answers["asked"]["question"] == clips()[1].question
    assert answers["asked"]["budget"] == 3 * 8


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
    view = stopped(value)
    assert view["answers"]["pruned"]["state"] == "done" and view["answers"]["full"]["state"] == "stopped"
    assert view["answers"]["full"]["text"] == "ye" and view["stop"] == {"interactive": False}


def test_choosing_a_large_model_reads_its_number_of_frames(
    handlers: VideoHandlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    last = merged(handlers.model_chosen("lmms-lab/LLaVA-Video-7B-Qwen2", FIRST, *values()))
    assert last["frames"] == 64 and last["load"] == {"visible": True, "interactive": False}
    assert "GPU" in last["model_note"] and "grid" not in last
    assert last["bits"] == {"visible": True}
    assert merged(handlers.model_chosen("stickers-video", FIRST, *values()))["bits"] == {"visible": False}


def test_a_model_is_loaded_with_as_many_bits_as_are_chosen(
    handlers: VideoHandlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def follow(model: str, bits: str) -> Iterator[Load]:
        asked.append((model, bits))
        raise NotReady("no room")
        yield

    monkeypatch.setattr(handlers.host, "follow", follow)
    last = merged(handlers.model_loaded("lmms-lab/LLaVA-Video-7B-Qwen2", FIRST, *values(), bits="4bit"))
    assert asked == [("lmms-lab/LLaVA-Video-7B-Qwen2", "4bit")]
    assert "no room" in last["model_note"] and last["model"] == "stickers-video"


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
