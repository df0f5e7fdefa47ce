"""What the embedded model is not asked: words that it does not know, and how that is said everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from script_core.__main__ import main
from script_core.engine import Engine, QuestionError
from script_core.prefill import Decoding
from script_core.report import Encoded, Finished, Selected
from script_core.stickers.catalogue import NAMES, bare_plural
from script_core.stickers.language import understand
from script_core.stickers.realwords import REAL_WORDS
from script_core.understanding import in_sticker_words

SCENE = str(Path(__file__).parent.parent / "assets" / "examples" / "penguins.png")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load()


@pytest.mark.parametrize("noun", [
    "giraffe", "zeppelin", "mouse", "desk", "couch", "lamp", "flower", "goat", "bear", "coat", "nose", "sword",
    "castle", "plate", "lake", "kangaroo", "desks", "lamps",
])  # fmt: skip
def test_a_thing_it_does_not_know_is_not_taken_for_one_that_it_knows(noun: str) -> None:
    for question in (f"is there a {noun}?", f"where is the {noun}?", f"how many {noun}s are there?"):
        understood = in_sticker_words(question)
        assert understood.refusal and noun.rstrip("s") in understood.refusal, question
        assert understood.notice and understood.notice.startswith(understood.refusal)
        assert all(name in understood.notice for name in NAMES)


@pytest.mark.parametrize(("typed", "meant"), [
    ("is there an elefant", "is there an elephant ?"),
    ("where is teh umbrela", "where is the umbrella ?"),
    ("how many sissors", "how many pairs of scissors are there ?"),
    ("is there a bycicle?", "is there a bicycle ?"),
    ("what kind of animal is there?", "what animal is there ?"),
    ("what can be seen in the upper left corner?", "what can you see in the top left corner ?"),
    ("is the cat over or under the dog?", "is the cat above or below the dog ?"),
    ("what words can you read?", "which word can you read ?"),
    ("what is on the left side", "what is on the left ?"),
])  # fmt: skip
def test_slips_and_other_wordings_are_still_understood(typed: str, meant: str) -> None:
    understood = in_sticker_words(typed)
    assert (understood.text, understood.refusal, understood.notice) == (meant, None, None)


def test_no_word_that_it_knows_is_listed_as_another() -> None:
    for name in NAMES:
        for word in {name, *bare_plural(name).split()}:
            assert word not in REAL_WORDS
            assert understand(f"is there a {word} ?").unknown == ()


def test_an_adjective_is_left_out_and_said() -> None:
    understood = in_sticker_words("is there a big dog?")
    assert understood.refusal is None and understood.text == "is there a dog ?"
    assert understood.notice == 'I do not know "big"; this answers "is there a dog ?" instead.'


@pytest.mark.parametrize(("question", "said"), [
    ("\u732b\u306f\u3069\u3053", "I do not know the word"),
    ("???", "I do not know any of these words."),
    ("does it say stop?", 'I can only read "stop"'),
    ("is the giraffe left of the zebra?", '"giraffe" and "zebra".'),
    ("a1 b2 c3 d4 e5 f6 g7 h8", '"a1", "b2", "c3", "d4", "e5" and others.'),
    ("x" * 2000, "x" * 40 + '".'),
])  # fmt: skip
def test_a_refusal_is_one_short_sentence(question: str, said: str) -> None:
    refusal = in_sticker_words(question).refusal
    assert refusal and said in refusal and len(refusal) < 300


@pytest.mark.parametrize(("question", "named"), [
    ("is there a \U0001f992 ?", "\U0001f992"),
    ("is there a \U0001f992?", "\U0001f992"),
    ("is there a dog\U0001f642", "\U0001f642"),
    ("is there a \u2764\ufe0f ?", "\u2764\ufe0f"),
    ("is there a dog + an apple ?", "+"),
    ("is there a \x00 ?", "U+0000"),
    ("is there a \u200b ?", "U+200B"),
    ("is there a ____ ?", "____"),
    ("the dog is left of the _ ?", "_"),
    ("is there a ??? ?", "???"),
    ("is there a ??? in the picture ?", "???"),
    ("where is the *** ?", "***"),
])  # fmt: skip
def test_what_stands_in_place_of_a_word_is_a_word(question: str, named: str) -> None:
    assert in_sticker_words(question).refusal == f'I do not know the word "{named}".'


@pytest.mark.parametrize("question", [
    "is there a dog???", "is there a dog ??? ", "is there a dog.", "is there a (dog)?", 'is there a " dog " ?',
    "is there a \u201cdog\u201d ?", "is there a -- dog ?", "is there a ... dog ?", "is there a dog\u2026",
    "is there a _dog_ ?", "hello, is there a dog, please?!", "\ufeffis there a dog?\u200b", "is there a do\u00adg ?",
])  # fmt: skip
def test_ordinary_punctuation_is_no_word(question: str) -> None:
    understood = in_sticker_words(question)
    assert (understood.text, understood.refusal, understood.notice) == ("is there a dog ?", None, None)


@pytest.mark.parametrize("question", [
    "\u0130s there an apple ?", "is there an \u00e1ppl\u00e9 ?", "\uff29s there an apple\uff1f",
])  # fmt: skip
def test_accents_and_other_forms_of_letters_are_understood(question: str) -> None:
    understood = in_sticker_words(question)
    assert (understood.text, understood.refusal) == ("is there an apple ?", None)


@pytest.mark.parametrize("mark", ["'", "\u2019", "\u2018", "`", "\u00b4"])
def test_every_apostrophe_is_one(mark: str) -> None:
    assert in_sticker_words(f"where{mark}s the dog ?").text == "where is the dog ?"


def test_a_refused_question_costs_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Decoding, "__init__", lambda *a, **o: pytest.fail("the language model ran"))
    events = list(engine.stream(SCENE, "is there a giraffe?", budget=32))
    assert [type(event) for event in events] == [Encoded, Selected, Finished]
    result = engine.ask(SCENE, "is there a giraffe?", budget=32)
    assert result.declined and result.answer == 'I do not know the word "giraffe".'
    assert result.token_ids == () and result.counters.generated == 0 and result.counters.measured.prefill_ms == 0
    assert result.counters.computed.flops == 0 and set(result.counters.entering) == {0}
    assert len(result.selection) == 32, "which tokens would stay can still be shown"


def test_what_needs_an_answer_says_so_instead(engine: Engine) -> None:
    for call in (lambda: engine.compare(SCENE, "is there a giraffe?"),
                 lambda: engine.forced_logits(SCENE, "is there a giraffe?", [1])):  # fmt: skip
        with pytest.raises(QuestionError, match='I do not know the word "giraffe". I only know 86 things'):
            call()


def test_other_models_are_asked_whatever_is_typed(llava: Engine) -> None:
    assert llava.understand("is there a giraffe?").refusal is None


def test_the_command_line_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", SCENE, "is there a giraffe?"]) == 0
    assert capsys.readouterr().out.startswith('I do not know the word "giraffe". I only know 86 things')
    assert main(["ask", SCENE, "is there a giraffe?", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["declined"] is True and told["token_ids"] == [] and len(told["kept"]) == 64


def test_compare_and_the_public_endpoints_say_the_same() -> None:
    from ui.api import Endpoints
    from ui.compare import CompareHandlers
    from ui.runtime import Host

    host = Host()
    host.start()
    asked = ("is there a giraffe?", 32)
    views = list(CompareHandlers(host).run("", SCENE, *asked, ["script", "random"], 4))
    said = " ".join(view.get("note", "") for view in views)
    assert "I do not know the word" in said and "giraffe" in said and "grid" not in repr(views)
    assert views[-1] == {"stop": {"interactive": False}}
    calls = Endpoints(host, per_minute=100)
    told = calls.answer("penguins", asked[0], budget=32, request=None)
    assert told["declined"] is True and told["answer"] == 'I do not know the word "giraffe".' and told["kept"] == 32
    assert told["counters"]["generated"] == 0 and len(json.dumps(told)) < 4000
    with pytest.raises(QuestionError, match="giraffe"):
        calls.compare("penguins", asked[0], ["script", "random"], 32, request=None)
    assert calls.explain("penguins", asked[0], budget=32, request=None)["selection"]["kept"]
    assert calls.answer("penguins", "is there a dog?", budget=32, request=None)["declined"] is False
