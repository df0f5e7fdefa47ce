"""Visual tokens and questions made by hand or at random, for tests of methods."""

from __future__ import annotations

import torch
from torch import Tensor

from script_core.tokens import Block, EncoderState, Grid, Query, VisualTokens

WIDTH, JOINT, STATE = 24, 12, 16


def clustered(count: int, width: int, seed: int, groups: int = 9) -> Tensor:
    """Rows around a few centres, so that neighbours, duplicates in spirit, and loners all occur."""
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(groups, width, generator=draw)
    member = torch.randint(0, groups, (count,), generator=draw)
    return centres[member] + 0.6 * torch.randn(count, width, generator=draw)


def tokens(
    blocks: int = 1,
    side: int = 10,
    dtype: torch.dtype = torch.float32,
    joint: bool = True,
    seed: int = 0,
    sign: float = 1.0,
    kind: str = "base",
) -> VisualTokens:
    grid = Grid.full(tuple(Block("base" if i == 0 else kind, side, side) for i in range(blocks)))
    total, patches = len(grid), side * side
    draw = torch.Generator().manual_seed(seed + 1)
    hidden = torch.randn(blocks, 1 + patches, STATE, generator=draw).to(dtype)
    projection = torch.randn(STATE, WIDTH, generator=draw).to(dtype)
    attention = torch.softmax(torch.randn(blocks, 3, patches, generator=draw), dim=-1)
    state = EncoderState(
        hidden,
        torch.randn(blocks, 1 + patches, 6, generator=draw).to(dtype),
        attention.to(dtype),
        torch.arange(patches).repeat(blocks),
        lambda rows: rows @ projection,
    )
    return VisualTokens(
        clustered(total, WIDTH, seed).to(dtype),
        grid,
        joint=clustered(total, JOINT, seed + 2).to(dtype) if joint else None,
        cls_attention=attention.mean(dim=1).flatten().to(dtype),
        encoder=state,
        relevance_sign=sign,
    )


def question(dtype: torch.dtype = torch.float32, joint: bool = True, seed: int = 5) -> Query:
    draw = torch.Generator().manual_seed(seed)
    return Query(
        "what is this ?",
        torch.randn(4, WIDTH, generator=draw).to(dtype),
        torch.randn(1, JOINT, generator=draw).to(dtype) if joint else None,
    )
