"""The model hub: what is fetched, and what happens when it cannot be reached.

A repository becomes a local folder before anything is loaded, so that loading is the same with and without a network,
and only weights in safetensors, settings and tokenizers are ever fetched: no pickles and no code.
"""

from __future__ import annotations

import errno
import io
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from script_core.backends.base import CannotLoad
from script_core.backends.progress import Step, Told, silent

WANTED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]


class Hub(Protocol):
    """What is asked of the hub's client; `huggingface_hub.HfApi` has it."""

    @property
    def snapshot_download(self) -> Callable[..., Any]: ...


def fetch(
    repository: str,
    revision: str | None = None,
    *,
    client: Hub | None = None,
    told: Told = silent,
    check: Callable[[int, int], None] | None = None,
) -> Path:
    """The folder that holds a repository's files, fetched if they are not in the hub's cache yet.

    revision: a commit's hash, so that the same weights come every time; None for the newest. client: another than the
    hub's own. told: hears "resolve", then "download" with bytes. check: called with the bytes of the weights and the
    bytes still to come before the first of them; what it raises is raised here.

    Raises `CannotLoad`, within seconds where there is no network.
    """
    told(Step("resolve"))
    here = client is not None or reachable()
    hub = client or _client()
    asked = {"revision": revision, "allow_patterns": WANTED, "ignore_patterns": ["*/*"], "etag_timeout": 5}
    try:
        if not here:
            return Path(hub.snapshot_download(repository, local_files_only=True, **asked))
        listed = hub.snapshot_download(repository, dry_run=True, tqdm_class=meter(lambda _: None), **asked)
        weights, missing = _sizes(repository, listed)
        if check is not None:
            check(weights, missing)
        if missing:
            told(Step("download", 0, missing))
        bar = meter(lambda done: told(Step("download", min(done, missing), missing)))
        return Path(hub.snapshot_download(repository, tqdm_class=bar, **asked))
    except CannotLoad:
        raise
    except Exception as error:  # the hub's client raises a dozen kinds, from bad names to proxies
        raise CannotLoad(_why(repository, error, here)) from error


def _why(repository: str, error: Exception, here: bool) -> str:
    if not here:
        return (
            f"{repository} is not on this machine and the model hub cannot be reached; "
            "connect to it, or give a local checkpoint folder."
        )
    fix = "check the name, whether it needs a login, and the network; what has arrived is kept for the next try"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        fix = "the disk is full, so delete models that are no longer needed, or set HF_HOME to a folder elsewhere"
    return f"{repository} could not be fetched from the model hub ({type(error.__cause__ or error).__name__}): {fix}."


def _client() -> Hub:
    from huggingface_hub import HfApi

    return HfApi()


def _sizes(repository: str, files: list[Any]) -> tuple[int, int]:
    """Bytes of the weights, and of everything that is not in the cache. Raises `CannotLoad` without safetensors."""
    weights = [file for file in files if file.filename.endswith(".safetensors")]
    if not weights:
        raise CannotLoad(
            f"{repository} has no weights in safetensors, the only format that is read here; "
            "choose another repository, or convert it with its owner's consent."
        )
    return sum(f.file_size or 0 for f in weights), sum(f.file_size or 0 for f in files if f.will_download)


def meter(report: Callable[[int], None]) -> type:
    """A progress bar for the hub's client that draws nothing and reports the bytes that have arrived.

    The client makes several: one counts files, and of those that count bytes the one that is furthest speaks.
    """
    from tqdm import tqdm

    furthest = 0

    class Meter(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **options: Any) -> None:
            self._counts = options.get("unit") == "B"
            super().__init__(*args, **{**options, "file": io.StringIO(), "mininterval": 3600.0, "disable": False})

        def update(self, n: float | None = 1) -> bool | None:
            nonlocal furthest
            drawn = super().update(n)
            if self._counts and self.n > furthest:
                furthest = int(self.n)
                report(furthest)
            return drawn

    return Meter


def reachable() -> bool:
    """Whether the hub answers. One quick attempt: its own client goes on trying for half a minute per file."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if urllib.request.getproxies():
        return True  # names may be known to the proxy alone
    address = urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((address.hostname or "", address.port or 443), timeout=4).close()
    except OSError:
        return False
    return True
