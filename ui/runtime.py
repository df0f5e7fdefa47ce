"""The models that this server holds: the first one loads in the background, while the page is already up."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from script_core.backends import KNOWN, SMALL, Wish, describe, locate, obstacle, read
from script_core.backends.hub import Hub
from script_core.backends.loading import Located
from script_core.backends.machine import Machine, this_machine
from script_core.backends.progress import Told, silent
from ui.loading import EMBEDDED_TITLES as EMBEDDED_TITLES
from ui.loading import Load, Slot, sentence
from ui.loading import NotReady as NotReady
from ui.loading import title as title

if TYPE_CHECKING:
    from script_core.engine import Engine

log = logging.getLogger("script")
T = TypeVar("T")

LARGE = "llava-hf/llava-v1.6-vicuna-7b-hf"  # offered in one click where a GPU can hold it
ONLY_VIDEO = ("stickers-video",)  # same weights, read by the frame; nothing that a picture's visitor would choose


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
    device: str = ""  # "cpu", "cuda", "auto" for all GPUs, or "" for a GPU if there is one
    loads: bool = True  # whether visitors may load further models
    cache_mb: int = 512  # encoded pictures of each model
    revisions: Mapping[str, str] = field(default_factory=dict)  # hub id -> commit
    gpu_seconds: int = 0  # longest call where GPUs are lent by the call
    bits: str = ""  # of the first model's weights: "", "8bit" or "4bit"
    hub: Hub | None = None  # another client than the hub's own
    look: Callable[[], Machine] = this_machine  # what is free
    wait_s: float = 120.0
    trouble: str = ""
    _engines: dict[str, Engine] = field(default_factory=dict)
    _slot: Slot = field(init=False)
    _guard: threading.RLock = field(default_factory=threading.RLock)
    _swift: Swift | None = None
    _done: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._slot = Slot(self._read, self.look, self.hub)

    def start(self) -> None:
        """Load the first model in a thread. If that fails, the embedded one takes its place and `trouble` says why."""
        threading.Thread(target=self._begin, name="load-model", daemon=True).start()

    def _begin(self) -> None:
        try:
            self._first()
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

    def _first(self) -> None:
        if self.first in EMBEDDED_TITLES:
            self._load(self.first)
            return
        load = Load(self.first, self.bits)
        self._slot.run(load, self._wish(self.first, self.bits))
        if load.problem:
            raise NotReady(load.problem)

    def describes_other(self, other: Host) -> bool:
        """Whether it would serve something else than `other`, before either has loaded anything."""
        names = ("first", "device", "loads", "gpu_seconds", "bits")
        return any(getattr(self, name) != getattr(other, name) for name in names)

    @property
    def ready(self) -> bool:
        return bool(self._engines or self._slot.engine)

    def wait(self, at_most_s: float | None = None) -> None:
        """Until the first model is there. Raises `NotReady` if it will not be, or takes too long (by default `wait_s`;
        a download can take much longer)."""
        if not self._done.wait(self.wait_s if at_most_s is None else at_most_s):
            raise NotReady(f"The model is still loading ({self._far()}); try again in a moment.")
        if not self.ready:
            raise NotReady(self.trouble or "No model could be loaded.")

    def engine(self, name: str = "", newlines: str = "drop") -> Engine:
        """The engine of that name; embedded ones are loaded when first asked for. Raises `NotReady`."""
        self.wait()
        name = name or self.default
        with self._guard:
            engine = self._engines.get(name) or self._slot.get(name)
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

    def follow(self, name: str, bits: str = "") -> Iterator[Load]:
        """Load a model and say how far it is, until it can be asked; meanwhile what is loaded goes on answering.

        Raises `NotReady` with the reason if it cannot be loaded, or if another one is being loaded.
        """
        if name in EMBEDDED_TITLES:
            self.engine(name)
            return
        slot = self._slot
        yield from slot.follow(slot.request(self._wish(name, bits), self.obstacle(name, bits)))

    def switch(self, name: str, bits: str = "") -> Engine:
        """Load a model and wait for it. Raises `NotReady` as `follow` does."""
        for _ in self.follow(name, bits):
            pass
        return self.engine(name)

    def _wish(self, name: str, bits: str = "") -> Wish:
        return Wish(name, self.device or None, None, bits, self.revisions.get(name))

    def _read(self, located: Located, told: Told = silent) -> Engine:
        from script_core.engine import Engine

        return Engine(read(located, told=told), held_bytes=self.cache_mb << 20)

    def loaded(self, name: str, bits: str | None = None) -> bool:
        """Whether it can be asked at once. bits: of a large model's weights, None for any."""
        held = self._slot.located
        return name in EMBEDDED_TITLES or (
            held is not None and name == self._slot.name and bits in (None, held.wish.bits)
        )

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

    def about(self, name: str, bits: str = "") -> str:
        """What choosing this model means, in a sentence or two, before anything is fetched."""
        obstacle = "" if self.loaded(name) else self.obstacle(name, bits)
        return f"{describe(name)} {obstacle}".strip()

    @property
    def default(self) -> str:
        """The model that answers where none is named: the first one, or what has taken its place."""
        return self.first if self.first in self._engines else self._slot.name or "stickers"

    def obstacle(self, name: str, bits: str = "") -> str:
        """Why this model cannot be loaded here, as far as that is known before trying; "" if nothing speaks against."""
        if name in EMBEDDED_TITLES:
            return ""
        if not self.loads:
            return "This server does not load other models; run the project yourself for that."
        if name not in KNOWN and name != self.first:
            return "There is no such model to choose; those that can be loaded are in the list."
        return obstacle(self._wish(name, bits), self._slot.room())

    def suggested(self) -> str:
        """A model for photos that this machine can hold, to be offered in one click; "" if there is none."""
        if not self.loads or self._slot.name:
            return ""
        on_gpu = self._slot.look().gpus and self.device != "cpu"
        return next((name for name in ((LARGE, SMALL) if on_gpu else (SMALL,)) if not self.obstacle(name)), "")

    def badge(self, name: str = "") -> tuple[str, str]:
        """(text, state) for the page's head."""
        if not self._done.is_set():
            return f"Loading {self._far()}", "loading"
        engine = self._engines.get(name or self.default) or self._slot.get(name or self.default)
        if engine is None:
            return self.trouble or "No model", "failed"
        info = engine.info
        placed = info.placed or f"{info.device} \u00b7 {info.dtype}"
        return f"{info.name} \u00b7 {placed}", "ready"

    def _far(self) -> str:
        return self._slot.now.said() if self._slot.now else "the model ..."

    def _load(self, name: str) -> Engine:
        """One of the embedded models."""
        engine = self._read(locate(Wish(name, self.device or None)))
        self._engines[name] = engine
        return engine
