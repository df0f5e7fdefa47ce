"""What this machine has free, and whether a model fits: asked before anything is fetched."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

GB = 1e9
CGROUPS = Path("/sys/fs/cgroup")
# Of both versions: the files of a limit, of what is used, and of its parts, and the part that is given back on demand.
LIMITS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)


@dataclass(frozen=True)
class Machine:
    """Free bytes: of each GPU, of the host's memory, and of the disk that holds the hub's cache. None: not known."""

    gpus: tuple[int, ...] = ()
    host: int | None = None
    disk: int | None = None


@dataclass(frozen=True)
class Need:
    """Bytes that a model takes: memory on its device, host memory on the way there, and what is still to be fetched."""

    device: float
    host: float = 0.0
    fetch: float = 0.0


def this_machine() -> Machine:
    """As it is now. A container's limit counts where there is one."""
    import torch

    gpus = tuple(int(torch.cuda.mem_get_info(i)[0]) for i in range(torch.cuda.device_count()))
    return Machine(gpus if torch.cuda.is_available() else (), _host(), _disk())


def lacking(need: Need, machine: Machine, on_gpu: bool, instead: str) -> str:
    """One sentence on what is missing and what to do, "" if the model fits as far as is known.

    instead: the end of "choose ...", what would fit.
    """
    held = sum(machine.gpus) if on_gpu else machine.host
    if held is not None and held < need.device:
        if on_gpu:
            kind = "GPU memory" if len(machine.gpus) < 2 else f"GPU memory on {len(machine.gpus)} GPUs"
            return (
                f"It needs about {_gb(need.device)} of GPU memory and {_gb(held)} of {kind} are free: choose {instead}."
            )
        here = "this machine has no GPU" if not machine.gpus else "it would run on the CPU"
        return (
            f"It needs about {_gb(need.device)} of memory, {here}, and {_gb(held)} of its own memory are free: "
            f"choose {instead}."
        )
    if machine.host is not None and machine.host < need.host:
        return (
            f"Its weights pass through {_gb(need.host)} of host memory on their way to the GPU and {_gb(machine.host)} "
            "are free: install accelerate, which reads them straight onto the GPU."
        )
    if machine.disk is not None and machine.disk < need.fetch:
        return (
            f"Its download of {_gb(need.fetch)} does not fit on the disk, where {_gb(machine.disk)} are free: delete "
            "models that are no longer needed, or set HF_HOME to a folder on a larger disk."
        )
    return ""


def _gb(size: float) -> str:
    return f"{size / GB:.1f} GB" if size < 10 * GB else f"{size / GB:.0f} GB"


def _host() -> int | None:
    free = _proc()
    for limit, used, parts, cached in LIMITS:
        try:
            room = int((CGROUPS / limit).read_text()) - int((CGROUPS / used).read_text())
        except (OSError, ValueError):
            continue  # no such limit: "max", or another system
        room += _part(CGROUPS / parts, cached)  # files that were read count as used, until somebody needs the room
        return room if free is None else min(free, room)
    return free


def _part(path: Path, name: str) -> int:
    """One number of a file of names and numbers; 0 if it is not there."""
    try:
        found = dict(line.split(maxsplit=1) for line in path.read_text().splitlines())
        return int(found.get(name, 0))
    except (OSError, ValueError):
        return 0


def _proc() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
        return None
    except OSError:
        pass
    try:  # other systems: all of it, as free memory cannot be asked for without a package of its own
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _disk() -> int | None:
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE)
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return None
