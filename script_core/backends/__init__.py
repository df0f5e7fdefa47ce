"""From a name to a loaded model: the embedded one, a checkpoint folder, or a hub id.

Nothing is fetched unless a hub id is asked for, weights are read from safetensors only, and code that comes with a
checkpoint is never run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from script_core.backends.base import Backend, CannotLoad

if TYPE_CHECKING:
    import torch

EMBEDDED_FOLDER = Path(__file__).resolve().parents[2] / "assets" / "models" / "stickers"
EMBEDDED = {"stickers": "base", "toy": "base", "stickers-anyres": "anyres", "stickers-video": "video"}

# By what a checkpoint's config.json calls itself: the module of a family here, and its class.
FAMILIES = {
    "llava_onevision": ("onevision", "Onevision"),
    "llava_qwen": ("llava_video", "LlavaVideo"),
    "video_llava": ("video_llava", "VideoLlava"),
    "internvl": ("internvl", "InternVl"),
    "qwen2_5_vl": ("qwen2_5_vl", "Qwen25Vl"),
}


@dataclass(frozen=True)
class Known:
    """A published model that this project is wired for. Sizes in GB (10^9 bytes) for weights of 16 bits.

    memory: weights, the CLIP text tower if the family has one, and cache and activations of one question with nothing
    pruned. frames: of a video, 0 where it takes pictures only.
    """

    id: str
    title: str
    family: str
    parameters: float  # billions
    download: float
    memory: float
    frames: int = 0


KNOWN: dict[str, Known] = {
    known.id: known
    for known in (
        Known("llava-hf/llava-1.5-7b-hf", "LLaVA-1.5 7B", "llava", 7.1, 14.1, 16),
        Known("llava-hf/llava-1.5-13b-hf", "LLaVA-1.5 13B", "llava", 13.4, 26.7, 30),
        Known("llava-hf/llava-v1.6-vicuna-7b-hf", "LLaVA-NeXT 7B", "llava_next", 7.1, 14.1, 18),
        Known("llava-hf/llava-v1.6-vicuna-13b-hf", "LLaVA-NeXT 13B", "llava_next", 13.4, 26.7, 32),
        Known("lmms-lab/LLaVA-Video-7B-Qwen2", "LLaVA-Video 7B", "llava_video", 8.0, 16.1, 21, 64),
        Known("LanguageBind/Video-LLaVA-7B-hf", "Video-LLaVA 7B", "video_llava", 7.4, 14.8, 18, 8),
        Known("OpenGVLab/InternVL3-8B-hf", "InternVL3 8B", "internvl", 7.9, 15.9, 19, 16),
        Known("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen2.5-VL 7B", "qwen2_5_vl", 8.3, 16.6, 20, 16),
        Known("llava-hf/llava-onevision-qwen2-0.5b-ov-hf", "LLaVA-OneVision 0.5B", "llava_onevision", 0.9, 1.8, 4, 32),
    )
}


def describe(name: str) -> str:
    """One sentence on what loading this model takes, to be shown before anything is fetched."""
    if name in EMBEDDED:
        return "The embedded sticker model: 7 million parameters, in this repository, nothing to download."
    if name in KNOWN:
        known = KNOWN[name]
        clip = " (and 1.7 GB for CLIP's text tower)" if known.family in ("llava", "llava_next") else ""
        return (
            f"{known.title} ({known.id}): {known.parameters:g} billion parameters, a download of {known.download:g} GB"
            f"{clip}, about {known.memory:g} GB of GPU memory at 16 bits."
        )
    if Path(name).is_dir():
        size = sum(file.stat().st_size for file in Path(name).rglob("*.safetensors"))
        return f"A checkpoint folder with {size / 1e9:.2f} GB of weights; nothing to download."
    return f"{name} is not a model that this project knows; its size is shown on its page on the hub."


def load(
    name_or_path: str | Path | None = None,
    *,
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    frames: int | None = None,
    pool_mode: str | None = None,
    revision: str | None = None,
) -> Backend:
    """The backend for a model. Raises `CannotLoad` with one sentence if that is not possible.

    frames: how many frames of a video it reads, None for its family's own number. pool_mode: LLaVA-Video's pooling of
    a frame, "average" or "bilinear". revision: of a model on the hub, a commit's hash.
    """
    import torch

    name = "stickers" if name_or_path is None else str(name_or_path)
    place = _device(device)
    if name in EMBEDDED and not (EMBEDDED_FOLDER / "config.json").is_file():
        raise CannotLoad("The embedded model is not in assets/models/stickers; train it or check out the repository.")
    folder = EMBEDDED_FOLDER if name in EMBEDDED else _folder(name, revision)
    source = str(folder)
    family = _family(_read_config(folder))
    if family not in ("llava", "llava_next", *FAMILIES):
        titles = ", ".join(dict.fromkeys(known.title.rsplit(" ", 1)[0] for known in KNOWN.values()))
        raise CannotLoad(f"{name} is a {family!r} model; the families that work here are {titles}.")
    if pool_mode is not None and family != "llava_qwen":
        raise CannotLoad("Only LLaVA-Video's frames can be pooled in several ways; leave pool_mode out.")

    # The Qwen2 families overflow in float16; the CLIP ones were published in it.
    kind = _dtype(dtype, place, torch.bfloat16 if family in FAMILIES else torch.float16)
    title = KNOWN[name].title if name in KNOWN else Path(name).name
    if family in FAMILIES:
        module, member = FAMILIES[family]
        maker: Any = getattr(import_module(f"script_core.backends.{module}"), member)
        parts = maker.load(source, torch.device(place), kind).named(title, name)
        more = {} if pool_mode is None else {"pool_mode": pool_mode}
        return maker(parts, frames=frames, **more)

    from script_core.backends.checkpoint import load_parts
    from script_core.backends.frames import PooledFrames
    from script_core.backends.llava import Llava
    from script_core.backends.llava_next import LlavaNext

    parts = load_parts(source, family, torch.device(place), kind)
    if name not in EMBEDDED:
        parts = parts.named(title, name)
        return Llava(parts) if family == "llava" else LlavaNext(parts)
    mode = EMBEDDED[name]
    suffix = {"base": "", "anyres": ", high resolution", "video": ", video"}[mode]
    parts = parts.named("Stickers" + suffix, f"stickers:{mode}", only_stickers=True)
    if mode == "video":
        return PooledFrames(parts, frames)
    return Llava(parts, squash=True) if mode == "base" else LlavaNext(parts)


def _family(config: dict[str, Any]) -> Any:
    """The model type; the original LLaVA-Video checkpoint is told by its architecture, since it has called itself
    by more than one type."""
    if "LlavaQwenForCausalLM" in (config.get("architectures") or ()):
        return "llava_qwen"
    return config.get("model_type")


def _device(device: str | None) -> str:
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise CannotLoad(f"There is no GPU for device {device!r} here; use device='cpu'.")
    except RuntimeError as error:
        if isinstance(error, CannotLoad):
            raise
        raise CannotLoad(f"{device!r} is not a device; use 'cpu' or 'cuda'.") from error
    return device


def _dtype(dtype: str | torch.dtype | None, device: str, on_gpu: torch.dtype) -> torch.dtype:
    import torch

    if dtype is None:
        return torch.float32 if device == "cpu" else on_gpu
    kind = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if kind not in (torch.float16, torch.bfloat16, torch.float32):
        raise CannotLoad(f"{dtype!r} is not a precision for a model; use float16, bfloat16 or float32.")
    return kind


def _folder(source: str, revision: str | None = None) -> Path:
    """The checkpoint's folder, fetched if it is a hub id."""
    if Path(source).is_dir():
        return Path(source)
    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise CannotLoad(f"There is no folder {source}; give a checkpoint folder or a hub id like {next(iter(KNOWN))}.")
    from script_core.backends.hub import fetch

    return fetch(source, revision)


def _read_config(folder: Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        raise CannotLoad(f"The folder {folder} holds no config.json, so it is not a checkpoint.")
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CannotLoad(f"The config.json in {folder} cannot be read; fetch the checkpoint again.") from error
