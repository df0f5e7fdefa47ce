"""Videos that people have, and files that only look like one."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from script_core import video
from script_core.decoding import spread
from script_core.media import MediaError, read_frames, read_media
from tests import clips


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return clips.broken(tmp_path_factory.mktemp("broken"))


@pytest.mark.parametrize("suffix", ["mp4", "mov", "webm", "avi", "gif"])
def test_frames_are_spread_evenly_in_time(tmp_path: Path, suffix: str) -> None:
    frames, times = read_frames(clips.write(tmp_path / f"clip.{suffix}"), 8)
    assert [clips.number(f) for f in frames] == [0, 4, 8, 12, 16, 20, 24, 29]
    assert times == pytest.approx([0.0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.4, 2.9], abs=0.011)
    assert all(f.shape == (64, 96, 3) and f.dtype == np.uint8 for f in frames)
    assert frames[0][8, 8, 0] > 200 and frames[0][8, 8, 2] < 60, "red must stay red"


def test_both_readers_see_the_same_frames(tmp_path: Path) -> None:
    path = str(clips.write(tmp_path / "clip.webm"))
    ours, theirs = (video._collect(r, path, 8, time.monotonic() + 60) for r in ("decord", "opencv"))
    assert ours[1] == pytest.approx(theirs[1], abs=0.01)
    assert [clips.number(f) for f in ours[0]] == [clips.number(f) for f in theirs[0]]


def test_a_phone_video_is_turned_upright(tmp_path: Path) -> None:
    frames, _ = read_frames(clips.turned(tmp_path / "phone.mp4"), 4)
    assert frames[0].shape == (96, 64, 3)
    assert frames[0][8, -8, 0] > 200, "what lay at the left stands at the top right after a quarter turn clockwise"
    assert frames[0][8, 8, 0] < 60


def test_a_variable_frame_rate_is_sampled_by_time_and_not_by_number(tmp_path: Path) -> None:
    frames, times = read_frames(clips.uneven(tmp_path / "uneven.mp4"), 5)
    assert times == pytest.approx([0.0, 2.0, 4.0, 6.0, 8.5], abs=0.3)
    assert [clips.number(f) for f in frames] == [0, 16, 20, 24, 29]


def test_a_short_video_gives_all_its_frames(tmp_path: Path) -> None:
    media = read_media(clips.write(tmp_path / "short.webm", frames=5), frames=64)
    assert [clips.number(f) for f in media.frames] == [0, 1, 2, 3, 4]
    assert media.times == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4], abs=0.011)
    assert "5 different frames" in media.notes[0]


def test_large_frames_are_handed_over_small(tmp_path: Path) -> None:
    frames, _ = read_frames(clips.write(tmp_path / "large.avi", frames=3, width=1920, height=1080), 2)
    assert frames[0].shape == (432, 768, 3)


def test_content_decides_and_not_the_name(tmp_path: Path) -> None:
    named_text = clips.write(tmp_path / "clip.webm").rename(tmp_path / "clip.txt")
    assert read_media(named_text, frames=4).kind == "video"
    assert read_media(named_text.read_bytes(), frames=4).times == read_media(named_text, frames=4).times
    assert read_media(clips.still(tmp_path / "still.mp4"), frames=4).kind == "image"


def test_an_animation_is_a_video_only_where_videos_are_wanted(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "clip.gif", frames=6)
    assert len(read_media(path, frames=4).frames) == 4
    assert read_media(path).kind == "image"
    with pytest.raises(MediaError, match="about pictures"):
        read_media(clips.write(tmp_path / "clip.webm", frames=3))


NAMES = [
    "zero bytes", "text renamed", "truncated mp4", "truncated webm", "truncated avi", "bits flipped in an mp4's index",
    "bits flipped in a webm", "one frame", "8K", "three hours by its header", "no video stream", "sound renamed",
    "picture renamed", "a playlist that names an address", "noise behind a right beginning", "frames of four pixels",
]  # fmt: skip


@pytest.mark.parametrize("wrong", NAMES)
def test_every_broken_file_gets_its_sentence(broken: dict[str, Path], wrong: str, tmp_path: Path) -> None:
    before = set(os.listdir(broken[wrong].parent))
    with pytest.raises(MediaError) as refusal:
        read_frames(broken[wrong], 16)
    sentence = str(refusal.value)
    assert sentence.endswith(".") and "\n" not in sentence and 30 < len(sentence) < 220
    assert "Error" not in sentence and str(broken[wrong].parent) not in sentence
    assert set(os.listdir(broken[wrong].parent)) == before


def test_the_sentences_say_what_is_wrong(broken: dict[str, Path]) -> None:
    assert set(NAMES) == set(broken) and len(NAMES) == 16
    for wrong, word in {"8K": "4K", "three hours by its header": "3:00:00", "one frame": "single frame",
                        "zero bytes": "empty", "no video stream": "moving pictures"}.items():  # fmt: skip
        with pytest.raises(MediaError, match=word):
            read_frames(broken[wrong], 4)


def test_a_decoder_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader waiting on a pipe that nobody writes to stands for a decoder that never returns."""
    pipe = tmp_path / "pipe.gif"
    os.mkfifo(pipe)
    ended: list[int] = []
    kill = video.subprocess.Popen.kill
    monkeypatch.setattr(video.subprocess.Popen, "kill", lambda self: (ended.append(self.pid), kill(self))[1])
    with pytest.raises(MediaError, match="in time"):
        video._collect("pillow", str(pipe), 4, time.monotonic() + 0.3)
    assert ended and not Path(f"/proc/{ended[0]}").exists()


def test_an_upload_in_memory_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = clips.cut(tmp_path / "cut.webm", 0.3).read_bytes()
    room = tmp_path / "room"
    room.mkdir()
    monkeypatch.setattr(video.tempfile, "tempdir", str(room))
    with pytest.raises(MediaError):
        read_media(data, frames=4)
    assert not list(room.iterdir())


@pytest.mark.parametrize("count", [0, -3, 10_000, True, 2.5])
def test_a_senseless_number_of_frames_is_refused(tmp_path: Path, count: object) -> None:
    with pytest.raises(MediaError, match="between 1 and"):
        read_frames(clips.write(tmp_path / "clip.webm", frames=3), count)  # type: ignore[arg-type]


def test_spread_keeps_both_ends_and_never_repeats() -> None:
    starts = np.cumsum(np.random.default_rng(1).exponential(1.0, 500))
    for count in (2, 7, 64, 499, 500, 600):
        index = spread(starts, count)
        assert index[0] == 0 and index[-1] == 499 and (np.diff(index) > 0).all() and len(index) <= count


@pytest.mark.parametrize("reader", ["decord", "opencv"])
def test_one_frame_of_a_long_video_is_its_first(tmp_path: Path, reader: str) -> None:
    path = str(clips.write(tmp_path / "clip.mp4", frames=40))
    frames, times = video._collect(reader, path, 1, time.monotonic() + 60)
    assert [clips.number(f) for f in frames] == [0] and times == [0.0]


# H.264 as phones write it, with B-frames. From 30 frames of `clips.write(".../src.avi")`, with ffmpeg and libx264:
#   h264.mp4          -c:v libx264 -pix_fmt yuv420p -crf 20 -bf 2
#   h264-rotated.mp4  the first with -display_rotation 90 and -c copy: a quarter turn counter-clockwise when shown
#   h264-vfr.mp4      frames 10 to 19 left out (select), -fps_mode vfr: the one before stands for a second
DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("reader", ["decord", "opencv"])
def test_h264_is_read(reader: str) -> None:
    frames, times = video._collect(reader, str(DATA / "h264.mp4"), 6, time.monotonic() + 60)
    assert [clips.number(f) for f in frames] == [0, 5, 11, 17, 23, 29]
    assert times == pytest.approx((0, 0.5, 1.1, 1.7, 2.3, 2.9), abs=0.02) and frames[0][10, 10, 0] > 200


def test_a_turned_phone_video_is_shown_upright() -> None:
    frames, _ = read_frames(DATA / "h264-rotated.mp4", 3)
    assert frames[0].shape == (96, 64, 3)
    assert frames[0][-10, 10, 0] > 200 and frames[0][10, 10, 0] < 60 and frames[0][-10, -10, 0] < 60


def test_a_frame_that_stands_still_is_taken_once() -> None:
    frames, times = read_frames(DATA / "h264-vfr.mp4", 6)
    assert [clips.number(f) for f in frames] == [0, 5, 9, 23, 29]
    assert times == pytest.approx((0, 0.5, 0.9, 2.3, 2.9), abs=0.02)
