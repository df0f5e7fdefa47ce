"""Which model the page answers with: one that cannot be loaded, one that does not fit, one for photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from script_core.backends import SMALL
from script_core.backends.machine import Machine
from tests.handling import fields, handlers_of, merged
from ui.examples import examples
from ui.handlers import AskHandlers
from ui.runtime import LARGE, Host, NotReady
from ui.state import DEFAULTS, NAMES

handlers = handlers_of(AskHandlers)
values = fields(DEFAULTS.but(question="is there an apple ?", answer_tokens=4), NAMES)
FIRST = str(examples()[0].path)


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
        host.wait()
        return AskHandlers(host).awaited({}, FIRST, None)["quick"]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert opened(2_000_000_000)["visible"] is False
    assert opened(30_000_000_000) == {"visible": True, "value": "Load LLaVA-OneVision 0.5B for photos"}


def test_the_model_for_photos_is_the_largest_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for free, name in ((3e9, ""), (8e9, SMALL), (80e9, LARGE)):
        assert Host(look=lambda free=free: Machine((int(free),), 1 << 40, 1 << 40)).suggested() == name
    assert Host(look=lambda: Machine((int(80e9),), 1 << 40, 1 << 20)).suggested() == LARGE  # asked again when loading
