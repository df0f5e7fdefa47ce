"""A host whose models are in a cluster: this process serves the page, and any number of others may do the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from ui.limits import MANIFEST
from ui.runtime import EMBEDDED_TITLES, ONLY_VIDEO, Host, NotReady, title

if TYPE_CHECKING:
    from script_core.engine import Engine

T = TypeVar("T")


@dataclass
class RemoteHost(Host):
    """The models that a cluster's workers serve, under the same names. Visitors load none: workers have theirs.

    An embedded model that the workers do not serve and some part of the page wants all the same, such as the one for
    videos, runs in this process.
    """

    cluster: Any = None
    _frames: dict[str, int] = field(default_factory=dict)  # of the served models, in order

    def _begin(self) -> None:
        try:
            for name in self._frames:
                self._load(name)
        except Exception as problem:
            self.trouble = str(problem)
        finally:
            self._done.set()

    def describes_other(self, other: Host) -> bool:
        return True

    def loaded(self, name: str, bits: str | None = None) -> bool:
        return name in self._frames or name in EMBEDDED_TITLES

    def choices(self) -> list[tuple[str, str]]:
        return [(title(name), name) for name in self._frames if name not in ONLY_VIDEO]

    def video_choices(self) -> list[tuple[str, str]]:
        return [(title(name), name) for name, frames in self._frames.items() if frames] or [
            (title(name), name) for name in ONLY_VIDEO
        ]

    def obstacle(self, name: str, bits: str = "") -> str:
        return "" if self.loaded(name) else f"The workers do not serve {name}; they serve {', '.join(self._frames)}."

    def follow(self, name: str, bits: str = "") -> Iterator[Any]:
        """Nothing to wait for: a model is served or it is not."""
        if obstacle := self.obstacle(name):
            raise NotReady(obstacle)
        return iter(())

    @property
    def swift(self) -> Any:
        """Selections are made by the workers, so there is nothing to take off this thread."""
        return _here

    def _load(self, name: str) -> Engine:
        if name not in self._frames:
            return super()._load(name)
        engine: Engine = self.cluster.engine(name, held_bytes=self.cache_mb << 20)
        self._engines[name] = engine
        return engine


def _here(job: Callable[[], T]) -> T:
    return job()


def connected(address: str, model: str | None, cache_mb: int) -> RemoteHost:
    """A host for the cluster at that address (see `serving.cluster.parse`), once a worker answers.

    model: which one the page opens with; None for the first that is served. Raises ValueError and `CannotLoad`.
    """
    from script_core.serving.cluster import connect

    named = MANIFEST.models.get(model or "")
    return over(connect(address), named.source if named else model, cache_mb)


def over(cluster: Any, model: str | None = None, cache_mb: int = 512) -> RemoteHost:
    """A host for a cluster that is at hand. Raises `CannotLoad` if it does not serve the model."""
    facts = cluster.describe()
    if model is not None:
        cluster.engine(model)  # raises if it is not served
    frames = {name: one.info.frames for name, one in facts.items()}
    return RemoteHost(first=model or next(iter(facts)), loads=False, cache_mb=cache_mb, cluster=cluster, _frames=frames)
