"""Changes of form: what people type becomes one of the wordings that were taught, with number and article agreeing.

Everything here works on canonical words (see `language`) without the final question mark.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .catalogue import ASKED_KINDS, COLOURS, NAMES, PLURAL_ONLY, article, bare_plural, indefinite, plural, verb


def alternatives(words: Iterable[str]) -> str:
    """A pattern for any of the words, the longest first."""
    return "|".join(sorted(words, key=len, reverse=True))


_NAME = f"(?:{alternatives(NAMES)})"
_ONE_OF = {bare_plural(name): name for name in NAMES if name not in PLURAL_ONLY}
_MANY = f"(?:{alternatives({*_ONE_OF, *PLURAL_ONLY})})"
_COLOUR = f"(?:{alternatives(COLOURS)})"
_NOUN = f"(?:(?:{_COLOUR}) )?(?:{_NAME}|{_MANY})"
_KIND = f"(?:{alternatives(ASKED_KINDS)})"

# Tried in order, each at most once, on text without the final "?". Left: what people type; right: what was taught.
_FORMS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^(?:and|(?:can|could|would|will) you|i (?:want|would like) to know)(?: if| whether)? (?!see\b)", ""),
        (r"^(?:can|could) (?:i|we|you) (?:see|spot|find)\b", "can you see"),
        (r"^(?:do|did) (?:i|we|you) (?:see|spot|find)\b", "do you see"),
        (r"\b(in|of|on) (?:the |that )?(?:image|picture)$", r"\1 the picture"),
        (r"^(?:the )?(?:image|picture)\b", "the picture"),
        (r"^what (?:can|could) be (?:see|found)\b", "what can you see"),
        (r"\bon the (left|right) side$", r"on the \1"),
        # existence
        (r"^(?:does|do) (?:it|the (?:image|picture)) (?:contain|have|hold|include|show)", "does the picture show"),
        (r"^has (?:it|the (?:image|picture))", "does the picture show"),
        (rf"^(?:(?:a|an|any|some|the) )?({_NOUN})(?: in the picture)?$", r"is there a \1"),
        (rf"^(?:is|are) (a|an|any|some) ({_NOUN})(?: there| visible)?(?: in the picture)?$", r"is there \1 \2"),
        (
            rf"^(?:is|are) there (?:(?:a|an|any|some|the|no) )?({_NOUN})(?: there| visible)?( in the picture)?$",
            r"is there a \1\2",
        ),
        (rf"^(can|do) you see (?:(?:a|an|any|some|the) )?({_NOUN})(?: there| in the picture)?$", r"\1 you see a \2"),
        (rf"^does the picture show (?:(?:a|an|any|some|the) )?({_NOUN})$", r"does the picture show a \1"),
        (rf"^is it (?:a|an|some) ({_NOUN})$", r"is there a \1"),
        (rf"^there (?:is|are) (?:(?:a|an|any|some|the) )?({_NOUN})( in the picture)?$", r"is there a \1\2"),
        # where
        (
            rf"^(?:find|locate|show|spot|point(?: to| at)?) (?:(?:the|a|an) )?({_NOUN})(?: in the picture)?$",
            r"where is the \1",
        ),
        (rf"^where(?: is| are)? (?:(?:the|a|an) )?({_NOUN})(?: placed)?( in the picture)?$", r"where is the \1\2"),
        (rf"^where the ({_NOUN}) (?:is|are)$", r"where is the \1"),
        (r"\bthe (left|right) or (?:to |on )?the (left|right)\b", r"the \1 or \2"),
        (r"\b(?:above|over|higher) or (?:below|under|lower)( than)?\b", "above or below"),
        (r"\b(?:below|under|lower) or (?:above|over|higher)( than)?\b", "below or above"),
        # colour
        (rf"^(what|which) colour (?:is|are|has|have) (?:(?:the|a|an) )?({_NAME}|{_MANY})$", r"\1 colour is the \2"),
        (rf"^(?:the )?colour of (?:the )?({_NAME}|{_MANY})$", r"what is the colour of the \1"),
        (rf"^what is the ({_NAME}|{_MANY}) colour$", r"what is the colour of the \1"),
        # count
        (
            r"^(?:what is )?(?:the )?(?:number of|count(?: of)?(?: all)?(?: the)?) (.+?)"
            r"(?: are there| in the picture)?$",
            r"how many \1 are there",
        ),
        (r"^how many ((?:(?!(?:are|can|do|in)\b)\w+ ?)+)$", r"how many \1 are there"),
        (r"^how many (.+?) (?:is|are) (?:visible|there in the picture)$", r"how many \1 are there"),
        (r"^how many ((?:(?!(?:are|can|do)\b)\w+ )+)in the picture$", r"how many \1are in the picture"),
        # kind
        (rf"^(what|which) ({_KIND})s?(?: is| are)?(?: there)?$", r"\1 \2 is there"),
        (rf"^(what|which) ({_KIND})s?(?: is| are)?(?: there)? in the picture$", r"what \2 is in the picture"),
        (rf"^(what|which) ({_KIND})s? (?:can|do) you see(?: in the picture)?$", r"which \2 can you see"),
        (rf"^what is the ({_KIND})$", r"what \1 is there"),
        # time
        (
            r"^(?:what|which)(?: object)? appears (?:in the video )?first(?: in the video)?\b",
            "what appears first",
        ),
        (
            rf"\bfirst(?: in the video)? (?:the |a |an )?({_NAME}) or (?:the |a |an )?({_NAME})$",
            r"first the \1 or the \2",
        ),
        (rf"^did (?:(?:a|an|any|some|the) )?({_NAME}) appear\b", r"does a \1 appear"),
        (
            rf"^(?:does|do|did) (?:the |a |an )?({_NAME}) or (?:the |a |an )?({_NAME}) appear first(?: in the video)?$",
            r"does the \1 or the \2 appear first",
        ),
        # reading
        (r"^(?:the )?word$", "what word is written"),
        (r"^(?:what|which) word can you (?:read|see)$", "which word can you read"),
        (r"^what is written(?: on the sign)?$", "what word is written"),
        (
            r"^(?:what|which) (?:word|text)(?: is| are)?(?: written| there| visible)?(?: in the picture)?$",
            "what word is written",
        ),
        (r"^what does (?:it|the (?:text|word|sign|picture)) (?:say|read)$", "what does the sign say"),
        (r"^(?:read|say) (?:the )?(?:word|text|sign)$", "what word is written"),
        (r"^what does the sign say$", "what does the sign say"),
    )
)


def rephrase(text: str) -> str:
    """The same question in a form that was taught, if it is one of those that people use instead."""
    for pattern, replacement in _FORMS:
        text = pattern.sub(replacement, text, count=1).strip()
    if not text.startswith("is there"):
        text = re.sub(r"\bimage\b", "picture", text)
    return text


def agree(text: str) -> str:
    """Number and article: plurals where plurals were taught, singulars elsewhere, "an apple", "some bread"."""
    if text.startswith("how many "):
        return re.sub(rf"^(how many (?:{_COLOUR} )?)({_NAME}|{_MANY})\b", _counted, text)
    # "are there any dogs" was taught, "is there a dogs" was not.
    text = re.sub(rf"^is there a ({_MANY})\b", _several, text)
    text = re.sub(rf"\b(the|a|an) ({_MANY})\b", lambda m: f"{m[1]} {_ONE_OF.get(m[2], m[2])}", text)
    text = re.sub(rf"\b(?:a|an|some) ({_NAME})\b", lambda m: indefinite(m[1]), text)
    text = re.sub(rf"\b(?:a|an|some|any) ({_COLOUR}) ({_NAME}|{_MANY})\b", _coloured, text)
    text = re.sub(rf"\bthe ({_COLOUR}) ({_MANY})\b", lambda m: f"the {m[1]} {_ONE_OF.get(m[2], m[2])}", text)
    text = re.sub(rf"^(where(?: in the picture)?) (?:is|are) the ({_NAME})\b", _verbed, text)
    return re.sub(rf"^(?:is|are) the ({_NAME})\b", lambda m: f"{verb(m[1])} the {m[1]}", text)


def _counted(match: re.Match[str]) -> str:
    return match[1] + plural(_ONE_OF.get(match[2], match[2]))


def _several(match: re.Match[str]) -> str:
    # "sheep", "bread" and "scissors" are their own plural: there the singular form is the safe one.
    return match[0] if match[1] in NAMES else f"are there any {match[1]}"


def _coloured(match: re.Match[str]) -> str:
    return f"{article(match[1])} {match[1]} {_ONE_OF.get(match[2], match[2])}"


def _verbed(match: re.Match[str]) -> str:
    return f"{match[1]} {verb(match[2])} the {match[2]}"
