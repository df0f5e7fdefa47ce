"""What a run directory holds: building a model, saving it between stages, taking over what earlier stages learned."""

from __future__ import annotations

import os
import random
from pathlib import Path

import torch
from torch import Tensor

from script_core.stickers.batches import TRAINING_SEED
from script_core.stickers.kit import Kit
from script_core.stickers.losses import Heads
from script_core.stickers.model import Sizes, TinyLlava
from script_core.stickers.optimiser import Optimiser
from script_core.stickers.presets import Preset


def number_type(device: str) -> torch.dtype:
    """bfloat16 where the hardware multiplies it, else float32."""
    fast = device != "cpu" or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def build(preset: Preset, vocabulary: dict[str, int], seed: int, batch: int, rank: int = 0, step: int = 0) -> Kit:
    """Model, training heads and random generators, all from `seed`."""
    torch.manual_seed(seed)
    random.seed(seed)
    sizes = Sizes(len(vocabulary), **preset.sizes)
    dtype = number_type(preset.device)
    model = TinyLlava(sizes).to(preset.device, dtype)
    return Kit(model, Heads(sizes).to(preset.device, dtype), vocabulary, seed, batch, rank, step)


def weights(kit: Kit, optimiser: Optimiser | None = None) -> dict[str, Tensor]:
    """All weights by name in float32, taken from the optimiser's master copies where there are any."""
    groups = optimiser.groups if optimiser else []
    master = {id(p): m for g in groups for p, m in zip(g.parameters, g.master, strict=True)}
    named = [*kit.model.named_parameters(prefix="model"), *kit.heads.named_parameters(prefix="heads")]
    return {name: master.get(id(p), p).detach().float().cpu().clone() for name, p in named}


def adopt(kit: Kit, found: dict[str, Tensor], only: tuple[str, ...] = ("",)) -> None:
    """Copy the named weights whose name starts with one of `only`."""
    with torch.no_grad():
        for name, p in [*kit.model.named_parameters(prefix="model"), *kit.heads.named_parameters(prefix="heads")]:
            if name in found and name.startswith(only):
                p.copy_(found[name])


def blend(kit: Kit, optimiser: Optimiser, begun: dict[str, Tensor], share: float) -> None:
    """Make the model's moving weights the mean of themselves and, with this share, of those in `begun` (Wortsman et
    al., 2022: robust fine-tuning by weight averaging)."""
    names = {id(p): name for name, p in kit.model.named_parameters(prefix="model")}
    for group in optimiser.groups:
        for p, master in zip(group.parameters, group.master, strict=True):
            if id(p) in names:
                master.lerp_(begun[names[id(p)]].to(master.device), share)
                p.detach().copy_(master)


ALIGNED = ("model.vision", "model.text", *(f"heads.{x}" for x in ("place", "colour", "background", "scale", "shift")))
SPOKEN = ("model.language", "heads.point", "heads.compare", "heads.target", "heads.count")


def start_from(kit: Kit, name: str, out: Path) -> None:
    """Take over what earlier stages learned."""
    if name == "connect":
        adopt(kit, torch.load(out / "align.pt", weights_only=True)["weights"], ALIGNED)
        adopt(kit, torch.load(out / "symbols.pt", weights_only=True)["weights"], SPOKEN)
    elif name == "tune":
        adopt(kit, torch.load(out / "connect.pt", weights_only=True)["weights"])
    elif name in ("modes", "order"):
        before = "tune" if name == "modes" else "modes"
        adopt(kit, torch.load(out / f"{before}.pt", weights_only=True)["weights"])


def save(path: Path, kit: Kit, optimiser: Optimiser, elapsed: float, done: bool) -> None:
    state = {
        "weights": weights(kit, optimiser),
        "optimiser": optimiser.state(),
        "elapsed": elapsed,
        "done": done,
        "vocabulary": kit.vocabulary,
    }
    torch.save(state, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def finished_kit(preset: Preset, out: Path, stage: str) -> Kit:
    """The model as `stage` left it, in float32."""
    state = torch.load(out / f"{stage}.pt", weights_only=True)
    kit = build(preset, state["vocabulary"], TRAINING_SEED, 1)
    kit.model.float()
    kit.heads.float()
    kit.dtype = torch.float32
    adopt(kit, state["weights"])
    return kit
