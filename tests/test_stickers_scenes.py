"""Sticker scenes: the catalogue's grammar, the drawing, and the promises that the labels rest on."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from script_core.stickers import catalogue
from script_core.stickers.atlas import PAINT, sprites
from script_core.stickers.catalogue import COLOURS, KINDS, NAMES, TINTABLE, indefinite, plural
from script_core.stickers.clips import ask_clip, make_clip
from script_core.stickers.questions import VOCABULARY
from script_core.stickers.rendering import CLUTTER, PATTERNS
from script_core.stickers.scenes import (
    Background,
    Clutter,
    Scene,
    Sticker,
    Word,
    coverage,
    make_scene,
    render,
)


def scenes(number: int, **settings: object) -> list[Scene]:
    rng = np.random.default_rng(11)
    return [make_scene(rng, **settings) for _ in range(number)]  # type: ignore[arg-type]


def test_every_name_has_one_kind_and_no_written_word_names_an_object():
    assert len(NAMES) == len(set(NAMES)) == 86
    assert sorted(name for names in KINDS.values() for name in names) == sorted(NAMES)
    assert len(TINTABLE) == 10 and set(NAMES) >= TINTABLE
    assert not set(catalogue.READABLE) & {word for name in NAMES for word in (name, *plural(name).split())}
    assert all(3 <= len(word) <= 6 for word in catalogue.READABLE)


@pytest.mark.parametrize(
    ("name", "one", "many"),
    [
        ("apple", "an apple", "apples"),
        ("umbrella", "an umbrella", "umbrellas"),
        ("axe", "an axe", "axes"),
        ("bus", "a bus", "buses"),
        ("knife", "a knife", "knives"),
        ("leaf", "a leaf", "leaves"),
        ("wrench", "a wrench", "wrenches"),
        ("dress", "a dress", "dresses"),
        ("sheep", "a sheep", "sheep"),
        ("butterfly", "a butterfly", "butterflies"),
        ("bread", "some bread", "loaves of bread"),
        ("grapes", "a bunch of grapes", "bunches of grapes"),
        ("scissors", "a pair of scissors", "pairs of scissors"),
    ],
)
def test_articles_and_plurals(name: str, one: str, many: str):
    assert indefinite(name) == one
    assert plural(name) == many


def test_same_seed_same_scene_same_pixels_whatever_was_drawn_before():
    first = make_scene(np.random.default_rng(3), words=1)
    render(make_scene(np.random.default_rng(4)), 168)
    cv2.setRNGSeed(99)
    second = make_scene(np.random.default_rng(3), words=1)
    assert first == second
    one, two = render(first, 168), render(second, 168)
    assert np.array_equal(one.image, two.image) and np.array_equal(one.owner, two.owner)
    assert make_scene(np.random.default_rng(5)) != first


def test_the_same_scene_lies_at_the_same_place_at_every_resolution():
    for scene in scenes(12):
        small, large = render(scene, 168).owner, render(scene, 672).owner
        for i in range(len(scene.stickers)):
            centres = [np.argwhere(o == i).mean(0) + 0.5 for o in (small, large)]
            assert np.abs(centres[0] / 168 - centres[1] / 672).max() < 0.006
            shares = [(o == i).mean() for o in (small, large)]
            assert shares[0] == pytest.approx(shares[1], rel=0.15, abs=0.001)


def test_every_sticker_is_mostly_visible_and_mostly_inside():
    rng = np.random.default_rng(0)
    for objects in ((1, 9), (16, 16)):
        for _ in range(40):
            scene = make_scene(rng, objects=objects)
            owner = render(scene, 168).owner
            for i, sticker in enumerate(scene.stickers):
                # Alone, and moved to the middle of a large canvas: everything there is of it.
                whole = render(Scene((replace(sticker, x=0.5, y=0.5, size=sticker.size / 2),)), 336).owner
                assert (owner == i).sum() >= 0.6 * (whole == 0).sum(), (scene, i)


def test_numbers_sizes_and_settings_are_kept():
    for scene in scenes(60, objects=(2, 4), sizes=(0.15, 0.2), duplicates=0.0, busy=0.0):
        assert 2 <= len(scene.stickers) <= 4 and not scene.words and not scene.background.clutter
        assert all(0.15 <= s.size <= 0.2 for s in scene.stickers)
        assert len({s.name for s in scene.stickers}) == len(scene.stickers)
        assert all((s.colour in COLOURS) == (s.name in TINTABLE) for s in scene.stickers)
    assert any(len({s.name for s in scene.stickers}) < len(scene.stickers) for scene in scenes(20, duplicates=1.0))
    assert make_scene(np.random.default_rng(0), objects=(0, 0)).stickers == ()


def test_coverage_counts_every_pixel_once():
    for scene in scenes(10):
        rendered = render(scene, 168)
        shares = coverage(rendered.owner, 14, len(scene.stickers))
        assert shares.shape == (144, len(scene.stickers)) and shares.dtype == np.float32
        for i in range(len(scene.stickers)):
            assert shares[:, i].sum() * 196 == pytest.approx((rendered.owner == i).sum(), abs=0.01)
        assert shares.sum(1).max() <= 1 + 1e-6
        row, col = 5, 7
        block = rendered.owner[row * 14 : row * 14 + 14, col * 14 : col * 14 + 14]
        assert shares[row * 12 + col, 0] == pytest.approx((block == 0).mean())


def test_coverage_of_a_square_that_fills_a_quarter():
    owner = np.full((28, 28), -1, np.int16)
    owner[:14, 14:] = 0
    owner[14:, :7] = 1
    assert coverage(owner, 14, 2).tolist() == [[0, 0], [1, 0], [0, 0.5], [0, 0]]
    assert coverage(owner, 14, 1).tolist() == [[0], [1], [0], [0]]


def test_a_word_is_owned_after_the_stickers_and_left_out_of_their_coverage():
    scene = Scene((Sticker("dog", x=0.2, y=0.2, size=0.3),), words=(Word("open", 0.6, 0.7, 0.5),))
    owner = render(scene, 168).owner
    assert set(np.unique(owner)) == {-1, 0, 1}
    rows, cols = np.nonzero(owner == 1)
    assert cols.max() - cols.min() + 1 == pytest.approx(0.5 * 168, abs=3)
    assert coverage(owner, 14, 1).shape == (144, 1)
    assert coverage(owner, 14, 2)[:, 1].sum() > 0


def test_the_size_is_the_longer_side_and_flip_mirrors():
    plain, mirrored = (render(Scene((Sticker("car", "red", size=0.5, flip=f),)), 336) for f in (False, True))
    rows, cols = np.nonzero(plain.owner == 0)
    assert max(np.ptp(rows), np.ptp(cols)) + 1 == pytest.approx(168, abs=3)
    assert (plain.owner[:, ::-1] != mirrored.owner).mean() < 0.005


def test_later_stickers_lie_in_front():
    both = Scene((Sticker("square", "red", size=0.6), Sticker("square", "blue", size=0.3)))
    rendered = render(both, 168)
    assert rendered.owner[84, 84] == 1 and rendered.owner[84, 45] == 0
    assert rendered.image[84, 84, 2] > 180 > rendered.image[84, 84, 0]


@pytest.mark.parametrize("style", ["noto", "twemoji"])
def test_tints_are_the_nearest_of_the_six_colours(style: str):
    for name in TINTABLE:
        for colour in COLOURS:
            sprite = sprites(style)[name, colour][1].astype(float)
            pixels = sprite[(sprite[..., 3] > 250)][:, :3]
            vivid = pixels[np.ptp(pixels, axis=1) > 60]
            paints = np.array([PAINT[c] for c in COLOURS], float)
            nearest = np.abs(vivid[:, None] - paints).sum(-1).argmin(1)
            share = (nearest == COLOURS.index(colour)).mean()
            assert len(vivid) > 0.2 * len(pixels) and share > 0.6, (name, colour, share)


@pytest.mark.parametrize("style", ["noto", "twemoji"])
def test_every_object_has_a_picture_of_its_own(style: str):
    seen = {name: sprites(style)[name, None][3] for name in NAMES}
    for name, picture in seen.items():
        assert (picture[..., 3] > 127).mean() > 0.08, name
    assert len({picture.tobytes() for picture in seen.values()}) == 86


def test_every_pattern_and_every_clutter_shape_draws():
    for pattern in PATTERNS:
        image = render(Scene(background=Background(pattern, (0, 0, 0), (250, 250, 250))), 84).image
        assert (image.max() == 0) if pattern == "flat" else (np.ptp(image) > 150), pattern
    for shape in CLUTTER:
        scene = Scene(background=Background(clutter=(Clutter(shape, (255, 0, 0), 0.5, 0.5, 0.5),)))
        rendered = render(scene, 84)
        assert 20 < (rendered.image == (255, 0, 0)).all(-1).sum() < 84 * 84 / 3, shape
        assert (rendered.owner == -1).all()


def test_noise_and_brightness_change_the_pixels_and_not_the_owners():
    plain = Scene((Sticker("cup"),))
    noisy, dim = render(replace(plain, noise=8.0), 168), render(replace(plain, brightness=0.8), 168)
    base = render(plain, 168)
    corner = noisy.image[:30, :30].astype(float) - base.image[:30, :30]
    assert corner.std() == pytest.approx(8, abs=1) and abs(corner.mean()) < 1.5
    assert dim.image[0, 0, 0] == pytest.approx(0.8 * base.image[0, 0, 0], abs=1)
    assert np.array_equal(noisy.owner, base.owner) and np.array_equal(dim.owner, base.owner)


def test_mistakes_are_explained():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="unicorn"):
        render(Scene((Sticker("unicorn"),)))
    with pytest.raises(ValueError, match="pink"):
        render(Scene((Sticker("car", "pink"),)))
    with pytest.raises(ValueError, match="colour"):
        render(Scene((Sticker("dog", "red"),)))
    with pytest.raises(ValueError, match="style"):
        render(Scene(), 168, "cartoon")
    with pytest.raises(ValueError, match="pattern"):
        render(Scene(background=Background("plaid")))
    with pytest.raises(ValueError, match="objects"):
        make_scene(rng, objects=(3, 17))
    with pytest.raises(ValueError, match="sizes"):
        make_scene(rng, sizes=(0.5, 0.2))
    with pytest.raises(ValueError, match="patches"):
        coverage(np.zeros((30, 30), np.int16), 14, 1)


def test_a_clip_moves_only_what_its_events_say():
    rng = np.random.default_rng(2)
    words = set(VOCABULARY)
    kinds = set()
    named_first = []
    for _ in range(60):
        clip = make_clip(rng, 6)
        assert len(clip.frames) == 6 and 1 <= len(clip.events) <= 2
        moved = {event.sticker: event for event in clip.events}
        for t, (frame, here) in enumerate(zip(clip.frames, clip.present, strict=True)):
            assert frame.background == clip.frames[0].background
            for sticker, index in zip(frame.stickers, here, strict=True):
                assert 0 < sticker.x < 1
                if index not in moved:
                    assert sticker == clip.cast[index]
            assert all(t < moved[i].enters for i in range(len(clip.cast)) if i not in here)
        for question in ask_clip(clip, rng):
            kinds.add(question.kind)
            assert set(f"{question.text} {question.answer}".split()) <= words
            if question.kind == "moves":
                (index,) = question.about
                path = [f.stickers[h.index(index)].x for f, h in zip(clip.frames, clip.present, strict=True)]
                assert question.answer == ("right" if path[-1] > path[0] else "left")
                assert abs(path[-1] - path[0]) >= 0.29
                continue
            entered = {i: min(t for t, h in enumerate(clip.present) if i in h) for i in range(len(clip.cast))}
            if question.kind == "order":
                earlier, later = (
                    question.about if entered[question.about[0]] < entered[question.about[1]] else question.about[::-1]
                )
                assert entered[earlier] < entered[later] and clip.cast[earlier].name == question.answer
                assert [question.text.split()[at] for at, _ in question.words] == [
                    clip.cast[i].name for i in question.about
                ]
                assert [index for _, index in question.words] == list(question.about)
                named_first.append(question.about[0] == earlier)
            elif question.kind == "first":
                late = {i: t for i, t in entered.items() if t > 0}
                assert clip.cast[min(late, key=lambda i: late[i])].name == question.answer
            else:
                shown = any(s.name in question.text.split() for f in clip.frames for s in f.stickers)
                assert question.answer == ("yes" if shown else "no")
    assert kinds == {"appears", "moves", "order", "first"}
    assert 0.3 < np.mean(named_first) < 0.7, "the place in the question must not give the answer away"
    for _ in range(20):
        clip = make_clip(rng, 8, arrivals=1.0)
        assert len(clip.events) == 2 and all(event.enters and event.travel == (0.0, 0.0) for event in clip.events)
    asked = ask_clip(clip, rng, 3, {"moves": 1.0, "appears": 0.2})
    assert {question.kind for question in asked} == {"appears"}, "nothing moves"
    with pytest.raises(ValueError, match="frames"):
        make_clip(rng, 1)
