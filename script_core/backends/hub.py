"""The model hub: what is fetched, and what happens when it cannot be reached.

A repository becomes a local folder before anything is loaded, so that loading is the same with and without a network,
and only weights in safetensors, settings and tokenizers are ever fetched: no pickles and no code.
"""

from __future__ import annotations

import socket
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from script_core.backends.base import CannotLoad

WANTED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]


def fetch(repository: str, revision: str | None = None) -> Path:
    """The folder that holds a repository's files, fetched if they are not in the hub's cache yet.

    revision: a commit's hash, so that the same weights come every time; None for the newest.

    Raises `CannotLoad`, within seconds where there is no network.
    """
    from huggingface_hub import snapshot_download

    here = reachable()
    try:
        folder = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=WANTED,
            ignore_patterns=["*/*"],
            local_files_only=not here,
            etag_timeout=5,
        )
    except Exception as error:  # the hub's client raises a dozen kinds, from bad names to proxies
        if not here:
            raise CannotLoad(
                f"{repository} is not on this machine and the model hub cannot be reached; "
                "connect to it, or give a local checkpoint folder."
            ) from error
        raise CannotLoad(
            f"{repository} could not be fetched from the model hub ({type(error).__name__}); "
            "check the name, whether it needs a login, and the network."
        ) from error
    return Path(folder)


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
