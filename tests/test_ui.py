"""The page's parts without a browser: settings, handlers as plain functions, markup, and what the server offers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from script_core.backends import SMALL
from script_core.backends.machine import Machine
from script_core.engine import Engine
from script_core.pruners import PRUNERS
from script_core.pruners.base import split_budget
from ui import cards, page
from ui.examples import examples, find
from ui.handlers import AskHandlers
from ui.runtime import LARGE, Host, NotReady
from ui.state import DEFAULTS, NAMES, Settings, Unusable, check, from_query, pruner_of, to_query
from ui.tokengrid import keep, neighbours, payload, shown_pictures

# ---- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "value", "part"), [
    ("question", "", "Type a question"),
    ("question", None, "Type a question"),
    ("question", "x" * 100_000, "100,000 characters"),
    ("method", "nonsense", "must be one of"),
    ("budget", 0, "at least 1"),
    ("budget", -3, "at least 1"),
    ("budget", 2.5, "whole number"),
    ("budget", "many", "whole number"),
    ("budget", None, "whole number"),
    ("budget", math.nan, "whole number"),
    ("budget", True, "whole number"),
    ("tau", 1.2, "between 0 and 1"),
    ("tau", "high", "number from 0 to 1"),
    ("gamma", -0.1, "between 0 and 10"),
    ("gamma", math.inf, "number from 0 to 10"),
    ("p", 2, "between 0 and 1"),
    ("scope", "galaxy", "must be one of"),
    ("newlines", "", "must be one of"),
    ("answer_tokens", 100_000, "between 1 and"),
])  # fmt: skip
def test_a_bad_setting_is_one_sentence_under_its_name(name: str, value: Any, part: str) -> None:
    with pytest.raises(Unusable) as caught:
        check({"question": "is it ?", name: value})
    assert set(caught.value.problems) == {name}
    sentence = caught.value.problems[name]
    assert part in sentence and sentence.endswith(".")


def test_all_problems_come_together() -> None:
    with pytest.raises(Unusable) as caught:
        check({"question": "", "tau": 7, "budget": 0})
    assert set(caught.value.problems) == {"question", "tau", "budget"}


@given(
    st.builds(
        Settings,
        question=st.text(max_size=60).map(lambda t: " ".join(t.split())),
        method=st.sampled_from(sorted(PRUNERS)),
        budget=st.integers(1, 5000),
        tau=st.floats(0, 1),
        gamma=st.floats(0, 10),
        p=st.floats(0, 1),
        scope=st.sampled_from(["crop", "global"]),
        flip=st.booleans(),
        newlines=st.sampled_from(["drop", "row"]),
        answer_tokens=st.integers(1, 256),
    )
)
def test_a_link_holds_the_settings(settings: Settings) -> None:
    from urllib.parse import parse_qsl

    query = dict(parse_qsl(to_query(settings), keep_blank_values=True, encoding="utf-8", errors="surrogatepass"))
    assert from_query(query) == (settings, ())


def test_defaults_make_an_empty_link() -> None:
    assert to_query(DEFAULTS) == ""


def test_what_is_wrong_in_a_link_is_named_and_left_out() -> None:
    settings, notes = from_query({"tau": "9", "gamma": "2", "budget": "lots", "other": "x"})
    assert settings == DEFAULTS.but(gamma=2.0)
    assert len(notes) == 2 and all("ignored" in note for note in notes)


def test_flipping_the_sign_turns_the_backbones_own_around() -> None:
    flipped = DEFAULTS.but(flip=True)
    assert pruner_of(DEFAULTS).sign is None
    assert pruner_of(flipped, 1.0).sign == -1 and pruner_of(flipped, -1.0).sign == 1


@pytest.mark.parametrize("method", sorted(PRUNERS))
def test_every_method_can_be_made_from_settings(method: str) -> None:
    assert pruner_of(DEFAULTS.but(method=method)).name == method


# ---- handlers ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def handlers() -> AskHandlers:
    host = Host()
    host.start()
    host.wait()
    return AskHandlers(host)


def values(**changes: Any) -> list[Any]:
    settings = DEFAULTS.but(question="is there an apple ?", answer_tokens=4)
    return [changes.get(name, getattr(settings, name)) for name in NAMES]


def merged(views: Any) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for view in views:
        result |= view
    return result


FIRST = str(examples()[0].path)


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
    first = merged(handlers.opened({}, "", FIRST, *values()))
    second = merged(handlers.opened({}, "", FIRST, *values()))
    assert first["answers"] == second["answers"] and "live at server start" in first["answers"]["status"]


def test_a_link_goes_into_the_fields(handlers: AskHandlers) -> None:
    view = handlers.arrived({"example": "night", "tau": "0.3", "model": "stickers-anyres", "budget": "900"})
    assert view["media"].endswith("night.png") and view["tau"] == 0.3 and view["model"] == "stickers-anyres"
    assert view["budget"] == {"value": 900, "maximum": 900}
    assert set(handlers.arrived({})) == {"badge"}


def test_stopping_keeps_what_was_said(handlers: AskHandlers) -> None:
    view = handlers.stopped({"pruned": {"state": "streaming", "text": "a red"}, "full": {"state": "waiting"}})
    assert view["answers"]["pruned"] == {"state": "stopped", "text": "a red"}
    assert view["answers"]["state"] == "stopped" and handlers.stopped(None)["answers"]["state"] == "stopped"


# ---- models ------------------------------------------------------------------------------------------------------


def test_a_model_that_cannot_be_loaded_leaves_the_embedded_one(tmp_path: Path) -> None:
    host = Host(str(tmp_path))
    host.start()
    host.wait()
    assert host.first == "stickers" and host.trouble.endswith(".")
    assert host.engine().info.only_stickers
    assert host.badge()[0].startswith("Stickers") and host.badge()[1] == "ready"


def test_a_model_that_was_not_loaded_is_a_sentence(handlers: AskHandlers) -> None:
    with pytest.raises(NotReady, match="not loaded"):
        handlers.host.engine("llava-hf/llava-v1.6-vicuna-7b-hf")


def test_without_room_a_large_model_is_refused_before_any_download() -> None:
    host = Host(device="cpu", look=lambda: Machine((), 9_000_000_000, 1 << 40))
    host.start()
    handlers = AskHandlers(host)
    views = merged(handlers.model_loaded("llava-hf/llava-v1.6-vicuna-7b-hf", FIRST, *values()))
    assert "no GPU" in views["model_note"] and "choose LLaVA-OneVision 0.5B" in views["model_note"]
    assert views["model"] == "stickers"
    chosen = merged(handlers.model_chosen("llava-hf/llava-v1.6-vicuna-7b-hf", FIRST, *values()))
    assert "GB" in chosen["model_note"] and chosen["load"] == {"visible": True, "interactive": False}
    assert chosen["bits"] == {"visible": True}
    assert merged(handlers.model_chosen("stickers", FIRST, *values()))["bits"] == {"visible": False}


def test_a_machine_that_can_hold_one_brings_a_model_for_photos_in_one_click(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(free: int) -> Any:
        host = Host(look=lambda: Machine((), free, 1 << 40))
        host.start()
        return merged(AskHandlers(host).opened({}, "", FIRST, *values()))["quick"]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert opened(2_000_000_000)["visible"] is False
    assert opened(30_000_000_000) == {"visible": True, "value": "Load LLaVA-OneVision 0.5B for photos"}


def test_the_model_for_photos_is_the_largest_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for free, name in ((3e9, ""), (8e9, SMALL), (80e9, LARGE)):
        assert Host(look=lambda free=free: Machine((int(free),), 1 << 40, 1 << 40)).suggested() == name
    assert Host(look=lambda: Machine((int(80e9),), 1 << 40, 1 << 20)).suggested() == LARGE  # asked again when loading


# ---- the canvas's payload ----------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_the_budget_rule_for_the_browser_is_the_pruners(budget: int, p: float, seed: int) -> None:
    from script_core.graph import survivors

    generator = torch.Generator().manual_seed(seed)
    sizes = [20, 0, 25, 15]
    scores = torch.randint(0, 4, (60,), generator=generator).float()
    walks, ranks, expected, start = [], torch.empty(60, dtype=torch.int64), [], 0
    for size, share in zip(sizes, split_budget(budget, sizes), strict=True):
        index = torch.arange(start, start + size)
        walk = index[torch.randperm(size, generator=generator)]
        ranks[index[torch.sort(scores[index], stable=True).indices]] = torch.arange(size)
        allowed = torch.zeros(60, dtype=torch.bool)
        allowed[index] = survivors(scores[index], p, share)
        expected.append(walk[allowed[walk]][:share])
        walks.append(walk)
        start += size
    assert torch.equal(keep(torch.cat(walks), sizes, ranks, p, budget), torch.sort(torch.cat(expected)).values)


@pytest.mark.parametrize(
    ("method", "nested"), [("script", True), ("random", True), ("uniform", False), ("full", False)]
)
def test_only_nested_methods_hand_their_order_to_the_browser(handlers: AskHandlers, method: str, nested: bool) -> None:
    engine = handlers.host.engine()
    pruner = PRUNERS[method]()
    value = payload(engine.select(FIRST, "is there an egg ?", pruner=pruner, budget=50), pruner, [], asked={})
    assert ("walk" in value) is nested and ("kept" in value) is not nested


def test_neighbours_are_on_the_other_side_and_reach_tau(handlers: AskHandlers) -> None:
    tokens = handlers.host.engine().encode(FIRST).tokens
    found = neighbours(tokens, "crop", 0.6).astype(int)
    unit = torch.nn.functional.normalize(tokens.features.double(), dim=1)
    rows, places = np.nonzero(found != 65535)
    assert len(rows)
    others = found[rows, places]
    assert np.all((rows + others) % 2 == 1)
    assert bool(((unit[rows] * unit[others]).sum(1) >= 0.6 - 1e-6).all())


def test_the_picture_under_the_tokens_is_a_file_of_moderate_size(handlers: AskHandlers) -> None:
    media = handlers.host.engine().encode(FIRST).media
    (shown,) = shown_pictures(media)
    with Image.open(shown["path"]) as picture:
        assert max(picture.size) <= 960 and picture.format == "JPEG"
    assert shown_pictures(media) == [shown]


# ---- markup ------------------------------------------------------------------------------------------------------


def test_notes_escape_what_they_quote() -> None:
    assert cards.note("<img onerror=x>") == '<p class="note note-error" role="alert">&lt;img onerror=x&gt;</p>'
    assert cards.note("") == ""


@pytest.mark.parametrize(("value", "unit", "text"), [
    (576, "tokens", "576"), (2880, "tokens", "2,880"), (0.456, "ms", "0.46 ms"), (41.27, "ms", "41.3 ms"),
    (1500, "ms", "1.50 s"), (3.817e12, "FLOPs", "3.82 TFLOPs"), (1440 * 2**20, "bytes", "1.41 GiB"),
    (160 * 2**20, "bytes", "160 MiB"), (999, "bytes", "999 B"),
])  # fmt: skip
def test_quantities_read_well(value: float, unit: str, text: str) -> None:
    assert cards.quantity(value, unit) == text


def test_every_counter_says_what_it_is(handlers: AskHandlers) -> None:
    result = handlers.host.engine().ask(FIRST, "is there an apple ?", budget=64, max_new_tokens=4)
    full = handlers.host.engine().ask(FIRST, "is there an apple ?", pruner="full", budget=576, max_new_tokens=4)
    html = cards.counters_html(result.counters, full.counters, "cpu")
    assert html.count("How is this computed?") == html.count('class="cnt-row"') == 5
    assert html.count(">measured<") + html.count(">computed<") == 5
    waiting = cards.counters_html(result.counters, None)
    assert "..." in waiting, "what is not measured yet must not look measured"


# ---- examples ----------------------------------------------------------------------------------------------------


def test_examples_cover_what_the_model_can_be_asked() -> None:
    kinds = " ".join(example.kind for example in examples())
    assert all(kind in kinds for kind in ("existence", "kind", "colour", "position", "where"))
    assert sum(example.is_scene for example in examples()) >= 8
    assert all(example.path.is_file() and example.alt for example in examples())
    credits = (examples()[0].path.parent / "CREDITS.md").read_text()
    assert all(example.path.name in credits for example in examples() if not example.is_scene)


# ---- the server --------------------------------------------------------------------------------------------------


def test_the_page_builds_and_offers_nothing_by_accident() -> None:
    import tomllib

    root = Path(__file__).resolve().parent.parent
    declared = tomllib.loads((root / "Spacefile").read_text(encoding="utf-8"))["api"]["endpoints"]
    demo = page.build(Host())
    config = demo.get_config_file()
    public = {d.get("api_name") for d in config["dependencies"] if d.get("api_visibility", "public") == "public"}
    assert public == set(declared)
    assert demo.analytics_enabled is False
    options = page.launch_options()
    assert options["enable_monitoring"] is False and options["run_history"] is False and options["show_error"] is False


def test_the_page_names_no_other_server() -> None:
    head = page.launch_options()["head"]
    assert "http://" not in head and "https://" not in head


def test_a_visitor_is_greeted_with_the_opening_answer_unless_the_link_asks_for_more(handlers: AskHandlers) -> None:
    assert AskHandlers(handlers.host).greeted({}) == {}  # nothing is answered yet
    handlers.prepare()
    assert handlers.greeted({})["answers"]["state"] == "done" and handlers.greeted({"budget": "9"}) == {}
