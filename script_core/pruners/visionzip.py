"""VisionZip (CVPR 2025, arXiv:2412.04467): CLS, the patches that CLS attends to, and merged summaries of the rest.

Per crop, on the encoder layer that the projector reads:

1. dominant     CLS and the patches with the most attention from CLS, summed over heads
2. contextual   every `step`-th of the rest is a target; each other token joins the target with the closest key;
                a contextual token is target + mean of those that joined (a sum of two vectors, not an average)
3. all of them go through the projector

Authors' code: replaces methods of the encoder's classes. Here: reads states that the backend hands out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from script_core.pruners.base import check_budget, highest_first, require, split_budget
from script_core.similarity import TIE, unit
from script_core.tokens import EncoderState, Query, Selection, VisualTokens

# The authors' 54 + 10, 108 + 20 and 162 + 30 are 27 : 5 in every case.
CONTEXTUAL_SHARE = 5 / 32
PUBLISHED = (32, 64, 128, 192)  # per crop


@dataclass(frozen=True)
class VisionZip:
    """The budget counts CLS, dominant patches and contextual tokens; the split is the authors' 27 : 5."""

    name: ClassVar[str] = "visionzip"
    title: ClassVar[str] = "VisionZip"
    acts: ClassVar[str] = "after"
    reads_question: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset({"encoder"})

    def select(self, tokens: VisualTokens, query: Query, budget: int) -> Selection:
        budget = check_budget(budget, len(tokens))
        state = require(tokens.encoder, "encoder", self.title)
        attention = content_attention(tokens, state)
        if budget == len(tokens):
            everything = torch.arange(len(tokens))
            return Selection.of(everything, len(tokens), scores={"cls_attention": attention})
        members = tokens.grid.members()
        shares = split_budget(budget, [len(index) for index in members])
        zipped = [_zip_block(tokens, state, block, share) for block, share in enumerate(shares) if share]
        kept = torch.cat([places[places >= 0] for _, places, _ in zipped])
        contextual = torch.cat([places[dominant:] for _, places, (_, dominant, _) in zipped])
        merged = torch.zeros(len(tokens))
        merged[contextual[contextual >= 0]] = 1.0
        rows = torch.cat([row for row, _, _ in zipped])
        return Selection.of(
            kept,
            len(tokens),
            scores={"cls_attention": attention, "merged": merged},
            inserted=state.project(rows[_reading_order(tokens, zipped)].to(state.hidden)),
            notes=_notes(shares),
        )


def zip_tokens(
    hidden: Tensor, keys: Tensor, cls_attention: Tensor, dominant: int, contextual: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Dominant and contextual tokens of each crop.

    hidden (B, 1 + p, d) and keys (B, 1 + p, e) with CLS first, cls_attention (B, H, p); `dominant` counts CLS.
    Returns tokens (B, dominant + contextual, d) float32 in the order CLS, dominant patches in raster order, contextual
    tokens; the dominant patches (B, dominant - 1), ascending; and the contextual targets (B, contextual), as patch
    indices. Raises ValueError if the crop has fewer tokens than asked, or the three are not of one length.
    """
    if not hidden.shape[:2] == keys.shape[:2] == (len(cls_attention), cls_attention.shape[-1] + 1):
        shapes = ", ".join(str(tuple(given.shape)) for given in (hidden, keys, cls_attention))
        raise ValueError(
            f"zip_tokens needs hidden (B, 1 + p, d), keys (B, 1 + p, e), attention (B, H, p), got {shapes}"
        )
    available = hidden.shape[1]
    if not 1 <= dominant <= available or not 0 <= contextual <= available - dominant:
        raise ValueError(
            f"a crop of {available} encoder tokens cannot give {dominant} dominant and {contextual} contextual ones"
        )
    crops = [_zip_crop(*crop, dominant, contextual) for crop in zip(hidden, keys, cls_attention, strict=True)]
    tokens, patches, targets = zip(*crops, strict=True)
    return torch.stack(tokens), torch.stack(patches), torch.stack(targets)


def _zip_crop(
    hidden: Tensor, keys: Tensor, attention: Tensor, dominant: int, contextual: int
) -> tuple[Tensor, Tensor, Tensor]:
    hidden, attention = hidden.detach().to("cpu", torch.float32), attention.detach().to("cpu", torch.float64)
    patches = torch.sort(highest_first(attention.sum(dim=0))[: dominant - 1]).values
    chosen = torch.cat([torch.zeros(1, dtype=torch.int64), patches + 1])
    left = torch.ones(len(hidden), dtype=torch.bool)
    left[chosen] = False
    rest = torch.nonzero(left).flatten()
    step = max(1, len(rest) // max(contextual, 1))
    is_target = torch.zeros(len(rest), dtype=torch.bool)
    is_target[torch.arange(contextual) * step] = True
    targets, others = rest[is_target], rest[~is_target]
    merged = hidden[targets]
    if contextual and len(others):
        metric = unit(keys).cpu()
        closeness = metric[others] @ metric[targets].T
        joined = (closeness >= closeness.amax(dim=1, keepdim=True) - TIE).to(torch.uint8).argmax(dim=1)
        total = torch.zeros_like(merged).index_add_(0, joined, hidden[others])
        merged = merged + total / joined.bincount(minlength=contextual).clamp_min(1)[:, None]
    return torch.cat([hidden[chosen], merged]), patches, targets - 1


def _zip_block(
    tokens: VisualTokens, state: EncoderState, block: int, share: int
) -> tuple[Tensor, Tensor, tuple[int, int, int]]:
    """A block's rows before the projector, the content token of each row (-1 for CLS), and (block, dominant, rows)."""
    contextual = round(share * CONTEXTUAL_SHARE)
    one = slice(block, block + 1)
    rows, patches, targets = zip_tokens(
        state.hidden[one], state.keys[one], state.cls_attention[one], share - contextual, contextual
    )
    content = torch.full((state.hidden.shape[1],), -1)  # CLS, then patches, as content indices
    index = tokens.grid.members()[block]
    own = state.patch[index].cpu()
    content[own[own >= 0] + 1] = index[own >= 0]
    places = content[torch.cat([torch.zeros(1, dtype=torch.int64), patches[0] + 1, targets[0] + 1])]
    return rows[0], places, (block, share - contextual, share)


def _reading_order(tokens: VisualTokens, zipped: list[tuple[Tensor, Tensor, tuple[int, int, int]]]) -> Tensor:
    """Where each row goes: base crop and frames as they are; then the tiles' dominant patches in the order of the
    whole picture, their CLS tokens, and their contextual ones, as the authors assemble them."""
    keys, start = [], 0
    for _, places, (block, dominant, count) in zipped:
        for row in range(count):
            if tokens.grid.blocks[block].kind != "tile":
                keys.append((0, start + row, 0))
            elif row == 0:
                keys.append((2, start, 0))
            elif row < dominant:
                place = int(places[row])
                keys.append((1, place if place >= 0 else len(tokens), start + row))
            else:
                keys.append((3, start + row, 0))
        start += count
    return torch.tensor(sorted(range(len(keys)), key=keys.__getitem__))


def content_attention(tokens: VisualTokens, state: EncoderState) -> Tensor:
    """CLS attention averaged over heads, for each content token (n,) float32; 0 where it has no patch of its own."""
    mean = state.cls_attention.detach().to("cpu", torch.float32).mean(dim=1)
    patch = state.patch.cpu()
    return torch.where(patch >= 0, mean[tokens.grid.block, patch.clamp_min(0)], 0.0)


def _notes(shares: list[int]) -> tuple[str, ...]:
    per_crop = max(shares)
    contextual = round(per_crop * CONTEXTUAL_SHARE)
    split = f"{per_crop - contextual} dominant (CLS among them) + {contextual} contextual per crop or frame"
    return (split + ("." if per_crop in PUBLISHED else ", a split of ours in the authors' proportion 27 : 5."),)
