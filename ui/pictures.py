"""Pictures that visitors look at, read once: sliders ask about the same file many times."""

from __future__ import annotations

import os

from script_core.cache import Store
from script_core.media import Media, MediaError
from ui.limits import read_picture
from ui.trouble import GONE


class Pictures:
    """Read pictures by path and by content, bounded. Decoding and hashing a file takes longer than selecting."""

    def __init__(self, held_bytes: int = 1 << 28) -> None:
        self._read: Store[Media] = Store(held_bytes, lambda media: sum(frame.nbytes for frame in media.frames))

    def at(self, path: str) -> Media:
        """The picture in that file. Raises `MediaError`."""
        try:
            stat = os.stat(path)
        except OSError as error:
            raise MediaError(GONE) from error
        key = f"{path}|{stat.st_mtime_ns}|{stat.st_size}"
        media = self._read.get(key)
        if media is None:
            media = read_picture(path)
            self._read.put(key, media)
        self._read.put(media.key, media)
        return media

    def known(self, key: str) -> Media | None:
        """The picture of that content, if it has been read lately."""
        return self._read.get(key)
