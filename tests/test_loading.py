"""Fetching a model in the open: what is downloaded, what is told meanwhile, and what is refused beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from script_core.backends import hub as hubs
from script_core.backends import load
from script_core.backends.base import CannotLoad
from script_core.backends.machine import Machine
from script_core.backends.progress import PHASES, Step
from tests.hub import ROOMY, SIZE, FakeHub


def heard(**options: Any) -> tuple[Any, list[Step]]:
    steps: list[Step] = []
    return load(**options, told=steps.append), steps


def refused(*args: Any, **options: Any) -> str:
    with pytest.raises(CannotLoad) as caught:
        load(*args, **options)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".") and len(message) < 400
    return message


def test_a_download_is_told_in_bytes_and_a_load_in_phases(llava_folder: Path) -> None:
    hub = FakeHub(llava_folder)
    backend, steps = heard(name_or_path="llava-hf/llava-1.5-7b-hf", device="cpu", hub=hub, machine=ROOMY)
    assert (backend.info.name, backend.info.source) == ("LLaVA-1.5 7B", "llava-hf/llava-1.5-7b-hf")
    phases = [step.phase for step in steps]
    assert sorted(dict.fromkeys(phases), key=PHASES.index) == list(dict.fromkeys(phases))  # never back
    assert phases[0] == "resolve" and phases[-1] == "ready"
    counts = [step.done for step in steps if step.phase == "download"]
    files = len(list(llava_folder.glob("*.*")))
    assert counts == [SIZE * n for n in range(files + 1)]  # two bars count the same bytes: told once
    assert {step.total for step in steps if step.phase == "download"} == {SIZE * files}
    tensors = [step for step in steps if step.phase == "read" and step.total]
    assert len(tensors) > 10 and [step.done for step in tensors] == list(range(len(tensors)))


def test_what_is_in_the_cache_is_not_announced_as_a_download(llava_folder: Path) -> None:
    _, steps = heard(name_or_path="a/b", device="cpu", hub=FakeHub(llava_folder, cached=True), machine=ROOMY)
    assert "download" not in [step.phase for step in steps]


def test_only_settings_and_safetensors_are_fetched(llava_folder: Path) -> None:
    hub = FakeHub(llava_folder)
    load("a/b", device="cpu", revision="0" * 40, hub=hub, machine=ROOMY)
    for asked in hub.asked:
        assert not any(pattern.endswith((".bin", ".py", ".pt", "*")) for pattern in asked["allow_patterns"])
        assert asked["revision"] == "0" * 40


def test_a_repository_of_pickles_is_refused_before_its_download(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    hub = FakeHub(tmp_path, more=("pytorch_model.bin",))
    assert "no weights in safetensors" in refused("a/b", device="cpu", hub=hub, machine=ROOMY)
    assert [asked["dry_run"] for asked in hub.asked] == [True]


def test_a_model_that_does_not_fit_is_refused_before_its_download(llava_folder: Path) -> None:
    hub = FakeHub(llava_folder)
    small = Machine((), 9_000_000_000, 1 << 40)
    message = refused("llava-hf/llava-1.5-7b-hf", device="cpu", hub=hub, machine=small)
    assert "LLaVA-1.5 7B does not fit. It needs about 32 GB of memory" in message and "9.0 GB" in message
    assert "choose LLaVA-OneVision 0.5B" in message
    full = Machine((), 1 << 40, 100)
    message = refused("a/b", device="cpu", hub=hub, machine=full)
    assert "does not fit on the disk" in message and "HF_HOME" in message
    assert all(asked["dry_run"] for asked in hub.asked)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionError("no route\nto host"), "could not be fetched from the model hub (ConnectionError): check"),
        (OSError(28, "No space left on device"), "the disk is full"),
    ],
)
def test_a_download_that_breaks_off_is_one_sentence(llava_folder: Path, error: Exception, words: str) -> None:
    hub = FakeHub(llava_folder, breaks=error)
    assert words in refused("llava-hf/llava-1.5-7b-hf", device="cpu", hub=hub, machine=ROOMY)


def test_a_missing_hub_is_one_sentence_and_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_route(*args: Any, **kwargs: Any) -> None:
        raise OSError("no route")

    monkeypatch.setattr(hubs.socket, "create_connection", no_route)
    monkeypatch.setattr(hubs.urllib.request, "getproxies", dict)
    assert not hubs.reachable()
    message = refused("nobody/has-this-model", device="cpu", machine=ROOMY)
    assert "the model hub cannot be reached" in message and "local checkpoint folder" in message
