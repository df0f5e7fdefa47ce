"""Pictures as people have them."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from script_core.__main__ import main
from script_core.media import MAX_PIXELS, Media, MediaError, read_image, read_media
from script_core.video import read_video
from tests.tiny import picture


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def refused(source: Any) -> str:
    with pytest.raises(MediaError) as caught:
        read_image(source)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".") and len(message) < 300
    return message


def test_paths_bytes_images_and_arrays_are_one_picture(tmp_path: Path) -> None:
    pixels = picture(40, 30)
    image = Image.fromarray(pixels)
    path = tmp_path / "a picture.png"
    image.save(path)
    read = [read_image(source) for source in (path, str(path), encoded(image), image, pixels)]
    assert len({media.key for media in read}) == 1
    assert all(np.array_equal(media.frames[0], pixels) for media in read)
    assert (read[0].width, read[0].height, read[0].kind) == (40, 30, "image")
    assert read_image(read[0]) is read[0]


def test_a_picture_cannot_be_changed_after_reading() -> None:
    pixels = picture(40, 30)
    media = read_image(pixels)
    pixels[:] = 0
    assert media.frames[0].any()
    with pytest.raises(ValueError, match="read-only"):
        media.frames[0][0, 0] = 1


def test_the_key_is_of_pixels_and_shape() -> None:
    flat = np.zeros((16, 32, 3), dtype=np.uint8)
    assert read_image(flat).key != read_image(flat.reshape(32, 16, 3)).key
    assert Media.of([flat]).key != Media.of([flat], times=(0.0,)).key


JUNK = [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"<svg/>", b"GIF89a", b"%PDF-1.4", b"\xff\xd8\xff"]


@pytest.mark.parametrize("junk", JUNK)
def test_what_is_not_a_picture(junk: bytes, tmp_path: Path) -> None:
    assert "picture" in refused(junk)
    (tmp_path / "x.png").write_bytes(junk)
    refused(tmp_path / "x.png")


def test_other_things_that_are_not_pictures(tmp_path: Path) -> None:
    assert "no picture at" in refused(tmp_path / "none.png")
    assert "no picture at" in refused(tmp_path)
    assert "no picture at" in refused("https://example.org/a.png")
    assert "not a NoneType" in refused(None)
    assert "shape" in refused(np.zeros((3, 20, 20, 3), dtype=np.uint8))
    assert "shape" in refused(np.zeros((20, 20, 2), dtype=np.uint8))
    assert "not a picture" in refused(np.full((20, 20), "a"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_truncated_files(kind: str) -> None:
    whole = encoded(Image.fromarray(picture(120, 90)).convert("RGB"), kind)
    assert refused(whole[: len(whole) // 2])


def test_tiny_pictures_are_refused_and_small_ones_are_read() -> None:
    assert "1x1 pixels; each side needs at least 8" in refused(Image.new("RGB", (1, 1)))
    assert "300x7" in refused(np.zeros((7, 300, 3), dtype=np.uint8))
    assert read_image(Image.new("RGB", (8, 8))).width == 8


def test_thin_pictures_are_refused() -> None:
    assert "too thin" in refused(np.zeros((8, 400, 3), dtype=np.uint8))
    assert read_image(np.zeros((10, 400, 3), dtype=np.uint8)).width == 400


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_huge_pictures_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("the picture was decoded"))
    assert "the limit is 64 million" in refused(png_header(20_000, 20_000))
    assert "the limit is 64 million" in refused(png_header(2**31 - 1, 2**31 - 1))
    assert f"{MAX_PIXELS // 8000 + 1}x8000" in refused(png_header(MAX_PIXELS // 8000 + 1, 8000))


def test_an_animation_gives_its_first_frame_and_says_so() -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "lime", "blue")]
    media = read_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert media.frames[0][5, 5].tolist() == [255, 0, 0]
    assert media.notes == ("This picture is an animation of 3 frames; the first one is used.",)
    assert read_image(encoded(frames[0], "GIF")).notes == ()


@pytest.mark.parametrize(("kind", "said"), [
    ("WEBP", "is an animation of 2 frames"), ("PNG", "is an animation of 2 frames"), ("TIFF", "has 2 pages"),
    ("MPO", None),
])  # fmt: skip
def test_only_an_animation_is_called_one(kind: str, said: str | None) -> None:
    first, second = Image.new("RGB", (20, 20), "red"), Image.new("RGB", (20, 20), "blue")
    media = read_image(encoded(first, kind, save_all=True, append_images=[second]))
    assert media.notes == ((f"This picture {said}; the first one is used.",) if said else ())
    assert media.frames[0][5, 5, 0] > 240


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_metadata_that_cannot_be_read_is_no_damage(kind: str) -> None:
    media = read_image(encoded(Image.new("RGB", (40, 30), "white"), kind, exif=b"Exif\0\0garbagegarbage"))
    assert (media.width, media.height) == (40, 30) and media.frames[0].min() > 250


def test_no_other_program_is_started_for_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a, **o: pytest.fail("Ghostscript was started"))
    assert "use PNG, JPEG, WebP" in refused(encoded(Image.new("RGB", (40, 30)), "EPS"))


@pytest.mark.parametrize("length", [300, 5000])
def test_a_name_longer_than_any_file_has_names_no_file(length: int, capsys: pytest.CaptureFixture[str]) -> None:
    name = "a" * length
    assert "no picture at" in refused(name)
    with pytest.raises(MediaError, match="no picture at"):
        read_media(name, frames=4)
    with pytest.raises(MediaError, match="no video at"):
        read_video(name, 4)
    assert main(["ask", name, "is there a dog ?"]) == 2
    assert "no picture at" in capsys.readouterr().err


def test_the_limit_on_pixels_holds_for_arrays_too() -> None:
    with pytest.raises(MediaError, match="40x30, 0.0012 million pixels; the limit is 0.001 million"):
        read_image(picture(40, 30), max_pixels=1000)


def test_sixteen_bits_keep_their_brightness() -> None:
    ramp = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    for source in (ramp, encoded(Image.fromarray(ramp)), encoded(Image.fromarray(ramp), "TIFF")):
        grey = read_image(source).frames[0]
        assert grey.shape == (32, 32, 3) and grey[0, 0].tolist() == [0] * 3 and grey[-1, -1].tolist() == [255] * 3
        assert abs(int(grey[16, 0, 0]) - 128) <= 2
    dark = np.full((16, 16), 40, dtype=np.uint16)  # 16-bit, however small the values
    assert read_image(dark).frames[0].max() == 0


def test_floats_and_grey_arrays() -> None:
    half = np.full((16, 16), 0.5)
    assert read_image(half).frames[0][0, 0].tolist() == [128] * 3
    assert read_image(np.full((16, 16, 1), 200.0)).frames[0][0, 0].tolist() == [200] * 3
    assert read_image(np.full((16, 16), np.nan)).frames[0].max() == 0
    assert read_image(np.ones((16, 16), dtype=bool)).frames[0].min() == 255


def test_a_float_picture_that_overshoots_white_keeps_its_brightness() -> None:
    half = np.full((16, 16), 0.5)
    for white in (1.0001, 1.4):
        half[0, 0] = white
        grey = read_image(half).frames[0]
        assert grey[0, 0, 0] == 255 and grey[8, 8, 0] == 128
        assert read_image(half * 255).frames[0].tolist() == grey.tolist()


@pytest.mark.parametrize(("kind", "white"), [
    (np.int8, 127), (np.int16, 255), (np.int16, 32767), (">u2", 65535), (np.int32, 255), (np.int64, 65535),
    (np.uint32, 2**32 - 1), (np.uint64, 2**64 - 1),
])  # fmt: skip
def test_integers_of_every_size_have_a_white(kind: Any, white: int) -> None:
    array = np.full((16, 16), white, dtype=kind)
    array[8] = white // 2
    grey = read_image(array).frames[0]
    assert grey[0, 0, 0] == 255 and abs(int(grey[8, 0, 0]) - 127) <= 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "LAB"])
def test_other_modes(mode: str) -> None:
    media = read_image(
        Image.new("RGB", (20, 20), "white").convert("RGB").convert(mode)
        if mode != "LAB"
        else Image.new("LAB", (20, 20), (255, 128, 128))
    )
    assert media.frames[0].shape == (20, 20, 3) and media.frames[0].min() >= 253


def test_cmyk_jpeg_and_palette_gif_keep_their_colour() -> None:
    red = Image.new("RGB", (32, 32), (220, 30, 40))
    assert np.abs(read_image(encoded(red.convert("CMYK"), "JPEG")).frames[0].astype(int) - [220, 30, 40]).max() < 12
    assert np.abs(read_image(encoded(red.quantize(), "GIF")).frames[0].astype(int) - [220, 30, 40]).max() < 5


def test_transparency_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    clear.paste((255, 0, 0, 128), (0, 0, 10, 20))
    for source in (clear, encoded(clear), np.asarray(clear)):
        pixels = read_image(source).frames[0]
        assert pixels[5, 15].tolist() == [255, 255, 255]
        assert np.abs(pixels[5, 5].astype(int) - [255, 127, 127]).max() <= 1
    grey = Image.new("LA", (20, 20), (0, 0))
    assert read_image(encoded(grey)).frames[0].min() == 255
    palette = Image.new("P", (20, 20), 0)
    palette.putpalette([0, 0, 0, 255, 255, 255])
    assert read_image(encoded(palette, transparency=0)).frames[0].min() == 255


def test_exif_rotation_is_applied() -> None:
    upright = np.zeros((16, 32, 3), dtype=np.uint8)
    upright[:, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated 90 degrees clockwise
    media = read_image(encoded(Image.fromarray(upright), "JPEG", exif=exif, quality=95))
    assert (media.width, media.height) == (16, 32)
    assert media.frames[0][4, 8].min() > 200 and media.frames[0][28, 8].max() < 50
