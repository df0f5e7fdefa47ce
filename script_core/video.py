"""Reading videos: equally spaced frames, or one sentence on why not, and never a hang.

A file is looked at in three steps. Its first bytes say whether it is a video at all, whatever its name says. A process
of its own decodes it (see `decoding`) with decord, then with OpenCV if decord is absent or fails. And the frames come
through a pipe with a deadline on each, after which that process is ended: memory, time and files on disk stay bounded
whatever the file does.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from script_core.media import MIN_SIDE, Media, MediaError, is_file

MAX_BYTES = 1 << 30
MAX_SIDE = 768  # frames are handed over no larger than this; every model here reads them smaller
MAX_PIXELS = 4096 * 2304
MAX_SECONDS = 3600
MAX_FRAMES = 256
OPENING = 4.5  # seconds until the first frame, over all readers
STALL = 4.5  # seconds between two frames
WHOLE = 90.0  # seconds for everything

DAMAGED = "The video is damaged or cut short and cannot be read; save it again as MP4 or WebM and upload that."
SLOW = "The video could not be read in time, so it is damaged or too heavy; convert it to MP4 or WebM at 720p."


def container(head: bytes) -> str | None:
    """What a file's first bytes say it is: "mp4" (or MOV), "webm" (or Matroska), "avi", "gif"; None for anything else.

    Playlists and other text formats, which could name addresses for a decoder to fetch, are not among them.
    """
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mp4"
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "webm"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    return "gif" if head.startswith((b"GIF87a", b"GIF89a")) else None


def is_video(source: Any) -> bool:
    """Whether a path or bytes hold a video, by content; of GIFs only those with several frames."""
    try:
        if isinstance(source, bytes):
            kind = container(source[:16])
        elif isinstance(source, str | Path) and is_file(source):
            with open(source, "rb") as file:
                kind = container(file.read(16))
        else:
            return False
        return kind is not None and (kind != "gif" or _moves(source))
    except OSError:
        return False


def _moves(source: str | Path | bytes) -> bool:
    import io

    from PIL import Image

    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=["GIF"]) as picture:
            return getattr(picture, "n_frames", 1) > 1
    except Exception:  # a broken GIF leads its decoder to IndexError and more; it is no film then
        return False


def read_video(source: str | Path | bytes, count: int, *, max_seconds: int | None = None) -> Media:
    """At most `count` frames, equally spaced in time, upright, with their times in seconds. Raises `MediaError`."""
    if isinstance(source, bytes):
        with tempfile.TemporaryDirectory(prefix="video") as folder:
            path = Path(folder) / "upload"
            path.write_bytes(source)
            return read_video(path, count, max_seconds=max_seconds)
    frames, times = read(source, count, max_seconds=max_seconds)
    notes: tuple[str, ...] = ()
    if len(frames) < count:
        notes = (f"The video has {len(frames)} different frames to show, fewer than the {count} asked for.",)
    return Media.of(frames, tuple(times), notes)


def read(path: str | Path, count: int, *, max_seconds: int | None = None) -> tuple[list[np.ndarray], list[float]]:
    """Frames (height, width, 3) uint8 RGB and their times; see `read_video`. Audio is ignored."""
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_FRAMES:
        raise MediaError(f"The number of frames must be between 1 and {MAX_FRAMES}, not {count!r}.")
    kind = _accept(Path(path))
    give_up = time.monotonic() + OPENING
    for reader in ("pillow",) if kind == "gif" else ("decord", "opencv"):
        try:
            return _collect(reader, str(Path(path).resolve()), count, give_up, max_seconds or MAX_SECONDS)
        except _Failed:
            continue
    raise MediaError(DAMAGED)


def _accept(path: Path) -> str:
    """The container, or a `MediaError` by size and first bytes."""
    if not is_file(path):
        raise MediaError(f"There is no video at {str(path)[:200]!r}; give the path of a video file.")
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError as error:
        raise MediaError("The video file cannot be opened; check that it may be read.") from error
    if not size:
        raise MediaError("The video file is empty; upload it again.")
    if size > MAX_BYTES:
        raise MediaError(f"The video has {size / 1e9:.1f} GB; at most {MAX_BYTES / 1e9:.1f} GB can be read.")
    kind = container(head)
    if kind is None:
        raise MediaError("This file is not a video that can be read; use MP4, MOV, WebM, AVI or an animated GIF.")
    return kind


class _Failed(Exception):
    """This reader could not read the file; another one may."""


def _collect(
    reader: str, path: str, count: int, give_up: float, max_seconds: int = MAX_SECONDS
) -> tuple[list[np.ndarray], list[float]]:
    """All frames from one reader's process, which is gone when this returns or raises."""
    limits = [str(n) for n in (count, MAX_SIDE, MAX_PIXELS, max_seconds)]
    worker = Path(__file__).with_name("decoding.py")
    process = subprocess.Popen(
        [sys.executable, "-I", str(worker), reader, path, *limits],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    frames: list[np.ndarray] = []
    times: list[float] = []
    try:
        for moment, frame in _received(process, give_up):
            if frames and frame.shape != frames[0].shape:
                continue  # a stream that changes its size midway: what has another shape is left out
            frames.append(frame)
            times.append(moment)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    if not frames:
        raise _Failed
    if min(frames[0].shape[:2]) < MIN_SIDE:
        raise MediaError(f"The video's frames are smaller than {MIN_SIDE} pixels; use a larger one.")
    return frames, times


def _received(process: subprocess.Popen[bytes], give_up: float) -> Iterator[tuple[float, np.ndarray]]:
    """Frames as they come, until the end. Raises `_Failed` where this reader gave up, `MediaError` where it is over."""
    messages: queue.Queue[tuple[dict[str, Any], bytes] | None] = queue.Queue(maxsize=4)
    over = threading.Event()
    threading.Thread(target=_listen, args=(process, messages, over), daemon=True).start()
    finish = time.monotonic() + WHOLE
    deadline = give_up
    try:
        while True:
            try:
                message = messages.get(timeout=max(min(deadline, finish) - time.monotonic(), 0.01))
            except queue.Empty:
                raise MediaError(SLOW) from None
            if message is None or "fail" in message[0]:  # None: the process died
                raise _Failed
            header, body = message
            if "refuse" in header:
                raise MediaError(str(header["refuse"]))
            if "end" in header:
                return
            deadline = time.monotonic() + STALL
            if "time" in header:
                width, height = header["size"]
                yield float(header["time"]), np.frombuffer(body, np.uint8).reshape(height, width, 3)
    finally:
        over.set()


def _listen(process: subprocess.Popen[bytes], messages: queue.Queue[Any], over: threading.Event) -> None:
    """Pipe -> queue, in a thread because a pipe cannot be read with a deadline on every system."""

    def put(message: Any) -> None:
        while not over.is_set():
            try:
                return messages.put(message, timeout=0.1)
            except queue.Full:
                continue

    pipe = process.stdout
    try:
        while pipe is not None and not over.is_set():
            line = pipe.readline(4096)
            if not line:
                break
            header = json.loads(line)
            size = header.get("size", [0, 0])
            body = pipe.read(3 * size[0] * size[1])
            if len(body) < 3 * size[0] * size[1]:
                break
            put((header, body))
    except (OSError, ValueError):  # cut off in the middle of a message, or closed by the reader of the queue
        pass
    put(None)
