"""Answers on disk, one line each, written through before the next question is asked.

A killed run loses at most the answer it was computing. On opening, a line that was cut off is dropped, and a key that
stands there twice counts once, so that nothing is lost or counted double. The first line says what the answers
belong to; a journal of another question set, model or answer length is refused. Before the first answer of a session
stands where it was run: a journal may go on under another commit or on another machine, as long as its results say so.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any


class JournalError(ValueError):
    """A journal cannot be continued; the message is one sentence that says what to do."""


class Journal:
    """Records by key. path None keeps them in memory only. `resumed` is how many were there when it was opened.

    session: where the records that are added come from. `origins`: the sessions of those that were there, by key; an
    empty one where an old journal does not tell.
    """

    def __init__(
        self, path: str | Path | None, header: Mapping[str, Any], session: Mapping[str, Any] | None = None
    ) -> None:
        self.records: dict[str, dict[str, Any]] = {}
        self.origins: dict[str, Mapping[str, Any]] = {}
        self.header = dict(header)
        self._untold = session
        self._file: Any = None
        if path is not None:
            self._open(Path(path))
        self.resumed = len(self.records)

    def _open(self, path: Path) -> None:
        lines, whole = _read(path)
        if lines:
            if lines[0] != self.header:
                differs = sorted(k for k in {*lines[0], *self.header} if lines[0].get(k) != self.header.get(k))
                raise JournalError(
                    f"{path.name} holds answers to something else ({', '.join(differs)} differ); give another name for "
                    "the results, or start afresh."
                )
            self._remember(lines[1:])
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._file.truncate(whole)
        if not lines:
            self._write(self.header)

    def _remember(self, lines: list[dict[str, Any]]) -> None:
        session: Mapping[str, Any] = {}
        for line in lines:
            if "key" not in line:
                session = line["session"]
            elif line["key"] not in self.records:
                self.records[line["key"]] = line
                self.origins[line["key"]] = session

    def __contains__(self, key: str) -> bool:
        return key in self.records

    def add(self, key: str, record: Mapping[str, Any]) -> None:
        """Keep a record, on disk before this returns. A key that is there already keeps its first record."""
        if key in self.records:
            return
        self.records[key] = {"key": key, **record}
        if self._file is not None:
            if self._untold is not None:  # only now: a session that adds nothing leaves no trace
                self._write({"session": self._untold})
                self._untold = None
            self._write(self.records[key])

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The whole lines of a file, and where they end; nothing for no file."""
    if not path.is_file():
        return [], 0
    data = path.read_bytes()
    lines: list[dict[str, Any]] = []
    end = 0
    for line in data.splitlines(keepends=True):
        try:
            value = json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n") or not isinstance(value, dict) or (lines and not _known(value)):
            break
        lines.append(value)
        end += len(line)
    if len(data) - end and data[end:].count(b"\n") > 1:
        raise JournalError(f"Line {len(lines) + 1} of {path.name} is damaged; delete the file to start afresh.")
    return lines, end


def _known(line: dict[str, Any]) -> bool:
    """Whether a line after the first is a record, or a session."""
    return "key" in line or isinstance(line.get("session"), dict)
