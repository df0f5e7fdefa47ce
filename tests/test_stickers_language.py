"""How typed questions are understood: other wordings, small slips, unknown words, and any text at all."""

from __future__ import annotations

import pytest

from script_core.stickers.language import understand


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("Is there a puppy in the photo?", "is there a dog in the picture ?"),
        ("Are there dogs in this picture?", "are there any dogs in the picture ?"),
        ("dog", "is there a dog ?"),
        ("red car?", "is there a red car ?"),
        ("What's the color of the automobile?", "what is the colour of the car ?"),
        ("the car's color", "what is the colour of the car ?"),
        ("What colour are the shirts?", "what colour is the shirt ?"),
        ("Where\u2019s the scissors?", "where are the scissors ?"),
        ("where is the kitty located?", "where is the cat ?"),
        ("Can you tell me where the apple is?", "where is the apple ?"),
        ("please find the hammer", "where is the hammer ?"),
        ("How many dogs?", "how many dogs are there ?"),
        ("how many puppy are there", "how many dogs are there ?"),
        ("count the stars", "how many stars are there ?"),
        ("How many red cars are there?", "how many red cars are there ?"),
        ("how many scissors are there", "how many pairs of scissors are there ?"),
        ("What animals can you see?", "which animal can you see ?"),
        ("is the apple to the left or to the right of the banana", "is the apple to the left or right of the banana ?"),
        ("Is the plane above or below the lorry?", "is the airplane above or below the truck ?"),
        ("is the scissors above the bus?", "are the scissors above the bus ?"),
        ("what is beside the tree?", "what is next to the tree ?"),
        ("whats underneath the horse", "what is under the horse ?"),
        ("what is in the upper left corner", "what is in the top left corner ?"),
        ("is there an scissor", "is there a pair of scissors ?"),
        ("is there a bread", "is there some bread ?"),
        ("does the image contain a coffee mug?", "does the picture show a cup ?"),
        ("hello, is there a soccer ball?", "is there a ball ?"),
        ("Read the word!", "what word is written ?"),
        ("What comes first?", "what appears first ?"),
        ("Which one comes in first?", "which object appears first ?"),
        ("What comes first, the cat or a puppy?", "what appears first the cat or the dog ?"),
        ("Which one comes in first: the cat or the dog?", "which object appears first the cat or the dog ?"),
        ("Did the kitty or the dog show up first?", "does the cat or the dog appear first ?"),
        ("Which thing arrives first in the clip?", "what appears first ?"),
        ("Did a dog come in?", "does a dog appear ?"),
        ("IS THERE A CAR???", "is there a car ?"),
    ],
)
def test_synonyms_and_other_wordings(typed: str, text: str):
    understood = understand(typed)
    assert understood.text == text and understood.unknown == () and understood.taught


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("is there a strawbery ?", "is there a strawberry ?"),
        ("where is the hosre", "where is the horse ?"),
        ("is ther a baloon", "is there a balloon ?"),
        ("what color is the umbrela", "what colour is the umbrella ?"),
    ],
)
def test_small_slips_are_corrected(typed: str, text: str):
    understood = understand(typed)
    assert understood.text == text and understood.unknown == ()


@pytest.mark.parametrize(
    ("typed", "unknown"),
    [
        ("Is there a unicorn?", ("unicorn",)),
        ("What is the dog doing?", ("doing",)),
        ("where is the big hammer", ("big",)),
        ("is there any water", ("water",)),
        ("is there a zzz and a qqq or a zzz", ("zzz", "qqq")),
    ],
)
def test_unknown_words_are_reported_not_guessed(typed: str, unknown: tuple[str, ...]):
    understood = understand(typed)
    assert understood.unknown == unknown
    if unknown != ("big",):
        assert not understood.taught and all(word in understood.text.split() for word in unknown)


@pytest.mark.parametrize("typed", ["", "   ", "???", "\x00\u202e", "please", "\U0001f436", "a" * 5000, "dog " * 2000])
def test_any_text_is_accepted(typed: str):
    understood = understand(typed)
    assert len(understood.text.split()) <= 31
    assert understood.text == "" or understood.text.endswith(" ?")
