"""Reading pictures that people really have: any mode, any orientation, and a sentence when it cannot be done.

A `Media` is plain RGB pixels with a content hash; where it came from no longer matters after this module.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

MIN_SIDE = 8  # pixels; below this a picture holds less than one patch of detail
MAX_PIXELS = 64_000_000  # checked on the header, before anything is decoded
# Longer than this, a picture is less than a patch across in any view of up to 27 patches. From about 24 on, an anyres
# mosaic can already be: once its padding is cut off, some of its tiles then hold no token.
MAX_ASPECT = 40.0
# Decoders that are part of Pillow: others start programs, as EPS does Ghostscript. MPO, what phones write, is a JPEG.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "DIB", "PPM", "TGA", "ICO", "PCX")
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")  # of these, several frames are a film


class MediaError(ValueError):
    """A picture or video cannot be used; the message is one sentence that says what to do."""


@dataclass(frozen=True, eq=False)
class Media:
    """A picture (one frame) or a video (several), decoded.

    frames: uint8 arrays (height, width, 3), RGB, read-only. times: seconds per frame, empty for a picture.
    key: sha256 of the pixels and their shape. notes: sentences for the reader, such as which frame of a GIF was taken.
    """

    kind: str  # "image" or "video"
    frames: tuple[np.ndarray, ...]
    key: str
    times: tuple[float, ...] = ()
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def width(self) -> int:
        return int(self.frames[0].shape[1])

    @property
    def height(self) -> int:
        return int(self.frames[0].shape[0])

    @classmethod
    def of(cls, frames: list[np.ndarray], times: tuple[float, ...] = (), notes: tuple[str, ...] = ()) -> Media:
        """From uint8 RGB arrays of one shape; with times it is a video."""
        digest = hashlib.sha256()
        held = []
        for frame in frames:
            frame = np.array(frame, dtype=np.uint8, order="C")
            digest.update(repr(frame.shape).encode())
            digest.update(frame.data)
            frame.flags.writeable = False
            held.append(frame)
        digest.update(repr(times).encode())
        return cls("video" if times else "image", tuple(held), digest.hexdigest(), times, notes)


def read_image(source: Media | str | Path | bytes | Image.Image | np.ndarray, *, max_pixels: int = MAX_PIXELS) -> Media:
    """A picture from a path, encoded bytes, a PIL image or an array (h, w), (h, w, 3) or (h, w, 4).

    EXIF rotation is applied, alpha is laid on white, other ranges are scaled to 8 bits (see `_white`), of several
    frames the first is taken. Raises `MediaError` for what is not a picture, is cut short, or is too small, too large
    or too thin. max_pixels is compared with the file's header, before anything is decoded.
    """
    if isinstance(source, Media):
        return source
    if isinstance(source, np.ndarray):
        return Media.of([_from_array(source, max_pixels)])
    picture = source if isinstance(source, Image.Image) else _open(source)
    _check_size(*picture.size, max_pixels)
    try:
        count = getattr(picture, "n_frames", 1)
        if count > 1 and not isinstance(source, Image.Image):
            picture.seek(0)
        picture.load()
        return Media.of([_to_rgb(_upright(picture))], notes=_said_of(picture.format, count))
    except Exception as error:  # a broken file leads decoders to IndexError, struct.error and more
        raise MediaError("The picture is damaged or cut short; try saving it again or use another file.") from error


def read_frames(path: str | Path, count: int) -> tuple[list[np.ndarray], list[float]]:
    """At most `count` frames of a video, equally spaced in time, uint8 RGB (height, width, 3), and their seconds.

    MP4, MOV, WebM, AVI or GIF, told apart by content; upright, audio ignored. Raises `MediaError`, within 5 seconds
    for anything that is broken.
    """
    from script_core.video import read

    return read(path, count)


def read_media(
    source: Media | str | Path | bytes | Image.Image | np.ndarray,
    frames: int = 0,
    *,
    max_pixels: int = MAX_PIXELS,
    max_seconds: int | None = None,
) -> Media:
    """A picture, or a video if that is what a path or bytes hold, whatever the name says.

    frames: how many frames the reader of a video wants; 0 means that it takes pictures only, and then an animated GIF
    is a picture and any other video a `MediaError`. max_pixels: of a picture; max_seconds: of a video, where less than
    the reader's own limit is wanted.
    """
    from script_core.video import is_video, read_video

    if isinstance(source, Media) or not is_video(source):
        return read_image(source, max_pixels=max_pixels)
    if frames and isinstance(source, str | Path | bytes):
        return read_video(source, frames, max_seconds=max_seconds)
    try:
        return read_image(source, max_pixels=max_pixels)
    except MediaError as error:
        raise MediaError("This model answers questions about pictures; choose a video model for videos.") from error


def is_file(path: str | Path) -> bool:
    """Whether there is a file; no name is too long to ask about, nor a folder too private."""
    try:
        return Path(path).is_file()
    except OSError:
        return False


def _open(source: str | Path | bytes) -> Image.Image:
    if isinstance(source, bytes):
        stream: str | Path | io.BytesIO = io.BytesIO(source)
    elif isinstance(source, str | Path):
        stream = source
        if not is_file(source):
            raise MediaError(f"There is no picture at {str(source)[:200]!r}; give the path of an image file.")
    else:
        raise MediaError(f"A picture can be a path, bytes, a PIL image or an array, not a {type(source).__name__}.")
    try:
        Image.init()  # so that it is known which formats the installed Pillow has
        return Image.open(stream, formats=[name for name in FORMATS if name in Image.OPEN])
    except Image.DecompressionBombError as error:  # Pillow's own limit, which is higher than ours
        raise MediaError(
            f"The picture has hundreds of millions of pixels; the limit is {MAX_PIXELS // 1_000_000} million, "
            "so make it smaller first."
        ) from error
    except Exception as error:  # UnidentifiedImageError, and whatever a broken header leads a decoder to
        raise MediaError("This file is no picture that can be read; use PNG, JPEG, WebP, GIF, BMP or TIFF.") from error


def _check_size(width: int, height: int, max_pixels: int = MAX_PIXELS) -> None:
    if min(width, height) < MIN_SIDE:
        raise MediaError(f"The picture is {width}x{height} pixels; each side needs at least {MIN_SIDE}.")
    if width * height > max_pixels:
        raise MediaError(
            f"The picture is {width}x{height}, {_millions(width * height)} million pixels; "
            f"the limit is {_millions(max_pixels)} million, so make it smaller first."
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise MediaError(
            f"The picture is {width}x{height}, too thin for patches; crop it to at most {MAX_ASPECT:.0f} to 1."
        )


def _millions(count: int) -> str:
    return f"{count / 1e6:,.0f}" if count >= 10_000_000 else f"{count / 1e6:g}"


def _said_of(kind: str | None, count: int) -> tuple[str, ...]:
    """The note about a file of several frames. A phone's JPEG holds more of them too, which nobody sees as such."""
    if count > 1 and kind in ANIMATED:
        return (f"This picture is an animation of {count} frames; the first one is used.",)
    if count > 1 and kind == "TIFF":
        return (f"This picture has {count} pages; the first one is used.",)
    return ()


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # a broken EXIF block leads its reader to SyntaxError and more, and the pixels are whole
        return picture


def _to_rgb(picture: Image.Image) -> np.ndarray:
    if picture.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        return _three_bands(_to_bytes(np.asarray(picture)))
    if "A" in picture.getbands() or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, rgba)
    return np.asarray(picture.convert("RGB"))


def _from_array(array: np.ndarray, max_pixels: int) -> np.ndarray:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise MediaError(f"An array of shape {array.shape} is not a picture; give (h, w), (h, w, 3) or (h, w, 4).")
    _check_size(array.shape[1], array.shape[0], max_pixels)
    if array.dtype.kind not in "buif":
        raise MediaError(f"An array of {array.dtype} is not a picture; give uint8, uint16 or floats from 0 to 1.")
    return _three_bands(_to_bytes(array))


def _three_bands(levels: np.ndarray) -> np.ndarray:
    """Levels (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) as (h, w, 3), alpha laid on white."""
    if levels.ndim == 2:
        levels = levels[..., None]
    if levels.shape[2] == 4:
        alpha = levels[..., 3:].astype(np.float32) / 255
        levels = np.rint(levels[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return np.repeat(levels, 3, axis=2) if levels.shape[2] == 1 else levels


def _to_bytes(array: np.ndarray) -> np.ndarray:
    """Brightness levels 0 to 255, whatever the range of the source."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    values = np.nan_to_num(array.astype(np.float64), posinf=0.0, neginf=0.0)
    values *= 255 / _white(array.dtype, float(values.max(initial=0.0)))
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _white(dtype: np.dtype, largest: float) -> int:
    """Which value is white in an array of this type whose largest value is `largest`.

    Floats: 1, 255 or 65,535, the first that `largest` is at most twice, as resampling overshoots white a little.
    uint16: 65,535, however dark the picture. Other integers: 255, 65,535 or the type's own largest value, the first
    that is no less than `largest` and that the type can hold.
    """
    if dtype.kind == "f":
        return next((white for white in (1, 255) if largest <= 2 * white), 65535)
    most = int(np.iinfo(dtype).max)
    if dtype.kind == "u" and dtype.itemsize == 2:
        return most
    return next((white for white in (255, 65535) if largest <= white <= most), most)
