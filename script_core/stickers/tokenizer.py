"""The word-level tokenizer of the embedded model: one word, one token.

Questions are lower-case words separated by spaces with "?" as a word of its own, so a 300-word vocabulary is enough
and a token is something that a person can point at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, UNK, BOS, EOS, IMAGE = range(5)
SPECIALS = ("<pad>", "<unk>", "<s>", "</s>", "<image>")
CUE = ":"  # ends the prompt; the answer follows

# The picture always comes first, as in the training sequences, wherever it stands in the message.
CHAT_TEMPLATE = (
    "{{ '<s>' }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}"
    "{% if message['content'] is string %}{{ message['content'] + ' :' }}"
    "{% else %}"
    "{% for part in message['content'] if part['type'] in ['image', 'video'] %}{{ '<image>' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] + ' :' }}{% endfor %}"
    "{% endif %}"
    "{% else %}"
    "{% if message['content'] is string %}{{ ' ' + message['content'] + ' </s>' }}"
    "{% else %}{% for part in message['content'] %}{{ ' ' + part['text'] + ' </s>' }}{% endfor %}{% endif %}"
    "{% endif %}{% endfor %}"
)


def word_ids(vocabulary: Sequence[str]) -> dict[str, int]:
    """Every token and its id: the specials, the answer cue, then the vocabulary in its own order."""
    words = [w for w in dict.fromkeys(vocabulary) if w != CUE and w not in SPECIALS]
    return {word: i for i, word in enumerate((*SPECIALS, CUE, *words))}


def encode(ids: dict[str, int], text: str) -> list[int]:
    """Ids of canonical text (words separated by single spaces); unknown words become <unk>."""
    return [ids.get(word, UNK) for word in text.split()]


def build_tokenizer(ids: dict[str, int], *, frame: bool = False) -> PreTrainedTokenizerFast:
    """The tokenizer that ships with the checkpoint; with `frame` every text becomes `<s> text </s>` (text tower)."""
    from transformers import PreTrainedTokenizerFast  # takes longer to import than all else that knows the words

    core = Tokenizer(WordLevel(ids, unk_token="<unk>"))
    core.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    if frame:
        core.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", BOS), ("</s>", EOS)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left" if not frame else "right",
        model_max_length=48 if frame else 4096,
        clean_up_tokenization_spaces=False,
    )
    if not frame:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
