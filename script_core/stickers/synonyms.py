"""What people call the things that the embedded model knows under one name each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_NOUNS: dict[str, str] = {
    "cup": "mug coffee tea teacup cuppa espresso cappuccino",
    "teapot": "kettle",
    "knife": "blade dagger",
    "spoon": "teaspoon tablespoon",
    "bottle": "champagne wine flask",
    "banana": "plantain",
    "grapes": "grape",
    "strawberry": "berry",
    "watermelon": "melon",
    "lemon": "citrus lime",
    "cherries": "cherry",
    "pineapple": "ananas",
    "kiwi": "kiwifruit",
    "corn": "maize corncob sweetcorn",
    "bread": "loaf toast",
    "burger": "hamburger cheeseburger",
    "egg": "eggs",
    "cake": "pie gateau",
    "donut": "doughnut",
    "cookie": "biscuit",
    "dog": "puppy doggy doggie pup hound pooch",
    "cat": "kitten kitty pussycat tomcat",
    "cow": "bull calf ox cattle",
    "horse": "pony stallion mare foal",
    "pig": "piggy piglet hog swine",
    "sheep": "lamb ewe ram",
    "rabbit": "bunny hare",
    "duck": "duckling mallard drake",
    "fish": "goldfish trout salmon",
    "elephant": "elefant elephent",
    "penguin": "pinguin",
    "frog": "toad",
    "turtle": "tortoise",
    "butterfly": "moth",
    "bee": "bumblebee honeybee wasp",
    "car": "automobile auto sedan",
    "bus": "coach minibus",
    "truck": "lorry van",
    "bicycle": "bike cycle pushbike bycicle bycycle bicicle",
    "airplane": "plane aeroplane aircraft jet airliner",
    "train": "locomotive steamtrain",
    "boat": "sailboat ship yacht sailingboat",
    "helicopter": "chopper",
    "rocket": "spaceship spacecraft missile",
    "hammer": "mallet",
    "scissors": "scissor shears sissors scisors",
    "saw": "handsaw",
    "wrench": "spanner",
    "axe": "ax hatchet",
    "cactus": "cactuses",
    "guitar": "ukulele",
    "trumpet": "horn bugle cornet",
    "drum": "drumkit",
    "piano": "keyboard",
    "shirt": "tshirt tee",
    "hat": "cap tophat",
    "shoe": "sneaker trainer boot",
    "dress": "gown frock",
    "glasses": "spectacles eyeglasses sunglasses specs",
    "circle": "disc disk dot",
    "baby": "infant child kid toddler",
    "book": "novel textbook notebook",
    "umbrella": "parasol brolly",
    "gift": "present parcel giftbox",
    "chair": "stool seat",
    "clock": "alarm",
    "phone": "telephone handset receiver",
    "camera": "cam",
    "ball": "football soccerball",
    "house": "home cottage building",
}

_OTHERS: dict[str, str] = {
    "animal": "creature beast",
    "vegetable": "veggie veg",
    "object": "item sticker thing",
    "red": "crimson scarlet",
    "purple": "violet lilac",
    "yellow": "golden gold",
    "blue": "navy azure",
    "green": "lime-green emerald",
    "colour": "color hue",
    "picture": "photo photograph scene drawing pic img illustration",
    "video": "clip movie",
    "appear": "come arrive enter",
    "appears": "comes arrives enters",
    "middle": "center",
    "under": "underneath beneath",
    "near": "nearby",
    "bottom": "lower",
    "top": "upper",
    "placed": "located situated positioned",
    "closest": "nearest",
    "position": "location",
    "sign": "label",
    "word": "words",
    "see": "seen",
    "there": "their",
    "the": "teh hte",
    "what": "wat wht",
    "how": "hwo",
}

PAIRS: Mapping[tuple[str, ...], str] = MappingProxyType({
    ("soccer", "ball"): "ball", ("alarm", "clock"): "clock", ("t", "shirt"): "shirt", ("tee", "shirt"): "shirt",
    ("top", "hat"): "hat", ("coffee", "cup"): "cup", ("cup", "of", "coffee"): "cup", ("tea", "pot"): "teapot",
    ("sail", "boat"): "boat", ("sailing", "boat"): "boat", ("water", "melon"): "watermelon",
    ("pine", "apple"): "pineapple", ("sun", "flower"): "sunflower", ("maple", "leaf"): "leaf",
    ("sun", "glasses"): "glasses", ("eye", "glasses"): "glasses", ("gift", "box"): "gift",
    ("steam", "train"): "train", ("loaf", "of", "bread"): "bread", ("piece", "of", "cheese"): "cheese",
    ("slice", "of", "cheese"): "cheese", ("slice", "of", "pizza"): "pizza", ("ear", "of", "corn"): "corn",
    ("space", "ship"): "rocket", ("butter", "fly"): "butterfly", ("tea", "cup"): "cup", ("bumble", "bee"): "bee",
    ("cell", "phone"): "phone", ("mobile", "phone"): "phone", ("slice", "of", "bread"): "bread",
    ("head", "of", "broccoli"): "broccoli", ("on", "top", "of"): "above", ("close", "to"): "near",
    ("beside",): "next to", ("adjacent", "to"): "next to", ("left", "to"): "left of", ("right", "to"): "right of",
    ("how", "much"): "how many", ("each", "side"): "which side", ("positioned",): "placed",
    ("musical", "instrument"): "instrument", ("musical", "instruments"): "instruments",
    ("kind", "of"): "", ("kinds", "of"): "", ("sort", "of"): "", ("type", "of"): "", ("types", "of"): "",
    ("which", "one"): "which object", ("come", "in"): "appear", ("comes", "in"): "appears",
    ("show", "up"): "appear", ("shows", "up"): "appears",
    ("the", "plate", "say"): "the sign say", ("foot", "ball"): "ball",
})  # fmt: skip
"""Runs of words that mean one word (or the wording that the model was taught)."""


def _expand(table: Mapping[str, str]) -> dict[str, str]:
    return {word: name for name, words in table.items() for word in words.split()}


NOUN_SYNONYMS: Mapping[str, str] = MappingProxyType(_expand(_NOUNS))
"""Singular noun -> the catalogue's name."""

SYNONYMS: Mapping[str, str] = MappingProxyType(_expand(_OTHERS))
"""Other words -> the vocabulary's word."""

FILLERS: frozenset[str] = frozenset(
    "please kindly tell me hey hello hi well so just actually really maybe also exactly currently now here ok okay "
    "thanks very clearly somewhere anywhere this shown pictured".split()
)
"""Words that are dropped without a word."""

ADJECTIVES: frozenset[str] = frozenset(
    "big small large little tiny huge cute nice old new pretty beautiful bright dark single other different".split()
)
"""Words that are dropped from the text but reported, as dropping them can change what was meant."""
