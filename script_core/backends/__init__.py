"""From a name to a loaded model: the embedded one, a checkpoint folder, or a hub id.

Nothing is fetched unless a hub id is asked for, weights are read from safetensors only, and code that comes with a
checkpoint is never run.

known      the published models and what each takes
machine    what is free here, asked before anything is fetched
hub        a repository becomes a folder
placement  device, precision, fewer bits, several GPUs
loading    locate, then read
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from script_core.backends.base import Backend
from script_core.backends.known import EMBEDDED as EMBEDDED
from script_core.backends.known import KNOWN as KNOWN
from script_core.backends.known import SMALL as SMALL
from script_core.backends.known import Known as Known
from script_core.backends.known import describe as describe
from script_core.backends.loading import EMBEDDED_FOLDER as EMBEDDED_FOLDER
from script_core.backends.loading import FAMILIES as FAMILIES
from script_core.backends.loading import Wish as Wish
from script_core.backends.loading import locate as locate
from script_core.backends.loading import obstacle as obstacle
from script_core.backends.loading import read as read
from script_core.backends.progress import Told, silent

if TYPE_CHECKING:
    import torch

    from script_core.backends.hub import Hub
    from script_core.backends.machine import Machine


def load(
    name_or_path: str | Path | None = None,
    *,
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    bits: str = "",
    frames: int | None = None,
    pool_mode: str | None = None,
    revision: str | None = None,
    told: Told = silent,
    hub: Hub | None = None,
    machine: Machine | None = None,
) -> Backend:
    """The backend for a model. Raises `CannotLoad` with one sentence if that is not possible.

    device, dtype, bits, revision: see `Wish`. frames: how many frames of a video it reads, None for its family's own
    number. pool_mode: LLaVA-Video's pooling of a frame, "average" or "bilinear". told: hears how far it has come.
    hub, machine: see `locate`.
    """
    wish = Wish("stickers" if name_or_path is None else str(name_or_path), device, dtype, bits, revision)
    return read(locate(wish, hub=hub, machine=machine, told=told), frames=frames, pool_mode=pool_mode, told=told)
