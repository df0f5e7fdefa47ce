"""Decodes one video in a process of its own, so that whatever a damaged file does to a decoder, it does it there.

    python decoding.py READER PATH COUNT MAX_SIDE MAX_PIXELS MAX_SECONDS

READER is decord, opencv or pillow. Frames go to standard output as they are decoded: a line of JSON, and for a frame
its RGB bytes behind it. The lines are {"open": true} once the header has been accepted, {"time": s, "size": [w, h]}
before each frame, then {"end": true}; or {"refuse": sentence}, which is final; or {"fail": reason}, after which
another reader may be tried. `script_core.video` is the other end. This file imports nothing of the project: it is
started by its path, so that no more than one decoder and numpy are loaded.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image

MEMORY = 3 << 30  # bytes of address space, most of it mapped libraries and thread stacks
FAR = 10.0  # seconds; a target further away than this is jumped to, a nearer one is reached by decoding on


class Refused(Exception):
    """This video cannot be used, whichever reader is tried; the message is the sentence."""


@dataclass(frozen=True)
class Limits:
    """side: longer side of the frames handed over. pixels: of a frame as it is stored. seconds: of the video."""

    count: int
    side: int
    pixels: int
    seconds: float

    def check(self, width: int, height: int, frames: int, seconds: float) -> None:
        """Raises `Refused` by what the header says, before anything is decoded."""
        if width * height > self.pixels:
            raise Refused(f"The video is {width}x{height} pixels, more than 4K; scale it down and upload it again.")
        if seconds > self.seconds:
            raise Refused(
                f"The video lasts {_clock(seconds)} by its header, and at most {_clock(self.seconds)} can be read; "
                "cut out the part in question."
            )
        if frames == 1:
            raise Refused("The video has a single frame; save that frame as a picture and upload the picture.")


def _clock(seconds: float) -> str:
    whole = int(round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


Frames = Iterator[tuple[float, np.ndarray]]


def spread(starts: np.ndarray, count: int) -> np.ndarray:
    """Indices of the frames on show at `count` equally spaced moments from the first frame's start to the last's.

    starts (n,): seconds, ascending. With no more than `count` frames, all of them.
    """
    if len(starts) <= count:
        return np.arange(len(starts))
    moments = np.linspace(starts[0], starts[-1], count)
    return np.unique(np.searchsorted(starts, moments + 1e-6, side="right") - 1)


def promised(path: str, limits: Limits) -> float | None:
    """Seconds that the header promises, and the checks on it; None where OpenCV is not there to ask."""
    try:
        import cv2
    except ImportError:
        return None
    video = cv2.VideoCapture(path)
    if not video.isOpened():
        return None
    frames, rate = int(video.get(cv2.CAP_PROP_FRAME_COUNT)), video.get(cv2.CAP_PROP_FPS)
    size = int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT))
    seconds = frames / rate if frames > 0 and rate > 0 else None
    limits.check(*size, frames, seconds or 0.0)
    return seconds


def with_decord(path: str, limits: Limits) -> Frames:
    """Random access by frame index; times from the container, so that a variable frame rate is honoured."""
    import decord

    expected = promised(path, limits)
    try:
        video = decord.VideoReader(path, num_threads=2)
    except Exception as error:
        if "video stream" in str(error):
            raise Refused("The file holds no moving pictures, sound at most; upload one with a video track.") from error
        raise
    spans = np.asarray(video.get_frame_timestamp(np.arange(len(video))), dtype=np.float64)
    first = video[0].asnumpy()
    if first.ndim != 3 or first.shape[2] != 3:
        raise RuntimeError("decord hands out blank frames of four channels for rotated videos")
    seconds = float(spans[-1, 1] - spans[0, 0])
    limits.check(first.shape[1], first.shape[0], len(video), seconds)
    if expected is not None and seconds < 0.8 * expected - 1:
        raise Refused(_short(seconds, expected))
    yield from ((float(spans[i, 0] - spans[0, 0]), video[int(i)].asnumpy()) for i in spread(spans[:, 0], limits.count))


def with_opencv(path: str, limits: Limits) -> Frames:
    """Forward through the file, jumping over long gaps. Applies rotation, which decord 0.6 cannot."""
    import cv2

    expected = promised(path, limits)
    video = cv2.VideoCapture(path)
    if not video.isOpened():
        raise RuntimeError("OpenCV cannot open it")
    rate = video.get(cv2.CAP_PROP_FPS) or 25.0
    frames = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    last = max((expected or 0.0) - 1 / rate, 0.0)
    every = 0 < frames <= limits.count or not last
    now, given, seen = -1.0, 0, -1.0
    for moment in np.arange(limits.count, dtype=float) if every else np.linspace(0, last, limits.count):
        if not every and moment - now > FAR:
            video.set(cv2.CAP_PROP_POS_MSEC, (moment - 2) * 1000)
        while video.grab():
            now = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if every or now > moment - 1 / rate + 1e-3:  # on show at that moment
                break
        else:
            break
        ok, picture = video.retrieve()
        if ok and now > seen:
            seen, given = now, given + 1
            yield now, np.ascontiguousarray(picture[..., ::-1])
    if limits.count > 1 and expected is not None and seen < 0.8 * expected - 1:  # one frame says nothing of the rest
        raise Refused(_short(max(seen, 0.0), expected))
    if given < min(limits.count, 2):
        raise RuntimeError("OpenCV reads no frames")


def with_pillow(path: str, limits: Limits) -> Frames:
    """Animated GIF, whose frames each have a duration of their own."""
    with Image.open(path, formats=["GIF"]) as video:
        frames = getattr(video, "n_frames", 1)
        limits.check(*video.size, frames, 0.0)
        starts, at = [], 0.0
        for index in range(frames):
            video.seek(index)
            starts.append(at)
            at += max(video.info.get("duration", 0) or 100, 10) / 1000
            if at > limits.seconds:
                limits.check(1, 1, frames, at)
        for index in spread(np.array(starts), limits.count):
            video.seek(int(index))
            rgba = video.convert("RGBA")
            paper = Image.new("RGBA", rgba.size, "white")
            yield starts[index], np.asarray(Image.alpha_composite(paper, rgba).convert("RGB"))


def _short(got: float, promise: float) -> str:
    return (
        f"The video promises {promise:.0f} seconds and only the first {got:.0f} can be read, "
        "so it is damaged or cut short; upload it again from the original."
    )


def reduced(frame: np.ndarray, side: int) -> np.ndarray:
    """The frame with its longer side at most `side` pixels."""
    height, width = frame.shape[:2]
    longest = max(height, width)
    if longest <= side:
        return frame
    size = max(round(width * side / longest), 1), max(round(height * side / longest), 1)
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0))


def send(out: BinaryIO, message: dict[str, object], body: bytes = b"") -> None:
    out.write(json.dumps(message).encode() + b"\n" + body)
    out.flush()


def main() -> None:
    """See the module's text."""
    reader, path, *numbers = sys.argv[1:]
    count, side, pixels, seconds = (int(n) for n in numbers)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a decoder that prints must not print into the frames
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):
        pass  # not on this system; the caller's time limit still holds
    readers = {"decord": with_decord, "opencv": with_opencv, "pillow": with_pillow}
    try:
        opened = False
        for time, frame in readers[reader](path, Limits(count, side, pixels, seconds)):
            if not opened:
                send(out, {"open": True})
                opened = True
            small = reduced(frame, side)
            send(out, {"time": time, "size": [small.shape[1], small.shape[0]]}, small.tobytes())
        send(out, {"end": True})
    except Refused as refusal:
        send(out, {"refuse": str(refusal)})
    except Exception as error:  # decoders raise whatever they like; the next reader may manage
        send(out, {"fail": f"{type(error).__name__}: {error}"[:300]})


if __name__ == "__main__":
    main()
