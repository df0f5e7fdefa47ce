"""Made-up encodings with the shapes of real ones. Timings depend on shapes, hardly on values; answers are not read."""

from __future__ import annotations

import torch
from torch import Tensor

from script_core.tokens import Block, EncoderState, Grid, Query, VisualTokens

JOINT, VISION, HEADS = 768, 1024, 16  # CLIP ViT-L/14


def features(n: int, d: int, seed: int = 0) -> Tensor:
    """Tokens in clusters of about eight, as neighbouring patches are: (n, d) float32."""
    made = torch.Generator().manual_seed(seed)
    centres = torch.randn(max(n // 8, 1), d, generator=made)
    return centres[torch.randint(len(centres), (n,), generator=made)] + 0.5 * torch.randn(n, d, generator=made)


def relevance(n: int, seed: int = 0) -> Tensor:
    """Relevance in [0, 1], no two alike: (n,) float32."""
    return torch.rand(n, generator=torch.Generator().manual_seed(seed + 1))


def encoding(blocks: int, side: int, d: int, device: torch.device, kind: str = "tile") -> VisualTokens:
    """`blocks` views of side x side tokens, with everything that a LLaVA with a CLIP tower lets a method read."""
    made = torch.Generator().manual_seed(0)
    n = blocks * side * side
    state = EncoderState(
        hidden=torch.randn(blocks, 1 + side * side, VISION, generator=made).to(device),
        keys=torch.randn(blocks, 1 + side * side, VISION // HEADS, generator=made).to(device),
        cls_attention=torch.randn(blocks, HEADS, side * side, generator=made).softmax(-1).to(device),
        patch=torch.arange(side * side).repeat(blocks),
        project=Projector(d, device),
    )
    kinds = [Block("base" if kind == "tile" and index == 0 else kind, side, side) for index in range(blocks)]
    return VisualTokens(
        features=features(n, d).to(device),
        grid=Grid.full(tuple(kinds)),
        joint=torch.randn(n, JOINT, generator=made).to(device),
        cls_attention=state.cls_attention.mean(1).flatten(),
        encoder=state,
        relevance_sign=-1.0,
    )


def question(d: int, device: torch.device, seed: int = 0) -> Query:
    made = torch.Generator().manual_seed(100 + seed)
    words, joint = torch.randn(8, d, generator=made), torch.randn(1, JOINT, generator=made)
    return Query(f"question {seed}", words.to(device), joint.to(device))


class Projector:
    """Two layers of the projector's shape; its weights are made once and shared."""

    def __init__(self, d: int, device: torch.device) -> None:
        made = torch.Generator().manual_seed(7)
        self._first = (torch.randn(VISION, d, generator=made) / VISION**0.5).to(device)
        self._second = (torch.randn(d, d, generator=made) / d**0.5).to(device)

    def __call__(self, states: Tensor) -> Tensor:
        return torch.nn.functional.gelu(states.float() @ self._first) @ self._second
