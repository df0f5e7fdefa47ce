"""From a name to a loaded model: the embedded one, a checkpoint folder, or a hub id.

Nothing is fetched unless a hub id is asked for, weights are read from safetensors only, and code that comes with a
checkpoint is never run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from script_core.backends.base import Backend, CannotLoad

if TYPE_CHECKING:
    import torch

EMBEDDED_FOLDER = Path(__file__).resolve().parents[2] / "assets" / "models" / "stickers"
EMBEDDED = {"stickers": "base", "toy": "base", "stickers-anyres": "anyres"}


@dataclass(frozen=True)
class Known:
    """A published model that this project is wired for. Sizes in GB (10^9 bytes) for float16 weights.

    memory: weights, the CLIP text tower, and cache and activations of one question at full resolution.
    """

    id: str
    title: str
    family: str
    parameters: float  # billions
    download: float
    memory: float


KNOWN: dict[str, Known] = {
    known.id: known
    for known in (
        Known("llava-hf/llava-1.5-7b-hf", "LLaVA-1.5 7B", "llava", 7.1, 14.1, 16),
        Known("llava-hf/llava-1.5-13b-hf", "LLaVA-1.5 13B", "llava", 13.4, 26.7, 30),
        Known("llava-hf/llava-v1.6-vicuna-7b-hf", "LLaVA-NeXT 7B", "llava_next", 7.1, 14.1, 18),
        Known("llava-hf/llava-v1.6-vicuna-13b-hf", "LLaVA-NeXT 13B", "llava_next", 13.4, 26.7, 32),
    )
}


def describe(name: str) -> str:
    """One sentence on what loading this model takes, to be shown before anything is fetched."""
    if name in EMBEDDED:
        return "The embedded sticker model: 7 million parameters, in this repository, nothing to download."
    if name in KNOWN:
        known = KNOWN[name]
        return (
            f"{known.title} ({known.id}): {known.parameters:g} billion parameters, a download of {known.download:g} GB "
            f"(and 1.7 GB for CLIP's text tower), about {known.memory:g} GB of GPU memory in float16."
        )
    if Path(name).is_dir():
        size = sum(file.stat().st_size for file in Path(name).rglob("*.safetensors"))
        return f"A checkpoint folder with {size / 1e9:.2f} GB of weights; nothing to download."
    return f"{name} is not a model that this project knows; its size is shown on its page on the hub."


def load(
    name_or_path: str | Path | None = None, *, device: str | None = None, dtype: str | torch.dtype | None = None
) -> Backend:
    """The backend for a model. Raises `CannotLoad` with one sentence if that is not possible."""
    import torch

    name = "stickers" if name_or_path is None else str(name_or_path)
    place = _device(device)
    kind = _dtype(dtype, place)
    source = str(EMBEDDED_FOLDER) if name in EMBEDDED else name
    if name in EMBEDDED and not (EMBEDDED_FOLDER / "config.json").is_file():
        raise CannotLoad("The embedded model is not in assets/models/stickers; train it or check out the repository.")
    family = _read_config(source).get("model_type")
    if family not in ("llava", "llava_next"):
        raise CannotLoad(f"{name} is a {family!r} model; the families that work here are LLaVA-1.5 and LLaVA-NeXT.")

    from script_core.backends.checkpoint import load_parts
    from script_core.backends.llava import Llava
    from script_core.backends.llava_next import LlavaNext

    parts = load_parts(source, family, torch.device(place), kind)
    if name in EMBEDDED:
        squashed = EMBEDDED[name] == "base"
        title = "Stickers" if squashed else "Stickers, high resolution"
        parts = parts.named(title, f"stickers:{EMBEDDED[name]}", only_stickers=True)
        return Llava(parts, squash=True) if squashed else LlavaNext(parts)
    parts = parts.named(KNOWN[name].title if name in KNOWN else Path(name).name, name)
    return Llava(parts) if family == "llava" else LlavaNext(parts)


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


def _dtype(dtype: str | torch.dtype | None, device: str) -> torch.dtype:
    import torch

    if dtype is None:
        return torch.float32 if device == "cpu" else torch.float16
    kind = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if kind not in (torch.float16, torch.bfloat16, torch.float32):
        raise CannotLoad(f"{dtype!r} is not a precision for a model; use float16, bfloat16 or float32.")
    return kind


def _read_config(source: str) -> dict[str, Any]:
    """The checkpoint's config.json, from a folder or the hub."""
    folder = Path(source)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise CannotLoad(f"The folder {source} holds no config.json, so it is not a checkpoint.")
        path = folder / "config.json"
    elif source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise CannotLoad(f"There is no folder {source}; give a checkpoint folder or a hub id like {next(iter(KNOWN))}.")
    else:
        path = _fetch(source)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CannotLoad(f"The config.json of {source} cannot be read; fetch the checkpoint again.") from error


def _fetch(repository: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, "config.json", etag_timeout=5))
    except Exception as error:  # the hub client raises a dozen kinds, from proxies to bad names
        raise CannotLoad(
            f"{repository} could not be fetched from the model hub ({type(error).__name__}); "
            "check the name and the network, or give a local checkpoint folder."
        ) from error
