"""The values that everything here passes around: visual tokens, a query, and a selection with its reasons.

All of them are frozen. A picture becomes `VisualTokens` once, a question becomes a `Query` once, a pruner turns the
two into a `Selection`, and nothing downstream changes any of them; that is what makes one encoding safe to share
between many questions, methods, budgets and visitors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Block:
    """One rectangle of tokens: a crop of a picture or a frame of a video.

    `box` is (left, top, right, bottom) in fractions of the whole picture, so that token (row, col) of the block covers
    `left + col / cols * (right - left)` and so on. Padding makes a box reach outside [0, 1]; a centre crop makes it
    smaller. `time` is the frame's time in seconds, None for a picture.
    """

    kind: str  # "base", "tile", "frame", or "cls": one token that stands for a whole frame
    rows: int
    cols: int
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    time: float | None = None


@dataclass(frozen=True)
class Grid:
    """Where every content token sits: its block (crop or frame), row and column, each an int64 tensor of shape (n,)."""

    blocks: tuple[Block, ...]
    block: Tensor
    row: Tensor
    col: Tensor

    def __len__(self) -> int:
        return int(self.block.numel())

    @classmethod
    def full(cls, blocks: tuple[Block, ...]) -> Grid:
        """Every token of every block, block after block, row by row."""
        index = [torch.full((b.rows * b.cols,), i) for i, b in enumerate(blocks)]
        row = [torch.arange(b.rows).repeat_interleave(b.cols) for b in blocks]
        col = [torch.arange(b.cols).repeat(b.rows) for b in blocks]
        return cls(blocks, torch.cat(index), torch.cat(row), torch.cat(col))

    def members(self) -> list[Tensor]:
        """For each block the indices of its tokens, ascending. A block whose tokens were all cut away is empty."""
        return [torch.nonzero(self.block == i).flatten() for i in range(len(self.blocks))]


@dataclass(frozen=True)
class EncoderState:
    """What some methods read from inside the vision encoder, per crop or frame, CLS included where there is one.

    hidden (B, 1 + p, v): states of the layer that the projector reads. keys (B, 1 + p, e): that layer's key
    projection averaged over heads. cls_attention (B, heads, p): softmaxed attention of CLS over the patches in that
    layer. `patch` (n,) maps a content token to its patch index within its block, or -1 where it has none of its own.
    `project` maps encoder states (m, v) to the language model's space (m, d).
    """

    hidden: Tensor
    keys: Tensor
    cls_attention: Tensor
    patch: Tensor
    project: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class VisualTokens:
    """One encoded picture or video: n content tokens in the order in which the language model reads them.

    features (n, d): projector output, in the language model's embedding space.
    joint (n, c) or None: the same patches in the encoder's image-text space (not normalised).
    cls_attention (n,) or None: attention of the encoder's CLS token, averaged over heads.
    newlines (w,): for each `image_newline` token the index of the content token it follows, ascending; they are not
    content and no pruner sees them. newline (d,) or None: their one shared vector.
    relevance_sign: +1 or -1, whether higher cosine in the relevance space means more relevant (a property of the
    backbone: CLIP's patches are anti-correlated with text).

    Embeddings, states and attention are on the model's device, where selection reads them; the grid and other indices
    are on the host. Two encodings are equal only if they are the same object, so that what is derived from one can be
    kept beside it.
    """

    features: Tensor
    grid: Grid
    joint: Tensor | None = None
    cls_attention: Tensor | None = None
    encoder: EncoderState | None = None
    newlines: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    newline: Tensor | None = None
    relevance_sign: float = 1.0

    def __len__(self) -> int:
        return int(self.features.shape[0])

    def nbytes(self) -> int:
        """Bytes held by the tensors, for the bounded cache."""
        held = [self.features, self.joint, self.cls_attention, self.newlines, self.newline]
        if self.encoder is not None:
            held += [self.encoder.hidden, self.encoder.keys, self.encoder.cls_attention, self.encoder.patch]
        return sum(t.numel() * t.element_size() for t in held if t is not None)


@dataclass(frozen=True, eq=False)
class Query:
    """A question. features (t, d): the language model's input embeddings of its own tokens (no template).

    joint (M, c) or None: its text embeddings in the encoder's image-text space, one per text segment.
    """

    text: str
    features: Tensor
    joint: Tensor | None = None


@dataclass(frozen=True)
class Selection:
    """Which visual tokens stay, and why.

    kept (m,): indices into the content tokens, ascending, unique, int64. total: n.
    order (o,): the order in which tokens were chosen; o may exceed m when a walk went on past the budget, and may be
    empty for methods without an order. nested: True if `order` filtered by `allowed` gives the selection of every
    smaller budget, which is what lets the page move the budget without asking the server.
    scores: per-token values, each (n,) float32, for explanation: "redundancy" (higher = more redundant), "relevance"
    (in [0, 1]), and whatever else a method has. allowed (n,) bool or None: tokens that survived a first stage (GSP).
    inserted (m', d) or None: what enters the language model in place of `features[kept]`, for methods that merge.
    entering: number of visual tokens that enter each decoder layer, for methods that drop inside the model.
    notes: sentences for the reader, such as a parameter that had to be lowered.
    """

    kept: Tensor
    total: int
    order: Tensor
    scores: Mapping[str, Tensor] = field(default_factory=dict)
    allowed: Tensor | None = None
    nested: bool = False
    inserted: Tensor | None = None
    entering: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of visual tokens that enter the language model."""
        return int((self.kept if self.inserted is None else self.inserted).shape[0])

    @classmethod
    def of(cls, kept: Tensor, total: int, order: Tensor | None = None, **more: object) -> Selection:
        """Build from kept indices in any order; sorts them and checks that they are unique and in range."""
        kept = kept.to(torch.int64).cpu()
        ordered = torch.sort(kept).values
        if kept.numel() and (ordered[0] < 0 or ordered[-1] >= total or bool((ordered[1:] == ordered[:-1]).any())):
            raise ValueError(f"a selection needs unique indices between 0 and {total - 1}")
        chosen = kept if order is None else order.to(torch.int64).cpu()
        return cls(ordered, total, chosen, **more)  # type: ignore[arg-type]

    def but(self, **changes: object) -> Selection:
        """The same selection with some fields replaced."""
        return replace(self, **changes)  # type: ignore[arg-type]
