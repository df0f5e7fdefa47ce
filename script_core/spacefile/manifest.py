"""What a Spacefile says, as frozen values, checked while it is read.

An unknown key, a missing one, a wrong type or a value out of range raises `SpacefileError`: one sentence that names the
place and what would be right.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

ROOT = Path(__file__).resolve().parents[2]
VERSION = 1
NOT_PINNED = "main"


class SpacefileError(ValueError):
    """The manifest cannot be used; the message is one sentence that names the place."""


@dataclass(frozen=True)
class App:
    """Who the app is: the hub shows most of it. `python` and `gradio` are the versions that a Space gets."""

    name: str
    title: str
    short_description: str
    emoji: str
    color_from: str
    color_to: str
    license: str
    sdk: str
    entry: str
    python: str
    gradio: str
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        colours = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
        for name in ("color_from", "color_to"):
            _expect(getattr(self, name) in colours, f"app.{name} must be one of {', '.join(colours)}")
        _expect(
            len(self.short_description) <= 60, "app.short_description can have 60 characters, the hub takes no more"
        )
        _expect(self.sdk == "gradio", "app.sdk must be gradio, which is what the app is written in")


@dataclass(frozen=True)
class Model:
    """A model that a profile may start with. source: an embedded one's name or a hub id; memory_gb: of the GPU."""

    source: str
    title: str
    revision: str = ""
    memory_gb: float = 0

    def __post_init__(self) -> None:
        if self.embedded:
            _expect(not self.revision, f"the model {self.source} lies in this repository and has no revision")
        else:
            right = self.revision == NOT_PINNED or re.fullmatch(r"[0-9a-f]{40}", self.revision)
            _expect(
                bool(right),
                f"the revision of {self.source} must be a commit's 40 hexadecimal digits, or {NOT_PINNED!r}",
            )

    @property
    def embedded(self) -> bool:
        return "/" not in self.source

    @property
    def pinned(self) -> bool:
        return self.revision != NOT_PINNED


@dataclass(frozen=True)
class Profile:
    """One way of running the app. device: "cpu", "cuda", or "" for a GPU if there is one. loads: whether a visitor may
    load another model. hardware: the hub's name for the machine of a Space. max_duration_s: of one call on ZeroGPU."""

    about: str
    model: str
    device: str
    host: str = "127.0.0.1"
    loads: bool = True
    hardware: str = ""
    memory_gb: float = 0
    max_duration_s: int = 0

    def __post_init__(self) -> None:
        _expect(
            self.device in ("", "cpu", "cuda"), 'a profile\'s device must be "cpu", "cuda", or "" for what there is'
        )
        _expect(0 <= self.max_duration_s <= 120, "max_duration_s must lie between 0 and 120 seconds")


@dataclass(frozen=True)
class Container:
    """What the Dockerfile repeats."""

    image: str
    port: int
    uid: int

    def __post_init__(self) -> None:
        _expect(
            1024 <= self.port <= 65535, "container.port must lie between 1024 and 65535, for a user who is not root"
        )
        _expect(self.uid >= 1000, "container.uid must be 1000 or more: the app does not run as a system user")


@dataclass(frozen=True)
class Limits:
    """What one visitor may ask for, and what the server holds. The library's own limits are wider or equal.

    model_lanes: questions that are answered at a time. sessions: visitors whose page state is held. calls_per_minute:
    by one address, to the public endpoints. cache_mb: encoded pictures of each model. upload_ttl_s: age at which
    uploads are deleted.
    """

    max_file_mb: int
    max_pixels: int
    max_video_s: int
    max_frames: int
    max_question_chars: int
    max_new_tokens: int
    queue_max: int
    model_lanes: int
    sessions: int
    calls_per_minute: int
    cache_mb: int
    upload_ttl_s: int

    def __post_init__(self) -> None:
        for one in fields(self):
            _expect(getattr(self, one.name) >= 1, f"limits.{one.name} must be at least 1")


@dataclass(frozen=True)
class Variable:
    """An environment variable that the app or what it stands on reads. A secret has no default and is never shown."""

    about: str
    default: str = ""
    secret: bool = False

    def __post_init__(self) -> None:
        _expect(not (self.secret and self.default), "a secret variable cannot have a default: the Spacefile is public")


@dataclass(frozen=True)
class Api:
    """The names that programs and agents may call; everything else on the page is private."""

    endpoints: tuple[str, ...]
    mcp_path: str

    def __post_init__(self) -> None:
        for name in self.endpoints:
            _expect(
                re.fullmatch(r"[a-z][a-z_]*", name) is not None, f"api.endpoints: {name!r} is not a lower-case name"
            )
        _expect(len(set(self.endpoints)) == len(self.endpoints), "api.endpoints names one endpoint twice")


@dataclass(frozen=True)
class Health:
    """path answers 200 as soon as the page is up, ready when a model answers; start_timeout_s until either."""

    path: str
    ready: str
    start_timeout_s: int


@dataclass(frozen=True)
class Manifest:
    """The whole Spacefile."""

    version: int
    app: App
    container: Container
    limits: Limits
    api: Api
    health: Health
    models: Mapping[str, Model] = field(default_factory=dict)
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    env: Mapping[str, Variable] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _expect(self.version == VERSION, f"version must be {VERSION}, which is the only one that this code reads")
        for name, profile in self.profiles.items():
            _expect(
                profile.model in self.models, f"profiles.{name}.model is {profile.model!r}, which is not in [models]"
            )

    def profile(self, name: str) -> Profile:
        """The profile of that name. Raises `SpacefileError` with the names that there are."""
        _expect(name in self.profiles, f"there is no profile {name!r}; the profiles are {', '.join(self.profiles)}")
        return self.profiles[name]

    def revisions(self) -> dict[str, str]:
        """Hub id -> pinned commit, for the models that have one."""
        return {m.source: m.revision for m in self.models.values() if not m.embedded and m.pinned}


def load(path: Path | None = None) -> Manifest:
    """Read and check a Spacefile; the project's own if none is given. Raises `SpacefileError`."""
    path = path or ROOT / "Spacefile"
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SpacefileError(f"There is no readable Spacefile at {path}.") from error


def parse(text: str) -> Manifest:
    """A manifest from TOML text. Raises `SpacefileError`."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpacefileError(f"The Spacefile is not TOML: {error}.") from error
    return _build(Manifest, table, "")


Kind = TypeVar("Kind")
_NAMED = {"models": Model, "profiles": Profile, "env": Variable}


def _build(kind: type[Kind], table: Any, where: str) -> Kind:
    """A dataclass from a TOML table, strictly."""
    if not isinstance(table, dict):
        raise SpacefileError(f"In the Spacefile, [{where}] must be a table of keys.")
    hints = get_type_hints(kind)
    for key in table:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, 1)
            meant = f"; did you mean {near[0]}?" if near else f"; it can hold {', '.join(hints)}."
            raise SpacefileError(f"In the Spacefile, {_place(where)} has an unknown key {key!r}{meant}")
    given: dict[str, Any] = {}
    for one in fields(kind):  # type: ignore[arg-type]
        if one.name not in table:
            if one.default is MISSING and one.default_factory is MISSING:
                raise SpacefileError(f"In the Spacefile, {_place(where)} lacks the key {one.name!r}.")
            continue
        name = f"{where}.{one.name}".lstrip(".")
        given[one.name] = _value(table[one.name], hints[one.name], name)
    return kind(**given)


def _value(value: Any, wanted: Any, where: str) -> Any:
    if isinstance(wanted, type) and hasattr(wanted, "__dataclass_fields__"):
        return _build(wanted, value, where)
    if where in _NAMED:
        if not isinstance(value, dict):
            raise SpacefileError(f"In the Spacefile, {where} must hold tables such as [{where}.name].")
        return {name: _build(_NAMED[where], one, f"{where}.{name}") for name, one in value.items()}
    if wanted == tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise SpacefileError(f"In the Spacefile, {where} must be a list of texts.")
        return tuple(value)
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    fits = isinstance(value, bool) if wanted is bool else isinstance(value, wanted) and not isinstance(value, bool)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not fits:
        raise SpacefileError(f"In the Spacefile, {where} must be {names[wanted]}, not {value!r}.")
    return value


def _place(where: str) -> str:
    return f"[{where}]" if where else "the top level"


def _expect(right: bool, otherwise: str) -> None:
    if not right:
        raise SpacefileError(f"In the Spacefile, {otherwise}.")
