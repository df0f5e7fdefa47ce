"""The one large model that this server holds, and the load of the next one: in the open, one at a time.

Loading goes on in a thread of its own while what is loaded keeps answering. The model before is let go as late as the
memory allows, and read again if the new one fails after that.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from script_core.backends import KNOWN, Wish, locate
from script_core.backends.base import CannotLoad
from script_core.backends.hub import Hub
from script_core.backends.known import stored
from script_core.backends.loading import Located, needed
from script_core.backends.machine import Machine
from script_core.backends.progress import Step, Told, silent

if TYPE_CHECKING:
    from script_core.engine import Engine

log = logging.getLogger("script")

EMBEDDED_TITLES = {
    "stickers": "Stickers, 576 tokens",
    "stickers-anyres": "Stickers, 2,880 tokens",
    "stickers-video": "Stickers, video",
}


class NotReady(RuntimeError):
    """A model is not there yet, or not at all; the message is one sentence for the page."""


@dataclass(eq=False)
class Load:
    """One load, running or over: of which model, how far it is, and a sentence on what went wrong if it failed."""

    name: str
    bits: str = ""
    placed: str = ""  # device and precision, once they are decided
    step: Step = field(default_factory=lambda: Step("resolve"))
    problem: str = ""
    over: threading.Event = field(default_factory=threading.Event)

    def tell(self, step: Step) -> None:
        self.step = step

    def said(self) -> str:
        """What happens, for the badge: LLaVA-NeXT 7B: downloading 3.2 of 14.1 GB."""
        return f"{title(self.name)}: {self.step.said()}"


@dataclass(eq=False)
class Slot:
    """Where the large model is. read: brings a located checkpoint into memory. look: what is free on this machine."""

    read: Callable[[Located, Told], Engine]
    look: Callable[[], Machine]
    hub: Hub | None = None
    engine: Engine | None = None
    located: Located | None = None
    now: Load | None = None
    _guard: threading.RLock = field(default_factory=threading.RLock)

    @property
    def name(self) -> str:
        """Of the model in it, "" while there is none."""
        return self.located.wish.name if self.located else ""

    def get(self, name: str) -> Engine | None:
        with self._guard:
            return self.engine if name and name == self.name else None

    def request(self, wish: Wish, obstacle: str) -> Load:
        """Start loading, or join the load of the same that is running. Raises `NotReady` with the obstacle if there is
        one, or if another model is being loaded."""
        with self._guard:
            now = self.now
            if now is not None and not now.over.is_set():
                if (now.name, now.bits) == (wish.name, wish.bits):
                    return now
                raise NotReady(f"Another model is being loaded ({now.said()}); load this one when that is done.")
            if obstacle:
                raise NotReady(obstacle)
            load = Load(wish.name, wish.bits)
            if self.located is not None and (self.name, self.located.wish.bits) == (wish.name, wish.bits):
                load.over.set()
                return load
            self.now = load
        threading.Thread(target=self.run, args=(load, wish), name="load-model", daemon=True).start()
        return load

    def follow(self, load: Load, every_s: float = 0.4) -> Iterator[Load]:
        """Say how far a load is until it is over; whoever stops listening does not stop it. Raises `NotReady`."""
        while not load.over.wait(every_s):
            yield load
        if load.problem:
            stays = title(self.name) if self.name else "The sticker model"
            raise NotReady(f"{load.problem} {stays} stays.")

    def run(self, load: Load, wish: Wish) -> None:
        """The load itself. What goes wrong is in `load.problem`."""
        self.now = load
        try:
            self._replace(load, wish)
        except Exception as problem:
            load.problem = sentence(problem)  # not the exception, whose frames hold what had been read
            log.warning("%s", load.problem)
        finally:
            load.over.set()

    def _replace(self, load: Load, wish: Wish) -> None:
        located = locate(wish, hub=self.hub, machine=self.room(), told=load.tell)
        load.placed = located.placement.shown()
        old = self.located
        early = old is not None and not fits(located, self.look())
        if early:
            self.let_go()
        engine, problem = self._tried(located, load)
        if engine is None:
            if old is not None and early:
                self._keep(old, self.read(old, silent))
            raise NotReady(problem)
        self.let_go()
        self._keep(located, engine)

    def _tried(self, located: Located, load: Load) -> tuple[Engine | None, str]:
        """The engine, or None and the reason. Whatever had been read of it is gone by then."""
        try:
            return self.read(located, load.tell), ""
        except Exception as problem:
            return None, sentence(problem)

    def _keep(self, located: Located, engine: Engine) -> None:
        with self._guard:
            self.engine, self.located = engine, located

    def let_go(self) -> None:
        """Forget the model; its memory is free as soon as the last answer from it has ended."""
        with self._guard:
            self.engine = self.located = None
        gc.collect()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def room(self) -> Machine:
        """What will be free once the model has been let go."""
        machine, held = self.look(), _weight(self.engine)
        if not machine.gpus:
            return replace(machine, host=None if machine.host is None else machine.host + held)
        return replace(machine, gpus=(machine.gpus[0] + held, *machine.gpus[1:]))


def fits(located: Located, machine: Machine) -> bool:
    """Whether it can be read while another model is still in memory."""
    place = located.placement.device
    free = machine.host
    if place.type == "cuda":  # its own GPU's memory, or that of all that its layers are shared out over
        free = sum(machine.gpus if located.placement.gpus else machine.gpus[place.index or 0 :][:1])
    return free is not None and needed(located.wish, place.type, stored(located.folder)) <= free


def _weight(engine: Engine | None) -> int:
    """Bytes of a model's weights."""
    model = getattr(getattr(engine, "backend", None), "model", None)
    return sum(weight.nbytes for weight in model.parameters()) if model is not None else 0


def title(name: str) -> str:
    """What people read for a model's name."""
    if name in EMBEDDED_TITLES:
        return EMBEDDED_TITLES[name]
    if name in KNOWN:
        return KNOWN[name].title
    # A folder's place is not for visitors, and whether there is one is not either: the disk is not asked.
    return (Path(name).name if Path(name).is_absolute() else name)[:80]


def sentence(problem: BaseException) -> str:
    """One sentence about a failure to load. Only our own messages are shown; others may hold paths."""
    if isinstance(problem, CannotLoad | NotReady):
        return str(problem)
    log.error("loading failed", exc_info=problem)
    return "The model could not be loaded; the server's log says why."
