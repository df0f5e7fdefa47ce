"""Script: which visual tokens does a question need? Prune them, ask, and see why each one stayed or went.

>>> from script_core import Engine
>>> engine = Engine.load()                                   # the embedded model; or a folder, or a hub id
>>> result = engine.ask("picture.png", "is there an apple ?", pruner="script", budget=64)
>>> result.answer, result.selection.kept, result.counters

Public names are looked up on first use, so that `import script_core` itself costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Engine": "script_core.engine",
    "QuestionError": "script_core.engine",
    "Result": "script_core.report",
    "Encoded": "script_core.report",
    "Selected": "script_core.report",
    "FirstToken": "script_core.report",
    "Text": "script_core.report",
    "Finished": "script_core.report",
    "Counters": "script_core.counters",
    "Media": "script_core.media",
    "MediaError": "script_core.media",
    "read_image": "script_core.media",
    "CannotLoad": "script_core.backends.base",
    "CannotPrune": "script_core.pruners.base",
    "PRUNERS": "script_core.pruners",
    "Grid": "script_core.tokens",
    "Query": "script_core.tokens",
    "Selection": "script_core.tokens",
    "VisualTokens": "script_core.tokens",
}

__all__ = ["__version__", *sorted(_HOME)]  # noqa: PLE0604

if TYPE_CHECKING:
    from script_core.backends.base import CannotLoad as CannotLoad
    from script_core.counters import Counters as Counters
    from script_core.engine import Engine as Engine
    from script_core.engine import QuestionError as QuestionError
    from script_core.media import Media as Media
    from script_core.media import MediaError as MediaError
    from script_core.media import read_image as read_image
    from script_core.pruners import PRUNERS as PRUNERS
    from script_core.pruners.base import CannotPrune as CannotPrune
    from script_core.report import Encoded as Encoded
    from script_core.report import Finished as Finished
    from script_core.report import FirstToken as FirstToken
    from script_core.report import Result as Result
    from script_core.report import Selected as Selected
    from script_core.report import Text as Text
    from script_core.tokens import Grid as Grid
    from script_core.tokens import Query as Query
    from script_core.tokens import Selection as Selection
    from script_core.tokens import VisualTokens as VisualTokens


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'script_core' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
