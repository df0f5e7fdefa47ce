"""What all families share: a picture's tokens spliced into the embeddings of a prompt, and a language model behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from script_core.backends.base import CannotLoad, Prompt, detached
from script_core.backends.checkpoint import Parts, eos_ids
from script_core.tokens import Query, Selection, VisualTokens


class MediaText(NamedTuple):
    """kind: of the content part handed to the chat template, "image" or "video". written: what the template writes for
    it. wanted: what is to stand there, with the token `mark` once per run of visual tokens."""

    kind: str
    written: str
    wanted: str
    mark: str


class Spliced:
    """The members of `Backend` that do not depend on how a family sees; `encode` is left to it.

    frames: how many frames of a video the family reads unless told otherwise, 0 for pictures only.
    """

    family: ClassVar[str]
    frames: ClassVar[int] = 0

    def __init__(self, parts: Parts, frames: int | None = None) -> None:
        self.model = parts.model
        self.info = replace(parts.info, family=self.family, frames=frames if frames and self.frames else self.frames)
        self.language_model = parts.model.model.language_model
        self.lm_head = parts.model.lm_head
        self.text_config = parts.model.config.get_text_config()
        self.eos_ids = eos_ids(parts)
        self._tokenizer = parts.tokenizer
        self._template = parts.template
        self._joint = parts.joint

    @torch.no_grad()
    def query(self, question: str) -> Query:
        """Embeddings of the question's own tokens, in the language model's space and in the joint one if there is."""
        ids = self._tokenizer(self._plain(question), add_special_tokens=False)["input_ids"] or [min(self.eos_ids)]
        features = self.language_model.embed_tokens(torch.tensor(ids, device=self.lm_head.weight.device))
        joint = None if self._joint is None else detached(self._joint.text(question))
        return Query(question, detached(features), joint)

    def _plain(self, question: str) -> str:
        """The question without strings that the tokenizer would read as its control tokens."""
        for control in {*self._tokenizer.all_special_tokens, *self._tokenizer.get_added_vocab()}:
            question = question.replace(control, " ")
        return question

    def media_text(self, tokens: VisualTokens | None) -> MediaText:
        """How these tokens are announced to the language model."""
        video = tokens is not None and any(block.kind == "frame" for block in tokens.grid.blocks)
        config = self.model.config
        mark = self._tokenizer.convert_ids_to_tokens(config.video_token_id if video else config.image_token_id)
        return MediaText("video" if video else "image", mark, mark, mark)

    def prompt_ids(self, question: str, tokens: VisualTokens | None = None) -> list[list[int]]:
        """Token ids before, between and after the runs of visual tokens."""
        kind, written, wanted, mark = self.media_text(tokens)
        parts = [{"type": kind}, {"type": "text", "text": self._plain(question)}]
        text = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": parts}],
            chat_template=self._template,
            tokenize=False,
            add_generation_prompt=True,
        ).replace(written, wanted, 1)
        opens = self._tokenizer.bos_token is not None and text.startswith(self._tokenizer.bos_token)
        ids = self._tokenizer(text, add_special_tokens=not opens)["input_ids"]
        mark = self._tokenizer.convert_tokens_to_ids(mark)
        found = split(ids, mark)
        if len(found) < 2:
            raise CannotLoad(f"The chat template of {self.info.source} has no place for a picture.")
        return found

    def runs(self, tokens: VisualTokens) -> list[int]:
        """Content tokens before which a text stands, other than the first: none in most families."""
        return []

    def numbering(
        self, texts: list[list[int]], tokens: VisualTokens, places: Tensor, total: int, positions: str
    ) -> tuple[Tensor, int]:
        """Position ids of the rows and of the first generated token. places (L,): where each row stands in the full
        prompt of `total` rows."""
        compact = positions == "compact"
        ids = torch.arange(len(places)) if compact else places
        return ids[None], len(places) if compact else total

    @torch.no_grad()
    def build(
        self,
        question: str,
        tokens: VisualTokens,
        selection: Selection | None,
        *,
        newlines: str = "all",
        positions: str = "compact",
    ) -> Prompt:
        """See `Backend.build`."""
        texts = self.prompt_ids(question, tokens)
        device = self.lm_head.weight.device
        rows, source, keys, every = splice(tokens, selection, newlines)
        before = torch.tensor([-1, *(4 * start - 1 for start in self.runs(tokens)), 4 * len(tokens)])
        lengths = torch.tensor([len(text) for text in texts])
        text_keys = before.repeat_interleave(lengths)
        offsets = torch.cat([torch.arange(len(text)) for text in texts])
        order = torch.argsort(torch.cat([text_keys, keys]), stable=True)
        full = torch.sort(torch.cat([text_keys, every])).values
        places = torch.cat([torch.searchsorted(full, text_keys) + offsets, torch.searchsorted(full, keys)])[order]

        ids = torch.tensor([i for text in texts for i in text], device=device)
        words = self.language_model.embed_tokens(ids)
        embeddings = torch.cat([words, rows.to(words)])[order.to(device)]
        sources = torch.cat([torch.full_like(text_keys, -1), source])[order]
        visual = torch.cat([torch.zeros(len(ids)), torch.ones(len(rows))]).bool()[order]
        numbers, following = self.numbering(texts, tokens, places, len(full), positions)
        return Prompt(embeddings[None], numbers.to(device), visual, sources, following)

    def new_cache(self) -> Any:
        """An empty key-value cache."""
        from transformers.cache_utils import DynamicCache

        return DynamicCache(config=self.text_config)

    def decode(self, token_ids: list[int]) -> str:
        """Generated ids -> text."""
        return self._tokenizer.decode(token_ids, skip_special_tokens=True)


def in_batches(run: Callable[[Tensor], Tensor], pixels: Tensor, size: int = 8) -> Tensor:
    """Apply `run` to a few views at a time, so that 64 frames do not need 64 frames' worth of activations."""
    return torch.cat([run(part) for part in pixels.split(size)])


def split(ids: list[int], mark: int) -> list[list[int]]:
    """Cut a list of ids at every placeholder, which is left out."""
    parts: list[list[int]] = [[]]
    for i in ids:
        if i == mark:
            parts.append([])
        else:
            parts[-1].append(i)
    return parts


def splice(tokens: VisualTokens, selection: Selection | None, newlines: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The visual rows of a prompt: embeddings (r, d), source (r,), keys (r,) that say where they stand, ascending, and
    the keys of all visual rows with nothing pruned. Token i has the key 4i, a newline behind it 4i + 1."""
    kept = torch.arange(len(tokens)) if selection is None else selection.kept
    held = _held_newlines(tokens, kept, newlines)
    every = torch.sort(torch.cat([4 * torch.arange(len(tokens)), 4 * tokens.newlines + 1])).values
    if selection is not None and selection.inserted is not None and len(selection.inserted) != len(kept):
        count = len(selection.inserted)  # merged rows that stand for no single token: read last, in their own order
        return selection.inserted, torch.full((count,), -1), every[len(every) - count :], every
    keys = torch.cat([4 * kept, 4 * held + 1])
    order = torch.argsort(keys)
    content = tokens.features[kept] if selection is None or selection.inserted is None else selection.inserted
    source = kept if selection is None or selection.inserted is None else torch.full_like(kept, -1)
    rows = content if tokens.newline is None else torch.cat([content, tokens.newline.to(content).expand(len(held), -1)])
    source = torch.cat([source, torch.full((len(held),), -1)])
    return rows[order], source[order], keys[order], every


def _held_newlines(tokens: VisualTokens, kept: Tensor, newlines: str) -> Tensor:
    if newlines == "none" or tokens.newline is None or not len(tokens.newlines):
        return torch.empty(0, dtype=torch.int64)
    if newlines == "all":
        return tokens.newlines
    present = torch.zeros(len(tokens) + 1, dtype=torch.int64)
    present[kept + 1] = 1
    count = present.cumsum(0)  # count[i] = tokens kept among the first i
    blocks = tokens.grid.blocks
    base = int((tokens.grid.block == 0).sum()) if len(blocks) > 1 and blocks[0].kind == "base" else 0  # has no newlines
    starts = torch.cat([torch.tensor([base]), tokens.newlines[:-1] + 1])
    return tokens.newlines[count[tokens.newlines + 1] > count[starts]]
