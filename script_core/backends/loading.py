"""From a name to a backend in two steps: `locate` fetches and checks, `read` brings the weights into memory.

Whoever serves one model while loading another keeps the first through `locate`, where most of what can go wrong does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from script_core.backends.base import Backend, CannotLoad
from script_core.backends.hub import Hub, fetch
from script_core.backends.known import EMBEDDED, KNOWN, Known, instead, stored
from script_core.backends.machine import Machine, Need, lacking, this_machine
from script_core.backends.placement import Placement, fewer_bits, has, place
from script_core.backends.progress import Step, Told, silent

EMBEDDED_FOLDER = Path(__file__).resolve().parents[2] / "assets" / "models" / "stickers"
CLIP_BYTES = 1.7e9
HEADROOM = 1.25  # of a model that is not in the table: cache and activations against weights

# By what a checkpoint's config.json calls itself: the module of a family here, and its class.
FAMILIES = {
    "llava_onevision": ("onevision", "Onevision"),
    "llava_qwen": ("llava_video", "LlavaVideo"),
    "video_llava": ("video_llava", "VideoLlava"),
    "internvl": ("internvl", "InternVl"),
    "qwen2_5_vl": ("qwen2_5_vl", "Qwen25Vl"),
}


@dataclass(frozen=True)
class Wish:
    """What is asked for, before anything is known about it. device: None for a GPU if there is one, "auto" for all
    GPUs. dtype: None for 16 bits on a GPU and 32 elsewhere. bits: "", "8bit" or "4bit". revision: of a hub id."""

    name: str
    device: str | None = None
    dtype: str | torch.dtype | None = None
    bits: str = ""
    revision: str | None = None

    @property
    def known(self) -> Known | None:
        return KNOWN.get(self.name)


@dataclass(frozen=True)
class Located:
    """A checkpoint on this machine, checked as far as that goes without reading its weights."""

    wish: Wish
    folder: Path
    family: str
    placement: Placement

    @property
    def title(self) -> str:
        return self.wish.known.title if self.wish.known else Path(self.wish.name).name


def obstacle(wish: Wish, machine: Machine | None = None) -> str:
    """Why this cannot be loaded here, one sentence; "" if nothing is known to speak against it. Asks no network."""
    try:
        device = device_of(wish.device)
        if wish.name in EMBEDDED:
            return ""
        if wish.bits and fewer_bits():
            return fewer_bits()
    except CannotLoad as problem:
        return str(problem)
    known = wish.known
    if known is not None:
        return _lacking(wish, device, known.download * 1e9, 0, machine or this_machine())
    if Path(wish.name).is_dir():
        return _lacking(wish, device, stored(Path(wish.name)), 0, machine or this_machine())
    return ""


def locate(wish: Wish, *, hub: Hub | None = None, machine: Machine | None = None, told: Told = silent) -> Located:
    """Fetch what is not here yet, once it is clear that it will fit. Raises `CannotLoad`.

    hub: another client than the hub's own. machine: what is free, None to look.
    """
    device = device_of(wish.device)
    sizes = Machine() if wish.name in EMBEDDED else machine or this_machine()
    here = wish.name in EMBEDDED or Path(wish.name).is_dir()

    def check(weights: int, missing: int) -> None:
        problem = _lacking(wish, device, weights, missing, sizes)
        if problem:
            raise CannotLoad(f"{wish.known.title if wish.known else wish.name} does not fit. {problem}")

    if wish.name in EMBEDDED:
        if not (EMBEDDED_FOLDER / "config.json").is_file():
            raise CannotLoad(
                "The embedded model is not in assets/models/stickers; train it or check out the repository."
            )
        folder = EMBEDDED_FOLDER
    else:
        folder = Path(wish.name) if here else _fetched(wish, hub, told, check)
    family = _family(_read_config(folder))
    if family not in ("llava", "llava_next", *FAMILIES):
        titles = ", ".join(dict.fromkeys(known.title.rsplit(" ", 1)[0] for known in KNOWN.values()))
        raise CannotLoad(f"{wish.name} is a {family!r} model; the families that work here are {titles}.")
    weights = stored(folder)
    if wish.name not in EMBEDDED:
        check(weights, 0)
    kind = dtype_of(wish.dtype, device, family)
    weighs = needed(wish, device, weights)
    return Located(wish, folder, family, place(device, kind, wish.bits, sizes.gpus, weighs))


def read(located: Located, *, frames: int | None = None, pool_mode: str | None = None, told: Told = silent) -> Backend:
    """The backend, its weights in memory. Raises `CannotLoad`."""
    if pool_mode is not None and located.family != "llava_qwen":
        raise CannotLoad("Only LLaVA-Video's frames can be pooled in several ways; leave pool_mode out.")
    told(Step("read"))
    try:
        made = _made(located, frames, pool_mode, told)
    except CannotLoad as problem:  # by the name that it was asked for, not by where the hub's cache is
        raise CannotLoad(str(problem).replace(str(located.folder), located.wish.name)) from problem
    told(Step("ready"))
    return made


def _made(located: Located, frames: int | None, pool_mode: str | None, told: Told) -> Backend:
    if located.family not in FAMILIES:
        return _clip_llava(located, frames, told)
    module, member = FAMILIES[located.family]
    maker: Any = getattr(import_module(f"script_core.backends.{module}"), member)
    parts = maker.load(str(located.folder), located.placement, told).named(located.title, located.wish.name)
    return maker(parts, frames=frames, **({} if pool_mode is None else {"pool_mode": pool_mode}))


def _clip_llava(located: Located, frames: int | None, told: Told) -> Backend:
    """A LLaVA-1.5 or LLaVA-NeXT checkpoint; the embedded one in one of its three modes."""
    from script_core.backends.checkpoint import load_parts
    from script_core.backends.frames import PooledFrames
    from script_core.backends.llava import Llava
    from script_core.backends.llava_next import LlavaNext

    name = located.wish.name
    parts = load_parts(str(located.folder), located.family, located.placement, told)
    if name not in EMBEDDED:
        parts = parts.named(located.title, name)
        return Llava(parts) if located.family == "llava" else LlavaNext(parts)
    mode = EMBEDDED[name]
    suffix = {"base": "", "anyres": ", high resolution", "video": ", video"}[mode]
    parts = parts.named("Stickers" + suffix, f"stickers:{mode}", only_stickers=True)
    if mode == "video":
        return PooledFrames(parts, frames)
    return Llava(parts, squash=True) if mode == "base" else LlavaNext(parts)


def needed(wish: Wish, device: str, weights: float) -> float:
    """Bytes of memory on its device, for weights of so many bytes in 16 bits."""
    wide = device == "cpu"
    if wish.known is not None:
        return wish.known.needs(wish.bits, wide)
    return Known(wish.name, "", "", 0, weights / 1e9, HEADROOM * weights / 1e9).needs(wish.bits, wide)


def _lacking(wish: Wish, device: str, weights: float, missing: float, machine: Machine) -> str:
    on_gpu = device != "cpu"
    through = 0.0 if not on_gpu or wish.bits or has("accelerate") else weights
    clip = CLIP_BYTES if missing and wish.known and wish.known.family in ("llava", "llava_next") else 0
    sizes = Need(needed(wish, device, weights), through, missing + clip)
    quantisable = on_gpu and not fewer_bits()
    return lacking(sizes, _seen(machine, device), on_gpu, instead(wish.name, wish.bits, quantisable))


def _seen(machine: Machine, device: str) -> Machine:
    """What a device can use of the machine: one that names its GPU, such as "cuda:1", gets no other."""
    _, _, index = device.partition(":")
    return replace(machine, gpus=machine.gpus[int(index) : int(index) + 1]) if index else machine


def _fetched(wish: Wish, hub: Hub | None, told: Told, check: Callable[[int, int], None]) -> Path:
    if wish.name.count("/") != 1 or wish.name.startswith((".", "/", "~")):
        raise CannotLoad(
            f"There is no folder {wish.name}; give a checkpoint folder or a hub id like {next(iter(KNOWN))}."
        )
    return fetch(wish.name, wish.revision, client=hub, told=told, check=check)


def _family(config: dict[str, Any]) -> Any:
    """The model type; the original LLaVA-Video checkpoint is told by its architecture, since it has called itself
    by more than one type."""
    architectures = config.get("architectures")
    if isinstance(architectures, list) and "LlavaQwenForCausalLM" in architectures:
        return "llava_qwen"
    return config.get("model_type")


def device_of(device: str | None) -> str:
    """One of "cpu", "cuda", "cuda:1" and the like, or "auto". Raises `CannotLoad` for what is not there."""
    if device in (None, "", "auto"):
        return (device or "cuda") if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(str(device))
    except RuntimeError as error:
        raise _no_device(device) from error
    if str(found) != str(device):  # torch takes "cuda:300" for another GPU's number
        raise _no_device(device)
    if found.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (found.index or 0) >= count:
            raise CannotLoad(f"There is no GPU for device {device!r} here; use device={'cuda' if count else 'cpu'!r}.")
    elif found.type != "cpu" and not (found.type == "mps" and torch.backends.mps.is_available()):
        raise _no_device(device)  # also "meta", which holds no numbers to answer with
    return "cpu" if found.type == "cpu" else str(found)


def _no_device(device: str | None) -> CannotLoad:
    return CannotLoad(f"{device!r} is not a device that a model can run on here; use 'cpu', 'cuda' or 'auto'.")


def dtype_of(dtype: str | torch.dtype | None, device: str, family: str) -> torch.dtype:
    """bfloat16 on a GPU and float32 on a CPU unless another precision is asked for.

    A GPU without bfloat16 gets float16, except for the Qwen2 families, which overflow in it.
    """
    if dtype is None:
        if device == "cpu":
            return torch.float32
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
        return torch.float32 if family in FAMILIES else torch.float16
    kind = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if kind not in (torch.float16, torch.bfloat16, torch.float32):
        raise CannotLoad(f"{dtype!r} is not a precision for a model; use float16, bfloat16 or float32.")
    return kind


def _read_config(folder: Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        raise CannotLoad(f"The folder {folder} holds no config.json, so it is not a checkpoint.")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CannotLoad(f"The config.json in {folder} cannot be read; fetch the checkpoint again.") from error
    if not isinstance(config, dict):
        raise CannotLoad(f"The config.json in {folder} holds no settings; fetch the checkpoint again.")
    return config
