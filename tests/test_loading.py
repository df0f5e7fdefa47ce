"""Loading in the open: what is fetched, what is told meanwhile, what is refused beforehand, and where weights go."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import app
from script_core.backends import EMBEDDED, KNOWN, SMALL, Wish, load, locate, obstacle, placement
from script_core.backends import hub as hubs
from script_core.backends.base import CannotLoad
from script_core.backends.machine import Machine, Need, lacking
from script_core.backends.placement import WHOLE, Placement, place, share_out, units
from script_core.backends.progress import PHASES, Step
from tests import tiny_families
from tests.tiny import picture
from ui import cards, model_card
from ui.limits import MANIFEST
from ui.loading import Load
from ui.runtime import Host, NotReady

ROOT = Path(app.__file__).parent
ROOMY = Machine((), 1 << 40, 1 << 40)
SIZE = 1000  # bytes that each file counts for in `FakeHub`


@dataclass
class FakeHub:
    """The hub's client over a folder: a dry run lists, a download counts bytes on the bars that it is given."""

    folder: Path
    cached: bool = False
    more: Sequence[str] = ()  # further files in the listing
    breaks: Exception | None = None  # raised half-way through the download
    asked: list[dict[str, Any]] = field(default_factory=list)

    def snapshot_download(self, repo_id: str, *, dry_run: bool = False, tqdm_class: Any = None, **options: Any) -> Any:
        self.asked.append({"repo_id": repo_id, "dry_run": dry_run, **options})
        names = [*(file.name for file in self.folder.glob("*.*")), *self.more]
        if dry_run:
            return [SimpleNamespace(filename=name, file_size=SIZE, will_download=not self.cached) for name in names]
        files = tqdm_class(total=len(names), desc="Fetching files")
        moved = tqdm_class(desc="Downloading bytes", total=0, initial=0, unit="B", unit_scale=True)
        written = tqdm_class(desc="Reconstructing", total=0, initial=0, unit="B", unit_scale=True)
        for at, _ in enumerate(names):
            if self.breaks is not None and at == len(names) // 2:
                raise self.breaks
            for bar in () if self.cached else (moved, written):
                bar.update(SIZE)
            files.update(1)
        return str(self.folder)


def heard(**options: Any) -> tuple[Any, list[Step]]:
    steps: list[Step] = []
    return load(**options, told=steps.append), steps


def refused(*args: Any, **options: Any) -> str:
    with pytest.raises(CannotLoad) as caught:
        load(*args, **options)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".") and len(message) < 400
    return message


# ---- the hub ------------------------------------------------------------------------------------------------------


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


# ---- what fits ----------------------------------------------------------------------------------------------------


def test_what_is_lacking_is_named_with_the_fix() -> None:
    need = Need(device=15e9, host=14e9, fetch=14e9)
    assert lacking(need, Machine((24_000_000_000,), 1 << 36, 1 << 36), True, "x") == ""
    assert "needs about 15 GB of GPU memory and 9.0 GB" in lacking(
        need, Machine((9_000_000_000,)), True, "the small one"
    )
    several = lacking(need, Machine((6_000_000_000, 6_000_000_000)), True, "the small one")
    assert "12 GB of GPU memory on 2 GPUs are free: choose the small one." in several
    assert "install accelerate" in lacking(need, Machine((24_000_000_000,), 1 << 30, 1 << 36), True, "x")
    assert "no GPU" in lacking(need, Machine((), 1 << 30), False, "x")
    assert lacking(need, Machine(), False, "x") == ""  # nothing is known, so nothing is refused


def test_fewer_bits_and_wider_numbers_change_what_is_needed() -> None:
    for known in KNOWN.values():
        sizes = [known.needs(bits) for bits in ("4bit", "8bit", "")]
        assert sizes == sorted(sizes) and sizes[-1] == known.memory * 1e9
        assert known.needs("", wide=True) == 2 * sizes[-1]
        assert sizes[0] > 0.25 * known.download * 1e9


def test_every_family_says_what_it_takes() -> None:
    from script_core.backends.loading import FAMILIES

    classes = [getattr(import_module(f"script_core.backends.{module}"), name) for module, name in FAMILIES.values()]
    assert {known.family for known in KNOWN.values()} == {"llava", "llava_next", *(cls.family for cls in classes)}
    for name, known in KNOWN.items():
        assert name == known.id and name.count("/") == 1
        # 16-bit weights are two bytes a parameter; what is needed on top of them is more than nothing
        assert known.download == pytest.approx(2 * known.parameters, rel=0.06)
        assert known.download < known.memory < known.download + 7
    assert KNOWN[SMALL].memory == min(known.memory for known in KNOWN.values())


def test_obstacles_are_known_without_a_network(llava_folder: Path) -> None:
    poor = Machine((), 3_000_000_000, 1 << 40)
    assert "8.0 GB" in obstacle(Wish(SMALL, "cpu"), poor) and "sticker model" in obstacle(Wish(SMALL, "cpu"), poor)
    assert obstacle(Wish(SMALL, "cpu"), Machine((), 9_000_000_000, 1 << 40)) == ""
    assert obstacle(Wish("stickers", "cpu"), Machine((), 1, 1)) == ""
    assert obstacle(Wish(str(llava_folder), "cpu"), Machine((), 1, 1)).startswith("It needs about 0.0 GB")


# ---- where weights go ---------------------------------------------------------------------------------------------


def test_layers_are_shared_out_by_free_memory() -> None:
    assert share_out(32, [10, 10], 0) == (16, 16)
    assert share_out(32, [24, 8], 8) == (21, 11)  # 16 : 8 once the first holds the rest
    assert share_out(28, [5, 20, 20], 9) == (0, 14, 14)
    assert sum(share_out(27, [3, 7, 11], 1)) == 27
    with pytest.raises(CannotLoad, match="no memory free"):
        share_out(4, [1, 0], 2)


def test_a_model_is_spread_where_one_gpu_is_too_small() -> None:
    kind = torch.bfloat16
    assert place("cuda", kind, gpus=[10, 10], weighs=15).gpus == (10, 10)
    assert place("cuda", kind, gpus=[20, 10], weighs=15).gpus == ()
    assert place("auto", kind, gpus=[20, 10], weighs=15).device == torch.device("cuda:0")
    assert place("auto", kind, gpus=[20], weighs=15) == Placement(torch.device("cuda"), kind)
    assert place("auto", kind).device == torch.device("cpu")
    with pytest.raises(CannotLoad, match="8bit or 4bit"):
        place("cpu", kind, bits="3bit")


def test_every_weight_has_a_place_and_layers_stay_whole(llava: Any, llava_next: Any) -> None:
    for engine in (llava, llava_next):
        model = engine.backend.model
        names = list(units(model))
        for weight, _ in model.named_parameters():
            assert sum(weight == name or weight.startswith(f"{name}.") for name in names) == 1, weight
        layers = [name for name in names if name.startswith("model.language_model.layers")]
        assert layers == [f"model.language_model.layers.{i}" for i in range(len(engine.backend.language_model.layers))]


@pytest.mark.parametrize("family", ["llava", *tiny_families.FAMILIES])
def test_only_the_language_model_loses_bits(family: str, tmp_path: Path, llava_folder: Path) -> None:
    from transformers.quantizers.quantizers_utils import should_convert_module

    folder = llava_folder if family == "llava" else tiny_families.save(family, tmp_path / family)
    model = load(folder, device="cpu").model  # type: ignore[attr-defined]
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    fewer = [name for name in linear if should_convert_module(name, WHOLE)]
    assert fewer == [name for name in linear if name.startswith("model.language_model.")]
    assert 0 < len(fewer) < len(linear)


def test_device_and_precision_are_told(llava: Any) -> None:
    assert llava.info.placed == "cpu \u00b7 float32"
    spread = Placement(torch.device("cuda:0"), torch.bfloat16, "4bit", (1, 1))
    assert spread.shown() == "cuda:0 \u00b7 bfloat16 \u00b7 4-bit weights \u00b7 layers on 2 GPUs"


def test_a_checkpoint_is_located_without_being_read(llava_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(llava_folder, folder)
    (folder / "model.safetensors").write_bytes(b"")
    found = locate(Wish(str(folder), "cpu"), machine=ROOMY)
    assert (found.family, found.placement.dtype, found.title) == ("llava", torch.float32, "copy")
    assert set(EMBEDDED) >= {"stickers"} and locate(Wish("stickers", "cpu")).folder.name == "stickers"


# ---- the page's host ----------------------------------------------------------------------------------------------

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
    badges = model_card.watch(host, every_s=0.01)
    assert "Loading" in next(badges)
    with pytest.raises(NotReady, match="still loading"):
        host.wait()
    hub.go_on.set()
    last = list(badges)[-1]
    assert 'data-state="ready"' in last and "LLaVA-1.5 7B \u00b7 cpu \u00b7 float32" in last
    assert list(model_card.watch(host)) == []


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
