"""What a comparison's cells say by token and by set, and its settings in a link, without a model."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
import torch

from script_core.pruners import PRUNERS
from ui.compare_cells import difference, jaccard, pieces
from ui.compare_state import CompareSettings, check, from_query, to_query
from ui.state import Unusable

WORDS = {1: "a ", 2: "red ", 3: "car", 4: "bus", 5: "\ufffd", 6: "!", 9: ""}


def decode(ids: list[int]) -> str:
    return "".join(WORDS[i] for i in ids).replace("\ufffd!", "\u00e9")  # 5 and 6 are the halves of one character


def test_differences_are_by_token() -> None:
    assert difference(decode, [1, 2, 3, 9], [1, 4, 9], frozenset({9})) == [
        ["same", "a "],
        ["missing", "red car"],
        ["added", "bus"],
    ]
    assert difference(decode, [1, 3], [1, 3], frozenset()) == [["same", "a car"]]
    assert difference(decode, [9], [4], frozenset({9})) == [["added", "bus"]]


def test_half_a_character_waits_for_the_other_half() -> None:
    assert pieces(decode, [1, 5, 6, 3]) == ["a ", "", "\u00e9", "car"]


def test_jaccard_by_hand() -> None:
    sets = {"x": torch.tensor([1, 2, 3]), "y": torch.tensor([2, 3, 4, 5]), "z": torch.tensor([], dtype=torch.int64)}
    assert jaccard(sets) == {"names": ["x", "y", "z"], "matrix": [[1.0, 0.4, 0.0], [0.4, 1.0, 0.0], [0.0, 0.0, 1.0]]}
    assert jaccard({}) == {"names": [], "matrix": []}


def test_settings_survive_a_link() -> None:
    asked = CompareSettings("is it & <odd>?", 64, ("script", "random"), 12, "stickers", "penguins")
    query = {name: values[0] for name, values in parse_qs(urlsplit("?" + to_query(asked)).query).items()}
    assert query["tab"] == "compare" and from_query(query) == (asked, ())
    assert from_query({"question": "for the other tab", "tab": "ask"}) is None


def test_what_a_link_cannot_mean_is_ignored_and_said() -> None:
    found = from_query({"c_budget": "many", "c_methods": "script,magic", "c_question": "what is it?"})
    assert found is not None
    settings, notes = found
    assert settings == CompareSettings("what is it?")
    assert any("budget was ignored" in note for note in notes) and any("magic" in note for note in notes)


@pytest.mark.parametrize("methods", [[], ["script"], list(PRUNERS)[:9], ["script", "magic"], None])
def test_two_to_eight_known_methods(methods: list[str] | None) -> None:
    with pytest.raises(Unusable, match="2 to 8|no method"):
        check(question="what?", budget=8, methods=methods, answer_tokens=4)
