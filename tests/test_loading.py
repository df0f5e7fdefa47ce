"""Loading in the open: what is fetched, what is told meanwhile, what is refused beforehand, and where weights go."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from script_core.backends import EMBEDDED, KNOWN, SMALL, Wish, load, locate, obstacle
from script_core.backends import hub as hubs
from script_core.backends.base import CannotLoad
from script_core.backends.machine import Machine, Need, lacking
from script_core.backends.placement import Placement, place, share_out, units
from script_core.backends.progress import PHASES, Step

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
