"""Questions about sticker scenes, checked against the scene by a second, independent reading of their text."""

from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np
import pytest

from script_core.stickers.catalogue import COLOURS, KIND_OF, KINDS, NAMES, TINTABLE, bare_plural, indefinite, plural
from script_core.stickers.language import is_taught, understand
from script_core.stickers.questions import KINDS_OF_QUESTION, VOCABULARY, Question, ask
from script_core.stickers.scenes import Scene, Sticker, Word, make_scene

FORMS = {form: name for name in NAMES for form in (name, indefinite(name), plural(name), bare_plural(name))}


def asked(number: int, **settings: object) -> list[tuple[Scene, Question]]:
    rng = np.random.default_rng(21)
    pairs = []
    for i in range(number):
        scene = make_scene(rng, words=i % 2)
        pairs += [(scene, question) for question in ask(scene, rng, **settings)]  # type: ignore[arg-type]
    return pairs


@pytest.fixture(scope="module")
def pairs() -> list[tuple[Scene, Question]]:
    return asked(500)


def nouns(text: str) -> list[str]:
    """The names in a question, in order, found by the longest form that fits."""
    forms = "|".join(sorted(map(re.escape, FORMS), key=len, reverse=True))
    return [FORMS[m] for m in re.findall(rf"\b({forms})\b", text)]


def colour(text: str) -> str | None:
    found = [word for word in text.split() if word in COLOURS]
    return found[0] if found else None


def named(scene: Scene, name: str) -> list[Sticker]:
    return [s for s in scene.stickers if s.name == name]


def check_existence(scene: Scene, q: Question) -> None:
    (name,) = nouns(q.text)
    wanted = colour(q.text)
    there = [s for s in named(scene, name) if wanted in (None, s.colour)]
    assert q.answer == ("yes" if there else "no")


def check_colour(scene: Scene, q: Question) -> None:
    (sticker,) = named(scene, nouns(q.text)[0])
    assert sticker.name in TINTABLE
    wanted = colour(q.text)
    expected = sticker.colour if wanted is None else ("yes" if sticker.colour == wanted else "no")
    assert q.answer == expected


def check_kind(scene: Scene, q: Question) -> None:
    kind = next((word for word in q.text.split() if word in KINDS), None)
    if kind is not None:
        assert [s.name for s in scene.stickers if s.name in KINDS[kind]] == [q.answer]
        return
    inside = [s for s in scene.stickers if at(q.text, s.x, s.y)]
    assert [s.name for s in inside] == [q.answer]


def at(text: str, x: float, y: float) -> bool:
    words = text.split()
    if "middle" in words or "centre" in words:
        return max(abs(x - 0.5), abs(y - 0.5)) < 1 / 6
    tests = {"top": y < 1 / 3, "bottom": y > 2 / 3, "left": x < 1 / 3, "right": x > 2 / 3}
    return all(true for word, true in tests.items() if word in words)


def check_count(scene: Scene, q: Question) -> None:
    found = nouns(q.text)
    wanted = colour(q.text)
    if found:
        number = sum(s.name == found[0] and wanted in (None, s.colour) for s in scene.stickers)
    else:
        group = next(word for word in q.text.split()[2:] if word[:-1] in (*KINDS, "object", "thing"))[:-1]
        number = sum(group in ("object", "thing", KIND_OF[s.name]) for s in scene.stickers)
    assert q.answer == str(number) and number <= 6


def check_where(scene: Scene, q: Question) -> None:
    wanted = colour(q.text)
    (sticker,) = [s for s in named(scene, nouns(q.text)[0]) if wanted in (None, s.colour)]
    row = "top" if sticker.y < 1 / 3 else "bottom" if sticker.y > 2 / 3 else ""
    column = "left" if sticker.x < 1 / 3 else "right" if sticker.x > 2 / 3 else ""
    assert q.answer == (f"{row} {column}".strip() or "middle")
    for value in (sticker.x, sticker.y):
        assert min(abs(value - 1 / 3), abs(value - 2 / 3)) >= 0.04


def check_sides(scene: Scene, q: Question) -> None:
    first, second = nouns(q.text)
    if q.text.startswith("on which side of"):
        first, second = second, first
    (a,), (b,) = named(scene, first), named(scene, second)
    if q.kind == "leftright":
        gap, true = b.x - a.x, "left" if a.x < b.x else "right"
        words = {"left": "left", "right": "right"}
    else:
        gap, true = b.y - a.y, "above" if a.y < b.y else "below"
        words = {"above": "above", "over": "above", "higher": "above", "below": "below", "under": "below",
                 "lower": "below"}  # fmt: skip
    assert abs(gap) >= 0.08
    offered = {words[w] for w in q.text.split() if w in words}
    assert q.answer == (("yes" if true in offered else "no") if len(offered) == 1 else true)


def check_nextto(scene: Scene, q: Question) -> None:
    (anchor,) = named(scene, nouns(q.text)[0])
    others = [s for s in scene.stickers if s is not anchor]
    words = q.text.split()
    if "left" in words or "right" in words:
        sign = -1 if "left" in words else 1
        others = [s for s in others if sign * (s.x - anchor.x) >= abs(s.y - anchor.y)]
    elif "above" in words or "below" in words or "under" in words:
        sign = -1 if "above" in words else 1
        others = [s for s in others if sign * (s.y - anchor.y) >= abs(s.x - anchor.x)]
    far = sorted((math.dist((s.x, s.y), (anchor.x, anchor.y)), s.name) for s in others)
    assert far[0][1] == q.answer
    assert len(far) == 1 or far[0][0] <= 0.76 * far[1][0]


def check_reading(scene: Scene, q: Question) -> None:
    assert [w.text for w in scene.words] == [q.answer]
    assert q.about == (len(scene.stickers),)


CHECKS = {
    "existence": check_existence, "colour": check_colour, "kind": check_kind, "count": check_count,
    "where": check_where, "leftright": check_sides, "abovebelow": check_sides, "nextto": check_nextto,
    "reading": check_reading,
}  # fmt: skip


def test_every_answer_is_what_the_scene_says(pairs: list[tuple[Scene, Question]]):
    assert set(CHECKS) == set(KINDS_OF_QUESTION) == {q.kind for _, q in pairs}
    for scene, question in pairs:
        try:
            CHECKS[question.kind](scene, question)
        except AssertionError as error:
            raise AssertionError(f"{question} about {scene.stickers}: {error}") from error


def test_every_word_is_in_the_vocabulary(pairs: list[tuple[Scene, Question]]):
    known = set(VOCABULARY)
    assert list(VOCABULARY) == sorted(known) and len(known) < 400
    for _, q in pairs:
        assert set(q.text.split()) | set(q.answer.split()) <= known
        assert q.text == " ".join(q.text.split()) and q.text.endswith(" ?") and 1 <= len(q.answer.split()) <= 4


def test_about_and_words_point_at_the_right_stickers(pairs: list[tuple[Scene, Question]]):
    pointed = 0
    for scene, q in pairs:
        found = nouns(q.text)
        for position, sticker in q.words:
            word = q.text.split()[position]
            name = scene.stickers[sticker].name
            assert word in (name, plural(name), plural(name).split()[-1])
            assert len(named(scene, name)) == 1 and sticker in q.about
            pointed += 1
        if q.kind != "reading" and colour(q.text) is None:
            mentioned = {i for i, s in enumerate(scene.stickers) if s.name in found}
            assert mentioned <= set(q.about)
        if q.kind in ("where", "leftright", "abovebelow", "nextto") and colour(q.text) is None:
            assert len(q.words) == len(found)
    assert pointed > 1000


def test_existence_is_balanced_within_every_scene():
    rng = np.random.default_rng(1)
    total: Counter[str] = Counter()
    for _ in range(200):
        answers = Counter(q.answer for q in ask(make_scene(rng), rng, 7, {"existence": 1.0}))
        assert sum(answers.values()) == 7 and abs(answers["yes"] - answers["no"]) == 1
        total += answers
    assert abs(total["yes"] - total["no"]) < 60


def test_other_answers_have_no_easy_favourite(pairs: list[tuple[Scene, Question]]):
    by_kind: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS_OF_QUESTION}
    for _, q in pairs:
        by_kind[q.kind][q.answer] += 1
    most = {kind: answers.most_common(1)[0][1] / sum(answers.values()) for kind, answers in by_kind.items()}
    assert most["count"] < 0.4 and most["where"] < 0.2 and most["colour"] < 0.25
    assert most["leftright"] < 0.35 and most["abovebelow"] < 0.35 and most["kind"] < 0.12


def test_absent_objects_follow_the_setting():
    rng = np.random.default_rng(5)
    scene = Scene((Sticker("dog"), Sticker("cow", x=0.2)))
    only = {"existence": 1.0}
    near = {nouns(q.text)[0] for q in ask(scene, rng, 40, only, "adversarial") if q.answer == "no"}
    common = {nouns(q.text)[0] for q in ask(scene, rng, 40, only, "popular") if q.answer == "no"}
    spread = {KIND_OF[nouns(q.text)[0]] for q in ask(scene, rng, 40, only, "random") if q.answer == "no"}
    assert near <= set(KINDS["animal"]) - {"dog", "cow"} and common <= TINTABLE and len(spread) > 4


def test_same_seed_same_questions():
    scene = make_scene(np.random.default_rng(8))
    assert ask(scene, np.random.default_rng(9)) == ask(scene, np.random.default_rng(9))


def test_an_empty_scene_only_has_things_that_are_not_there():
    questions = ask(Scene(), np.random.default_rng(0), 8)
    assert {q.answer for q in questions} <= {"no", "0"} and all(not q.about for q in questions)


def test_the_mix_is_respected_and_mistakes_are_explained():
    rng = np.random.default_rng(0)
    scene = Scene((Sticker("car", "red", 0.2, 0.2), Sticker("dog", None, 0.8, 0.8)), words=(Word("open"),))
    assert {q.kind for q in ask(scene, rng, 3, {"where": 1.0, "reading": 1.0})} == {"where", "reading"}
    assert ask(Scene(), rng, 4, {"colour": 1.0}) == []
    with pytest.raises(ValueError, match="taste"):
        ask(scene, rng, 4, {"taste": 1.0})
    with pytest.raises(ValueError, match="negatives"):
        ask(scene, rng, 4, negatives="hard")


def test_what_was_taught_is_understood_as_it_is(pairs: list[tuple[Scene, Question]]):
    for _, q in pairs:
        assert is_taught(q.text), q.text
        understood = understand(q.text)
        assert (understood.text, understood.unknown, understood.taught) == (q.text, (), True)
