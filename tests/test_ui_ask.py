"""The Ask tab's handlers as plain functions: asking, trouble, sliders, links, the opening answer, and Stop."""

from __future__ import annotations

from typing import Any

import pytest

from script_core.engine import Engine
from tests.handling import fields, handlers_of, merged
from ui.examples import examples, find
from ui.handlers import AskHandlers
from ui.pair import ended, stopped
from ui.state import DEFAULTS, NAMES

handlers = handlers_of(AskHandlers)
values = fields(DEFAULTS.but(question="is there an apple ?", answer_tokens=4), NAMES)
FIRST, SECOND = (str(example.path) for example in examples()[:2])


def test_the_overlay_comes_before_the_first_word(handlers: AskHandlers) -> None:
    views = list(handlers.ask("", FIRST, *values()))
    drawn = next(i for i, view in enumerate(views) if view.get("grid"))
    spoken = next(i for i, view in enumerate(views) if view.get("answers", {}).get("pruned", {}).get("text"))
    assert drawn < spoken
    last = merged(views)
    assert last["answers"]["state"] == "done" and last["stop"] == {"interactive": False}
    assert last["answers"]["same"] in (True, False) and last["answers"]["kl"] >= 0
    assert last["answers"]["asked"]["budget"] == last["grid"]["budget"] == 64
    assert "576" in last["answers"]["full"]["title"]


def test_keeping_everything_changes_nothing(handlers: AskHandlers) -> None:
    last = merged(handlers.ask("", FIRST, *values(budget=100_000)))
    assert last["answers"]["same"] is True and last["answers"]["kl"] == 0
    assert last["answers"]["asked"]["budget"] == 576


@pytest.mark.parametrize(("path", "changes", "note", "part"), [
    (None, {}, "media_note", "Choose a picture"),
    ("/nowhere/at/all.png", {}, "media_note", "no longer on the server"),
    (FIRST, {"question": ""}, "question_note", "Type a question"),
    (FIRST, {"question": "x" * 100_000}, "question_note", "100,000"),
    (FIRST, {"budget": 0}, "settings_note", "at least 1"),
    (FIRST, {"tau": 3}, "settings_note", "between 0 and 1"),
])  # fmt: skip
def test_trouble_is_a_sentence_beside_its_field(
    handlers: AskHandlers, path: str | None, changes: dict[str, Any], note: str, part: str
) -> None:
    last = merged(handlers.ask("", path, *values(**changes)))
    assert part in last[note] and 'role="alert"' in last[note]
    assert last["answers"]["state"] == "failed" and last["stop"] == {"interactive": False}


def test_an_unexpected_failure_is_one_sentence_without_details(
    handlers: AskHandlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **options: Any) -> Any:
        raise RuntimeError("/secret/path exploded")

    monkeypatch.setattr(Engine, "stream", broken)
    last = merged(handlers.ask("", FIRST, *values()))
    assert "went wrong" in last["settings_note"]
    assert "secret" not in repr(last)


def test_a_photograph_on_the_embedded_model_is_said_to_be_unknown(handlers: AskHandlers) -> None:
    photo = find("rocket")
    assert photo is not None
    last = merged(handlers.ask("", str(photo.path), *values()))
    assert any("only knows sticker scenes" in text for text in last["answers"]["notices"])
    last = merged(handlers.ask("", FIRST, *values()))
    assert not any("only knows sticker scenes" in text for text in last["answers"]["notices"])


def test_an_unknown_word_is_answered_by_the_page(handlers: AskHandlers, monkeypatch: pytest.MonkeyPatch) -> None:
    from script_core import prefill

    monkeypatch.setattr(prefill.Decoding, "__init__", lambda *a, **o: pytest.fail("the language model ran"))
    last = merged(handlers.ask("", FIRST, *values(question="is there a zeppelin ?")))
    answers = last["answers"]
    assert answers["declined"] and answers["state"] == "done" and "was not asked" in answers["status"]
    assert answers["pruned"]["text"] == 'I do not know the word "zeppelin".'
    assert "same" not in answers and "kl" not in answers
    assert any(text.startswith("I only know 86 things") and "penguin" in text for text in answers["notices"])
    assert last["grid"]["n"] == 576, "which tokens are kept may still be seen"
    assert last["stop"] == {"interactive": False}


def test_overlays_follow_sliders_without_the_language_model(
    handlers: AskHandlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "stream", lambda *a, **o: pytest.fail("the language model ran"))
    view = handlers.looked("", FIRST, *values(tau=0.8, gamma=3.0))
    assert (view["grid"]["tau"], view["grid"]["gamma"]) == (0.8, 3.0)
    again = handlers.looked("", FIRST, *values(tau=0.2))
    assert again["grid"]["version"] > view["grid"]["version"]
    assert again["grid"]["rank"] != view["grid"]["rank"]


def test_a_canvas_can_ask_for_a_sliders_change_by_itself(handlers: AskHandlers) -> None:
    shown = handlers.looked("", FIRST, *values())["grid"]
    settings = {**shown["asked"], "tau": 0.7}
    change = handlers.redraw({"ticket": shown["ticket"], "settings": settings})
    full = handlers.looked("", FIRST, *values(tau=0.7))["grid"]
    assert change is not None and "images" not in change and "row" not in change
    assert {**shown, **change, "version": 0} == {**full, "version": 0}


@pytest.mark.parametrize("wish", [
    {}, None, [], {"ticket": {}, "settings": {}}, {"ticket": {"model": "", "media": "unknown"}, "settings": {}},
    {"ticket": {"model": "/etc", "media": "KEY"}, "settings": {}},
    {"ticket": {"model": "", "media": "KEY"}, "settings": {"tau": "x"}},
    {"ticket": {"model": "", "media": "KEY"}, "settings": {"budget": [1]}},
])  # fmt: skip
def test_a_canvas_that_asks_for_nonsense_gets_nothing(handlers: AskHandlers, wish: Any) -> None:
    key = handlers.looked("", FIRST, *values())["grid"]["ticket"]["media"]
    if isinstance(wish, dict) and wish.get("ticket", {}).get("media") == "KEY":
        wish["ticket"]["media"] = key
    assert handlers.redraw(wish) is None


def test_a_new_picture_sets_the_sliders_range(handlers: AskHandlers) -> None:
    view = handlers.looked("stickers-anyres", FIRST, *values(budget=5000), new_picture=True)
    assert view["budget"] == {"maximum": 2880, "value": 2880}
    assert handlers.looked("", None, *values(), new_picture=True)["grid"] is None


def test_overlays_work_before_a_question_is_typed(handlers: AskHandlers) -> None:
    view = handlers.looked("", FIRST, *values(question=""), new_picture=True)
    assert view["grid"]["n"] == 576 and "No question yet" in view["settings_note"]


def test_the_page_opens_on_a_live_answer_that_is_computed_once(handlers: AskHandlers) -> None:
    handlers.prepare()
    first, second = handlers.awaited({}, FIRST, None), handlers.arrived({})
    assert first["answers"] == second["answers"] and "live at server start" in first["answers"]["status"]
    assert first["waiting"] == second["waiting"] == {"active": False} and "ready" in second["badge"]


def test_a_link_goes_into_the_fields(handlers: AskHandlers) -> None:
    view = handlers.arrived({"example": "night", "tau": "0.3", "model": "stickers-anyres", "budget": "900"})
    assert view["media"].endswith("night.png") and view["tau"] == 0.3 and view["model"] == "stickers-anyres"
    assert view["budget"] == {"value": 900, "maximum": 900}
    assert "media" not in handlers.arrived({}) and "tau" not in handlers.arrived({"tab": "ask"})


def test_stopping_keeps_what_was_said(handlers: AskHandlers) -> None:
    view = stopped({"pruned": {"state": "streaming", "text": "a red"}, "full": {"state": "waiting"}})
    assert view["answers"]["pruned"] == {"state": "stopped", "text": "a red"}
    assert view["answers"]["state"] == "stopped" and stopped(None)["answers"]["state"] == "stopped"


@pytest.mark.parametrize(("state", "after"), [
    ("waiting", "stopped"), ("running", "stopped"), ("done", None), ("failed", None), (None, None),
])  # fmt: skip
def test_another_picture_ends_what_runs_and_leaves_what_had_ended(state: str | None, after: str | None) -> None:
    view = ended({"state": state, "pruned": {"state": "streaming"}} if state else None)
    assert view.get("answers", {}).get("state") == after and view["stop"] == {"interactive": False}


def test_a_visitor_waits_for_the_opening_answer_unless_the_link_asks_for_more(handlers: AskHandlers) -> None:
    early = AskHandlers(handlers.host).arrived({})  # nothing is answered yet
    assert set(early) == {"badge", "waiting"} and early["waiting"] == {"active": True}
    handlers.prepare()
    assert handlers.arrived({})["answers"]["state"] == "done"
    for found in (handlers.arrived({"budget": "9"}), handlers.awaited({"budget": "9"}, FIRST, None)):
        assert "answers" not in found and found["waiting"] == {"active": False}


def test_what_a_visitor_did_meanwhile_is_not_drawn_over(handlers: AskHandlers) -> None:
    handlers.prepare()
    untouched = {"title": "Answers", "state": None}
    for path, answers in (
        (FIRST, {"state": "streaming"}),
        (FIRST, {"state": "failed"}),
        (SECOND, untouched),
        (None, None),
    ):
        found = handlers.awaited({}, path, answers)
        assert set(found) == {"badge", "waiting", "quick"} and found["waiting"] == {"active": False}
    assert handlers.awaited({}, FIRST, untouched)["answers"]["state"] == "done"


def test_an_opening_answer_that_failed_is_said_once(handlers: AskHandlers, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = AskHandlers(handlers.host)
    monkeypatch.setattr(fresh, "ask", lambda *given: iter(()))
    assert fresh.awaited({}, FIRST, None)["waiting"] == {"active": True}, "it has not been tried yet"
    fresh.prepare()
    found = fresh.awaited({}, FIRST, None)
    assert "press Ask" in found["settings_note"] and found["waiting"] == {"active": False}
