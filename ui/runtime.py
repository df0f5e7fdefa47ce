"""The models that this server holds: the first one loads in the background, while the page is already up."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from script_core.backends import KNOWN, describe
from script_core.backends.base import CannotLoad

if TYPE_CHECKING:
    from script_core.engine import Engine

log = logging.getLogger("script")
T = TypeVar("T")

EMBEDDED_TITLES = {
    "stickers": "Stickers, 576 tokens",
    "stickers-anyres": "Stickers, 2,880 tokens",
    "stickers-video": "Stickers, video",
}
ONLY_VIDEO = ("stickers-video",)  # same weights, read by the frame; nothing that a picture's visitor would choose


class NotReady(RuntimeError):
    """A model is not there yet, or not at all; the message is one sentence for the page."""


class Swift:
    """A thread whose torch works alone. Selecting is many operations on small matrices: waking a second thread for each
    costs ten times what it saves, and far more when the other core is busy."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="select", initializer=_alone)
        self._pool.submit(int).result()

    def __call__(self, job: Callable[[], T]) -> T:
        """Do the job there and wait for it."""
        return self._pool.submit(job).result()


def _alone() -> None:
    import torch

    usual = torch.get_num_threads()
    torch.set_num_threads(1)  # for this thread, and as the default of threads that start from here on
    restore = threading.Thread(target=torch.set_num_threads, args=(usual,))  # the default only
    restore.start()
    restore.join()


@dataclass
class Host:
    """Loaded engines by name. The embedded ones are small and stay; of the large ones there is one at a time."""

    first: str = "stickers"
    device: str = ""  # "cpu", "cuda", or "" for a GPU if there is one
    loads: bool = True  # whether visitors may load further models
    cache_mb: int = 512  # encoded pictures of each model
    revisions: Mapping[str, str] = field(default_factory=dict)  # hub id -> commit
    gpu_seconds: int = 0  # longest call where GPUs are lent by the call
    wait_s: float = 120.0
    trouble: str = ""
    _engines: dict[str, Engine] = field(default_factory=dict)
    _guard: threading.RLock = field(default_factory=threading.RLock)
    _swift: Swift | None = None
    _done: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Load the first model in a thread. If that fails, the embedded one takes its place and `trouble` says why."""
        threading.Thread(target=self._begin, name="load-model", daemon=True).start()

    def _begin(self) -> None:
        try:
            self._load(self.first)
        except Exception as problem:
            self.trouble = sentence(problem)
            log.warning("%s", self.trouble)
            if self.first != "stickers":
                self.first = "stickers"
                try:
                    self._load("stickers")
                except Exception as again:
                    self.trouble = f"{self.trouble} {sentence(again)}"
                    log.warning("%s", sentence(again))
        finally:
            self._done.set()

    def describes_other(self, other: Host) -> bool:
        """Whether it would serve something else than `other`, before either has loaded anything."""
        return any(getattr(self, name) != getattr(other, name) for name in ("first", "device", "loads", "gpu_seconds"))

    @property
    def ready(self) -> bool:
        return bool(self._engines)

    def wait(self) -> None:
        """Until the first model is there. Raises `NotReady` if it will not be, or takes too long."""
        if not self._done.wait(self.wait_s):
            raise NotReady("The model is still loading; try again in a moment.")
        if not self._engines:
            raise NotReady(self.trouble or "No model could be loaded.")

    def engine(self, name: str = "", newlines: str = "drop") -> Engine:
        """The engine of that name; embedded ones are loaded when first asked for. Raises `NotReady`."""
        self.wait()
        name = name or self.first
        with self._guard:
            engine = self._engines.get(name)
            if engine is None and name in EMBEDDED_TITLES:
                engine = self._load(name)
        if engine is None:
            raise NotReady(f"{title(name)} is not loaded; choose it under Model and press Load, or use another one.")
        if newlines == engine.newlines:
            return engine
        other = copy.copy(engine)  # shares the model, the turns and the store of encoded pictures
        other.newlines = newlines
        return other

    @property
    def swift(self) -> Swift:
        """Where selections for sliders are made."""
        with self._guard:
            if self._swift is None:
                self._swift = Swift()
            return self._swift

    def switch(self, name: str) -> Engine:
        """Load a large model, letting go of the one before it. Raises `NotReady` with the reason if it cannot be."""
        obstacle = self.obstacle(name)
        if obstacle:
            raise NotReady(obstacle)
        with self._guard:
            if name in self._engines:
                return self._engines[name]
            for other in [held for held in self._engines if held not in EMBEDDED_TITLES]:
                del self._engines[other]
            try:
                return self._load(name)
            except Exception as problem:
                raise NotReady(f"{sentence(problem)} The sticker model stays.") from problem

    def loaded(self, name: str) -> bool:
        return name in self._engines or name in EMBEDDED_TITLES

    def choices(self) -> list[tuple[str, str]]:
        """(title, name) of every model that the page offers for pictures."""
        names = [*(name for name in EMBEDDED_TITLES if name not in ONLY_VIDEO), *KNOWN]
        if self.first not in names:
            names.append(self.first)
        return [(title(name), name) for name in names]

    def video_choices(self) -> list[tuple[str, str]]:
        """(title, name) of every model that the page offers for videos."""
        names = [*ONLY_VIDEO, *(name for name, known in KNOWN.items() if known.frames)]
        if self.first not in (*names, *EMBEDDED_TITLES, *KNOWN):
            names.append(self.first)
        return [(title(name), name) for name in names]

    def about(self, name: str) -> str:
        """What choosing this model means, in a sentence or two, before anything is fetched."""
        obstacle = "" if self.loaded(name) else self.obstacle(name)
        return f"{describe(name)} {obstacle}".strip()

    def obstacle(self, name: str) -> str:
        """Why this model cannot be loaded here, as far as that is known before trying; "" if nothing speaks against."""
        if name in EMBEDDED_TITLES:
            return ""
        if not self.loads:
            return "This server does not load other models; run the project yourself for that."
        if name not in KNOWN:
            return ""
        import torch

        if not torch.cuda.is_available():
            return (
                f"It needs about {KNOWN[name].memory:g} GB of GPU memory and this machine has no GPU, "
                "so the sticker model stays."
            )
        free, _ = torch.cuda.mem_get_info()
        if free < KNOWN[name].memory * 1e9:
            return (
                f"It needs about {KNOWN[name].memory:g} GB of GPU memory and {free / 1e9:.0f} GB are free, "
                "so the sticker model stays."
            )
        return ""

    def badge(self, name: str = "") -> tuple[str, str]:
        """(text, state) for the page's head."""
        if not self._done.is_set():
            return "Loading the model ...", "loading"
        engine = self._engines.get(name or self.first)
        if engine is None:
            return self.trouble or "No model", "failed"
        info = engine.info
        return f"{info.name} \u00b7 {info.device} \u00b7 {info.dtype}", "ready"

    def _load(self, name: str) -> Engine:
        from script_core.engine import Engine

        engine = Engine.load(
            name, device=self.device or None, revision=self.revisions.get(name), held_bytes=self.cache_mb << 20
        )
        self._engines[name] = engine
        return engine


def title(name: str) -> str:
    """What people read for a model's name."""
    if name in EMBEDDED_TITLES:
        return EMBEDDED_TITLES[name]
    return KNOWN[name].title if name in KNOWN else name


def sentence(problem: BaseException) -> str:
    """One sentence about a failure to load. Only our own messages are shown; others may hold paths."""
    if isinstance(problem, CannotLoad | NotReady):
        return str(problem)
    log.error("loading failed", exc_info=problem)
    return "The model could not be loaded; the server's log says why."
