"""Small video files, whole and broken, written by the tests themselves."""

from __future__ import annotations

import struct
import wave
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

FPS = 10
CODECS = {"mp4": "mp4v", "mov": "mp4v", "webm": "VP90", "avi": "MJPG"}
NESTED = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts"}


def frame(index: int, width: int = 96, height: int = 64) -> np.ndarray:
    """(height, width, 3) RGB: a red top left quarter, and below it a grey as bright as 8 times the index."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2, 0] = 255
    picture[height // 2 :] = min(8 * index, 255)
    return picture


def number(picture: np.ndarray) -> int:
    """The index of a frame that went through a codec."""
    return round(float(picture[picture.shape[0] * 3 // 4, picture.shape[1] // 2].mean()) / 8)


def write(path: Path, frames: int = 30, width: int = 96, height: int = 64) -> Path:
    """A clip of numbered frames, its container chosen by the suffix."""
    if path.suffix == ".gif":
        pictures = [Image.fromarray(frame(i, width, height)) for i in range(frames)]
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=1000 // FPS)
        return path
    codec = cv2.VideoWriter.fourcc(*CODECS[path.suffix[1:]])
    out = cv2.VideoWriter(str(path), codec, FPS, (width, height))
    for i in range(frames):
        out.write(np.ascontiguousarray(frame(i, width, height)[..., ::-1]))
    out.release()
    return path


def edited(path: Path, edits: dict[bytes, Callable[[bytes], bytes]]) -> Path:
    """Rewrite boxes of an MP4 in place; they lie behind the frames, so that nothing points past them."""

    def rewrite(data: bytes) -> bytes:
        out, at = b"", 0
        while at < len(data):
            size, kind = struct.unpack(">I4s", data[at : at + 8])
            body = data[at + 8 : at + size]
            body = rewrite(body) if kind in NESTED else edits.get(kind, lambda same: same)(body)
            out += struct.pack(">I4s", len(body) + 8, kind) + body
            at += size
        return out

    path.write_bytes(rewrite(path.read_bytes()))
    return path


def turned(path: Path) -> Path:
    """As a phone held upright records: stored lying, with a quarter turn clockwise in the header."""
    quarter = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 64 << 16, 0, 1 << 30)
    return edited(write(path), {b"tkhd": lambda body: body[:40] + quarter + body[76:]})


def _last(milliseconds: int) -> dict[bytes, Callable[[bytes], bytes]]:
    return {b"elst": lambda body: body[:8] + struct.pack(">I", milliseconds) + body[12:]}


def uneven(path: Path) -> Path:
    """30 frames at a variable rate: the first 15 last 0.1 s each, the others 0.5 s."""
    table = struct.pack(">6I", 0, 2, 15, 1024, 15, 5120)
    return edited(write(path), {b"stts": lambda body: table, **_last(9000)})


def endless(path: Path) -> Path:
    """30 frames that by the header last three hours."""
    table = struct.pack(">4I", 0, 1, 30, 1024 * 3600)
    return edited(write(path), {b"stts": lambda body: table, **_last(3 * 3600 * 1000)})


def silent_track(path: Path) -> Path:
    """An MP4 whose only track says that it is sound."""
    return edited(write(path), {b"hdlr": lambda body: body.replace(b"vide", b"soun")})


def cut(path: Path, share: float) -> Path:
    data = write(path).read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def flipped(path: Path, start: float, share: float) -> Path:
    """Every byte of a part of the file inverted."""
    data = np.frombuffer(write(path).read_bytes(), np.uint8).copy()
    first = int(len(data) * start)
    data[first : first + int(len(data) * share)] ^= 0xFF
    path.write_bytes(data.tobytes())
    return path


def holding(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def sound(path: Path) -> Path:
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        out.writeframes(bytes(16000))
    return path


def still(path: Path) -> Path:
    Image.fromarray(frame(5)).save(path, "PNG")
    return path


def broken(folder: Path) -> dict[str, Path]:
    """Sixteen files that cannot be used, by what is wrong with them."""
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n"
    return {
        "zero bytes": holding(folder / "empty.mp4", b""),
        "text renamed": holding(folder / "text.mp4", b"This is not a video at all, whatever its name says.\n" * 50),
        "truncated mp4": cut(folder / "cut.mp4", 0.6),
        "truncated webm": cut(folder / "cut.webm", 0.4),
        "truncated avi": cut(folder / "cut.avi", 0.3),
        "bits flipped in an mp4's index": flipped(folder / "flipped.mp4", 0.75, 0.2),
        "bits flipped in a webm": flipped(folder / "flipped.webm", 0.1, 0.85),
        "one frame": write(folder / "one.mp4", frames=1),
        "8K": write(folder / "8k.avi", frames=2, width=7680, height=4320),
        "three hours by its header": endless(folder / "endless.mp4"),
        "no video stream": silent_track(folder / "silent.mp4"),
        "sound renamed": sound(folder / "sound.mp4"),
        "picture renamed": still(folder / "picture.mp4"),
        "a playlist that names an address": holding(folder / "list.mp4", playlist),
        "noise behind a right beginning": holding(
            folder / "noise.mp4", struct.pack(">I4s", 24, b"ftyp") + np.random.default_rng(0).bytes(60_000)
        ),
        "frames of four pixels": write(folder / "specks.gif", frames=3, width=4, height=4),
    }
