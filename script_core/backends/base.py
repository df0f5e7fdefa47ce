"""What a model is to the engine: it encodes media and questions, and assembles the language model's input."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from script_core.media import Media
from script_core.tokens import Query, Selection, VisualTokens


class CannotLoad(RuntimeError):
    """A model cannot be loaded; the message is one sentence that says what to do."""


@dataclass(frozen=True)
class Prompt:
    """The language model's input for one question: embeddings (1, L, d), positions (1, L) or (3, 1, L), and where the
    visual tokens lie: `visual` (L,) bool, newlines included. `source` (L,) int64: the content token that a row is, -1
    for text, newlines and merged rows. `next_position` is the position id of the first generated token.

    Embeddings and positions are on the model's device; `visual` and `source` are bookkeeping and stay on the host,
    so that counting them makes nobody wait for a GPU."""

    embeddings: Tensor
    positions: Tensor
    visual: Tensor
    source: Tensor
    next_position: int

    def __len__(self) -> int:
        return int(self.embeddings.shape[1])


@dataclass(frozen=True)
class ModelInfo:
    """What the page says about a model. `offers` names what it can give to pruners (see `Pruner.needs`)."""

    name: str  # short, for people: "LLaVA-NeXT 7B"
    source: str  # hub id or local folder
    device: str
    dtype: str
    family: str
    offers: frozenset[str] = field(default_factory=frozenset)
    only_stickers: bool = False  # the embedded model: knows sticker scenes and nothing else
    frames: int = 0  # how many frames it takes of a video; 0 for models that take pictures only
    placed: str = ""  # device, precision, fewer bits and GPUs as the page shows them


class Backend(Protocol):
    """One model family. Everything that is particular to a family stays behind these members."""

    family: ClassVar[str]
    info: ModelInfo
    language_model: Any  # has .layers, .norm, .rotary_emb, .embed_tokens
    lm_head: Any
    text_config: Any
    eos_ids: frozenset[int]

    def encode(self, media: Media) -> VisualTokens:
        """Picture or frames -> visual tokens. Runs the vision tower and the projector, nothing else."""
        ...

    def query(self, question: str) -> Query:
        """Question -> its embeddings in the language model's space and in the joint space."""
        ...

    def build(
        self,
        question: str,
        tokens: VisualTokens,
        selection: Selection | None,
        *,
        newlines: str = "all",
        positions: str = "compact",
    ) -> Prompt:
        """Assemble the input with the kept tokens; None keeps every content token.

        newlines: "all", "row" (those of rows that still hold a token) or "none". positions: "compact" renumbers the
        rows, "original" leaves each row the id that it has in the full prompt.
        """
        ...

    def new_cache(self) -> Any:
        """An empty key-value cache for one prompt."""
        ...

    def decode(self, token_ids: list[int]) -> str:
        """Generated ids -> text."""
        ...


def detached(tensor: Tensor) -> Tensor:
    """A detached float32 tensor where the model is: selection runs there too, and nothing is fetched before it.

    Apple's GPUs have no float64, in which similarities are taken; from there it goes to the CPU.
    """
    return tensor.detach().to("cpu" if tensor.device.type == "mps" else tensor.device, torch.float32)
