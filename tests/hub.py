"""A model hub over a folder, and a machine on which anything fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from script_core.backends.machine import Machine

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
