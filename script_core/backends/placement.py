"""Where a model's weights go: a device and a precision, fewer bits, or its layers over several GPUs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from script_core.backends.base import CannotLoad
from script_core.backends.known import BITS

# What pruning reads must stay as it is: everything but the language model's linear layers. transformers matches these
# from the start of a module's name, or as its end.
WHOLE = [
    r"model\.(vision_tower|image_tower|video_tower|visual|multi_modal_projector)", "lm_head",
]  # fmt: skip
LAYERS = "model.language_model.layers"


@dataclass(frozen=True)
class Placement:
    """device: of everything, or of everything but some layers. bits: of `known.BITS`, "" for weights as they are.

    gpus: free bytes of each GPU that layers are shared out over, () for one device.
    """

    device: torch.device
    dtype: torch.dtype
    bits: str = ""
    gpus: tuple[int, ...] = ()

    @property
    def direct(self) -> bool:
        """Whether weights are read straight onto their device, which takes accelerate, and not through the host."""
        return bool(self.gpus or self.bits) or (self.device.type == "cuda" and has("accelerate"))

    def options(self, model_class: Any, config: Any) -> dict[str, Any]:
        """What `from_pretrained` is told. Raises `CannotLoad` if a package that this takes is missing."""
        if not self.direct:
            return {}
        need("accelerate", "sharing layers out over several GPUs" if self.gpus else "weights of fewer bits")
        if self.bits:
            need("bitsandbytes", "weights of fewer bits")
            return {"device_map": self._map(model_class, config), "quantization_config": _fewer(self.bits, self.dtype)}
        return {"device_map": self._map(model_class, config)}

    def _map(self, model_class: Any, config: Any) -> dict[str, Any]:
        if not self.gpus:
            return {"": self.device}
        with torch.device("meta"):
            model = model_class(config)
        weight = sum(p.numel() for p in model.parameters()) * self.dtype.itemsize
        layers = model.get_submodule(LAYERS)
        outside = weight - sum(p.numel() for p in layers.parameters()) * self.dtype.itemsize
        counts = share_out(len(layers), self.gpus, outside)
        home = [gpu for gpu, count in enumerate(counts) for _ in range(count)]
        return {name: home[int(name.split(".")[-1])] if name.startswith(LAYERS) else 0 for name in units(model)}

    def shown(self) -> str:
        """For the page: device, precision, and what is not usual about them."""
        more = [f"{self.bits[0]}-bit weights"] if self.bits else []
        more += [f"layers on {len(self.gpus)} GPUs"] if self.gpus else []
        return " \u00b7 ".join([str(self.device), str(self.dtype).removeprefix("torch."), *more])


def share_out(layers: int, free: Sequence[int], outside: int) -> tuple[int, ...]:
    """How many layers, in order, each GPU gets: in proportion to its free memory. The first GPU also holds `outside`
    bytes, everything that is not a layer."""
    room = [max(0, size - (outside if gpu == 0 else 0)) for gpu, size in enumerate(free)]
    total = sum(room)
    if not total:
        raise CannotLoad("The GPUs have no memory free; end other programs that use them.")
    ends, held = [0], 0
    for size in room:
        held += size
        ends.append(round(layers * held / total))
    return tuple(end - start for start, end in zip(ends, ends[1:], strict=False))


def units(model: nn.Module, prefix: str = "") -> Iterator[str]:
    """Names of the modules that stay whole, and of weights beside them: each layer, each tower, the projector, ..."""
    dot = f"{prefix}." if prefix else ""
    for name, _ in model.named_parameters(recurse=False):
        yield dot + name
    for name, child in model.named_children():
        if f"{LAYERS}.".startswith(f"{dot}{name}."):
            yield from units(child, dot + name)
        else:
            yield dot + name


def has(package: str) -> bool:
    """Whether an optional package is installed; it is not imported."""
    return find_spec(package) is not None


def need(package: str, purpose: str) -> None:
    """Raises `CannotLoad` if an optional package is missing."""
    if not has(package):
        raise CannotLoad(
            f"The package {package} is needed for {purpose}; pip install -r requirements-gpu.txt brings it."
        )


def fewer_bits() -> str:
    """Why weights of 8 or 4 bits cannot be had here, "" if they can."""
    missing = [package for package in ("bitsandbytes", "accelerate") if not has(package)]
    if missing:
        named = " and ".join(missing)
        return f"8-bit and 4-bit weights need {named}, not installed here: pip install -r requirements-gpu.txt."
    return ""


def place(device: str, dtype: torch.dtype, bits: str = "", gpus: Sequence[int] = (), weighs: float = 0) -> Placement:
    """device: as torch names it, or "auto" for all GPUs. Layers are shared out where that is asked for, or where the
    model weighs more bytes than the first of several GPUs has free. Raises `CannotLoad`."""
    if bits not in BITS:
        raise CannotLoad(f"Weights can have 8bit or 4bit, not {bits!r}; leave it out for all of their bits.")
    many = len(gpus) > 1 and (device == "auto" or (device == "cuda" and weighs > gpus[0]))
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    home = torch.device("cuda:0" if many else device)
    return Placement(home, dtype, bits, tuple(gpus) if many else ())


def _fewer(bits: str, dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it says at every product that it casts the inputs
    if bits == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=WHOLE)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, llm_int8_skip_modules=WHOLE
    )
