"""Between handlers and Gradio's events."""

from __future__ import annotations

from typing import Any

import pytest

from ui import wiring


def test_what_the_browser_may_not_have_drawn_is_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(wiring.time, "monotonic", lambda: now[0])

    def views() -> Any:
        for after, view in (
            (0.0, {"grid": {"n": 1}}),
            (0.1, {"note": "a"}),
            (0.1, {"grid": {"n": 2}}),
            (0.2, {"stop": 0}),
        ):
            now[0] += after
            yield view

    first, second, third, last = wiring.lasting(views(), seconds=0.25)
    assert first == {"grid": {"n": 1}} and second == {"grid": {"n": 1}, "note": "a"}
    assert third == {"grid": {"n": 2}, "note": "a"}  # the newest of each
    assert last == {"grid": {"n": 2}, "stop": 0}  # the note is 0.3 s old
