"""A picture as a program gives it: an uploaded file, base64 inside the call, or an example's name. Never an address."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Literal

from typing_extensions import TypedDict

from script_core.media import Media, MediaError
from ui.examples import examples, find
from ui.limits import LIMITS, read_picture
from ui.trouble import GONE


class FileMeta(TypedDict):
    _type: Literal["gradio.FileData"]


class UploadedFile(TypedDict):
    """A file that was uploaded to `/gradio_api/upload`, as `gradio_client.handle_file` makes it."""

    path: str
    meta: FileMeta


Picture = str | UploadedFile


def picture(image: Any) -> Media:
    """What `image` means: an uploaded file, a data URI, or an example's name. Raises `MediaError`."""
    if isinstance(image, dict) and isinstance(image.get("path"), str):
        try:
            return read_picture(image["path"])
        except FileNotFoundError as error:
            raise MediaError(GONE) from error
    if not isinstance(image, str) or not image:
        raise MediaError("Give a picture: an uploaded file, a data: URI, or an example's name.")
    if image.startswith("data:"):
        return read_picture(decoded(image))
    example = find(image)
    if example is None:
        raise MediaError(
            "This is neither a data: URI nor an example's name; the examples are "
            f"{', '.join(example.id for example in examples())}. Upload other pictures first."
        )
    return read_picture(example.path)


def decoded(uri: str) -> bytes:
    """The bytes of a base64 data URI, within the limit for files. Raises `MediaError`."""
    head, _, body = uri.partition(",")
    if not head.endswith(";base64"):
        raise MediaError("A data: URI must hold base64, as in data:image/png;base64,...")
    if len(body) * 3 // 4 > LIMITS.max_file_mb * 1_000_000:
        raise MediaError(f"The picture has more than {LIMITS.max_file_mb} MB; make it smaller first.")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MediaError("The base64 of the data: URI is damaged.") from error
