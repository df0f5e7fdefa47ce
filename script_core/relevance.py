"""Query-conditioned relevance (QCRS), Eq. 3-4: how well each visual token matches the question.

`q` is the mean of the question's embeddings, `r_i = sign * cos(V_i, q)`, min-max to [0, 1] within a scope. Image and
text must share a space: the encoder's joint space where it has one, else the language model's input space.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from script_core.similarity import unit
from script_core.tokens import Query, VisualTokens

# Cosines of float32 embeddings that differ by less than this do not differ.
EQUAL = 1e-6


def min_max(values: Tensor) -> Tensor:
    """Scale (n,) to [0, 1]; values that are all equal become all ones, so that relevance then decides nothing."""
    if not len(values):
        return values
    low, high = values.min(), values.max()
    return torch.ones_like(values) if high - low <= EQUAL else (values - low) / (high - low)


def cosine_to_query(visual: Tensor, text: Tensor, sign: float) -> Tensor:
    """`sign * cos(V_i, q)`: visual (n, c), text (M, c) -> (n,) float64 on the host. No text at all gives zeros."""
    if visual.ndim != 2 or text.ndim != 2 or visual.shape[1] != text.shape[1]:
        raise ValueError(
            f"relevance needs image (n, c) and text (M, c) embeddings of one space, got {tuple(visual.shape)} and "
            f"{tuple(text.shape)}"
        )
    if not len(text):
        return torch.zeros(len(visual), dtype=torch.float64)
    mean = text.detach().to(torch.float64).mean(dim=0)
    return sign * (unit(visual) @ unit(mean).to(visual.device)).cpu()


def query_relevance(visual: Tensor, text: Tensor, sign: float) -> Tensor:
    """Relevance in [0, 1] of each visual token: visual (n, c), text (M, c), sign +1 or -1 -> (n,) float32.

    Raises ValueError if the two are not of one space.
    """
    return min_max(cosine_to_query(visual, text, sign)).to(torch.float32)


def space(tokens: VisualTokens, query: Query) -> tuple[Tensor, Tensor, float]:
    """Image and text embeddings of one space, and the sign that this space needs.

    The joint space if both sides are there; else the language model's own space, whose sign is always +1.
    """
    if tokens.joint is not None and query.joint is not None:
        return tokens.joint, query.joint, tokens.relevance_sign
    return tokens.features, query.features, 1.0


def of(tokens: VisualTokens, query: Query, members: Sequence[Tensor], sign: float | None = None) -> Tensor:
    """Relevance of every token, min-max within each block of `members`: (n,) float32. sign None = the space's own."""
    visual, text, own = space(tokens, query)
    cosine = cosine_to_query(visual, text, own if sign is None else sign)
    relevance = torch.ones_like(cosine)
    for index in members:
        relevance[index] = min_max(cosine[index])
    return relevance.to(torch.float32)
