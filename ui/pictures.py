"""Files that visitors look at, read once: sliders ask about the same one many times."""

from __future__ import annotations

import os
from collections.abc import Callable

from script_core.cache import Store
from script_core.media import Media, MediaError
from ui.limits import read_picture
from ui.trouble import GONE


class Files:
    """Files as `read` reads them, by path and by content, bounded. Decoding and hashing take longer than selecting.

    gone: what to say of a file that is not there any more.
    """

    def __init__(self, read: Callable[..., Media], gone: str, held_bytes: int = 1 << 28) -> None:
        self._from, self._gone = read, gone
        self._read: Store[Media] = Store(held_bytes, lambda media: sum(frame.nbytes for frame in media.frames))

    def at(self, path: str, *how: int) -> Media:
        """What is in that file, read with these further arguments. Raises `MediaError`."""
        try:
            stat = os.stat(path)
        except OSError as error:
            raise MediaError(self._gone) from error
        key = f"{path}|{stat.st_mtime_ns}|{stat.st_size}|{how}"
        media = self._read.get(key)
        if media is None:
            media = self._from(path, *how)
            self._read.put(key, media)
        self._read.put(media.key, media)
        return media

    def known(self, key: str) -> Media | None:
        """What has that content, if it has been read lately."""
        return self._read.get(key)


class Pictures(Files):
    """Pictures that visitors look at."""

    def __init__(self, held_bytes: int = 1 << 28) -> None:
        super().__init__(read_picture, GONE, held_bytes)
