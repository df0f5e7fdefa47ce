"""Models that the page's host switches between: followed, failed half-way, one at a time, shown, and named."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
import threading
import weakref
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import app
from script_core.backends import KNOWN, SMALL, placement
from script_core.backends.machine import Machine
from script_core.backends.progress import PHASES, Step
from tests.hub import ROOMY, FakeHub
from tests.tiny import picture
from ui import cards
from ui.handlers import AskHandlers
from ui.limits import MANIFEST
from ui.loading import Load
from ui.runtime import Host, NotReady

ROOT = Path(app.__file__).parent
BIG, OTHER = "llava-hf/llava-1.5-7b-hf", "llava-hf/llava-v1.6-vicuna-7b-hf"


@dataclass
class Waiting(FakeHub):
    """A download that goes on until it is let go on."""

    go_on: threading.Event = field(default_factory=threading.Event)

    def snapshot_download(self, repo_id: str, **options: Any) -> Any:
        if not options.get("dry_run"):
            assert self.go_on.wait(60)
        return super().snapshot_download(repo_id, **options)


@pytest.fixture()
def host(llava_folder: Path) -> Host:
    """A server with the embedded model ready, and a machine that could hold anything."""
    made = Host(hub=FakeHub(llava_folder), look=lambda: ROOMY, device="cpu")
    made.start()
    made.wait()
    return made


def test_a_switch_is_followed_and_the_model_before_is_freed(host: Host) -> None:
    engine = host.switch(BIG)
    assert engine.info.name == "LLaVA-1.5 7B" and host.loaded(BIG) and host.badge(BIG)[1] == "ready"
    gone = weakref.ref(engine.backend.model)  # type: ignore[attr-defined]
    del engine
    seen = [load.step.phase for load in host.follow(OTHER)]
    assert set(seen) <= set(PHASES)
    gc.collect()
    assert gone() is None and not host.loaded(BIG) and host.loaded(OTHER)
    with pytest.raises(NotReady, match="not loaded"):
        host.engine(BIG)
    assert host.engine().info.only_stickers  # small ones stay


def test_a_load_that_fails_half_way_leaves_the_old_model_serving(host: Host, llava_folder: Path) -> None:
    engine = host.switch(BIG)
    for problem in (ConnectionError("gone"), OSError(28, "No space left on device")):
        assert isinstance(host.hub, FakeHub)
        host.hub.breaks = problem
        with pytest.raises(NotReady, match=r"could not be fetched .* LLaVA-1.5 7B stays\.$"):
            host.switch(OTHER)
        assert host.engine(BIG).backend is engine.backend and host.badge(BIG)[1] == "ready"
    host.hub.breaks = None
    assert host.switch(OTHER).info.name == "LLaVA-NeXT 7B"  # and the next try is free to succeed


@pytest.mark.parametrize("beside", [True, False])
def test_weights_that_cannot_be_read_leave_the_old_model(
    host: Host, llava_folder: Path, tmp_path: Path, beside: bool
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(llava_folder, broken)
    (broken / "model.safetensors").write_bytes(b"12345678")
    engine = host.switch(BIG)
    tight = Machine((), 36_000_000_000, 1 << 40)  # enough for one of these, by what the table says, not for two
    assert isinstance(host.hub, FakeHub)
    host.hub.folder = broken
    host._slot.look = (
        (lambda: ROOMY) if beside else (lambda: tight if host._slot.name == "" else replace(tight, host=1 << 34))
    )
    host._slot.room = lambda: ROOMY  # type: ignore[method-assign]
    with pytest.raises(NotReady) as caught:
        host.switch(OTHER)
    assert str(caught.value).endswith("LLaVA-1.5 7B stays.") and str(tmp_path) not in str(caught.value)
    assert (host.engine(BIG).backend is engine.backend) == beside  # where there is no room for two it is read again
    assert host.engine(BIG).ask(picture(90, 90), "a?", budget=5, max_new_tokens=2).answer is not None


def test_two_models_at_once_are_one_load_and_one_sentence(llava_folder: Path) -> None:
    hub = Waiting(llava_folder)
    host = Host(hub=hub, look=lambda: ROOMY, device="cpu")
    host.start()
    host.wait()
    first, same = host.follow(BIG), host.follow(BIG)
    assert next(first) is next(same)  # the second visitor follows the first one's load
    with pytest.raises(NotReady, match="Another model is being loaded .LLaVA-1.5 7B: .*load this one when"):
        next(host.follow(OTHER))
    assert host.engine().ask(picture(90, 90), "is there a dog ?", budget=5, max_new_tokens=2)  # answers meanwhile
    hub.go_on.set()
    assert [list(first), list(same)] and host.loaded(BIG)
    assert [asked["dry_run"] for asked in hub.asked] == [True, False]


def test_whoever_stops_listening_does_not_stop_the_load(llava_folder: Path) -> None:
    hub = Waiting(llava_folder)
    host = Host(hub=hub, look=lambda: ROOMY, device="cpu")
    host.start()
    host.wait()
    visitor = host.follow(BIG)
    load = next(visitor)
    visitor.close()
    hub.go_on.set()
    assert load.over.wait(60) and host.loaded(BIG)


def test_a_first_model_that_is_on_its_way_is_told_in_the_badge(llava_folder: Path) -> None:
    hub = Waiting(llava_folder)
    host = Host(BIG, hub=hub, look=lambda: ROOMY, device="cpu", wait_s=0.01)
    host.start()
    handlers = AskHandlers(host)
    found = handlers.arrived({})
    assert "Loading" in found["badge"] and found["waiting"] == {"active": True}
    assert "Loading" in handlers.awaited({}, None, None)["badge"]
    with pytest.raises(NotReady, match="still loading"):
        host.wait()
    hub.go_on.set()
    host.wait(60)
    last = handlers.awaited({"budget": "4"}, None, None)
    assert 'data-state="ready"' in last["badge"] and "LLaVA-1.5 7B \u00b7 cpu \u00b7 float32" in last["badge"]
    assert last["waiting"] == {"active": False}


def test_the_bits_of_the_weights_make_another_load(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.switch(BIG)
    assert host.loaded(BIG) and host.loaded(BIG, "") and not host.loaded(BIG, "4bit")
    monkeypatch.setattr(placement, "find_spec", lambda package: None)
    assert "bitsandbytes and accelerate" in host.obstacle(OTHER, "4bit")
    with pytest.raises(NotReady, match="bitsandbytes"):
        host.switch(OTHER, "4bit")
    assert host.loaded(BIG)


def test_what_is_suggested_fits(llava_folder: Path) -> None:
    def suggested(machine: Machine, **more: Any) -> str:
        return Host(look=lambda: machine, **more).suggested()

    assert suggested(Machine((), 1 << 31, 1 << 40), device="cpu") == ""
    assert suggested(Machine((), 1 << 35, 1 << 40), device="cpu") == SMALL
    assert suggested(Machine((), 1 << 35, 1 << 40), device="cpu", loads=False) == ""


def test_a_model_that_is_in_no_list_is_not_loaded(host: Host) -> None:
    with pytest.raises(NotReady, match="no such model"):
        host.switch("somebody/elses-model")
    assert isinstance(host.hub, FakeHub) and host.hub.asked == []


def test_progress_is_shown_with_its_phase() -> None:
    load = Load(BIG, "4bit")
    load.tell(Step("download", 3_200_000_000, 14_100_000_000))
    made = cards.loading(load)
    assert "LLaVA-1.5 7B</b>, 4-bit weights" in made and "downloading 3.2 of 14.1 GB" in made
    load.placed = "cuda \u00b7 bfloat16"
    assert "On cuda \u00b7 bfloat16." in cards.loading(load) and "On " not in made
    assert 'value="0.2270"' in made and made.count('class="done"') == 1 and '<li class="now">download</li>' in made
    load.tell(Step("resolve"))
    assert "value=" not in cards.loading(load)  # no count: the bar only says that something happens


def test_names_agree_between_command_line_manifest_and_page() -> None:
    host = Host()
    offered = {name for _, name in [*host.choices(), *host.video_choices()]}
    assert offered == {*KNOWN, "stickers", "stickers-anyres", "stickers-video"}
    for short, model in MANIFEST.models.items():
        assert model.source in offered, short
        if model.source in KNOWN:
            assert (model.title, model.memory_gb) == (KNOWN[model.source].title, KNOWN[model.source].memory)
        assert app.arguments(["--model", short]).model == app.arguments(["--model", model.source]).model == model.source
    assert {model.source for model in MANIFEST.models.values()} >= set(KNOWN)


def test_command_line_options_reach_the_host() -> None:
    options = app.arguments(["--model", SMALL, "--quantize", "4bit", "--device", "cpu"])
    host = app.host_for(options)
    assert (host.first, host.bits, host.device) == (SMALL, "4bit", "cpu")
    assert host.describes_other(app.host_for(app.arguments(["--model", SMALL, "--device", "cpu"])))
    with pytest.raises(SystemExit):
        app.arguments(["--quantize", "8bit"])  # the embedded model has no fewer bits


def test_the_page_is_laid_out_before_what_only_charts_and_models_need() -> None:
    script = "import app, sys; print([m for m in ('plotly', 'scipy', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
