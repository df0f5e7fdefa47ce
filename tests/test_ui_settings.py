"""The Ask tab's settings: what is refused and in which words, and what a link holds."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from script_core.pruners import PRUNERS
from ui.state import DEFAULTS, Settings, Unusable, check, from_query, pruner_of, to_query


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
