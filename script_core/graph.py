"""Graph-structured pruning (GSP), section 4.1, Eq. 8-9: which tokens repeat others.

Tokens are split by index, even against odd, and only edges between the two sides exist: a quarter of the full matrix.
A token's degree counts its neighbours with cosine >= tau, and

    score_i = deg_i * exp(gamma * (mu_i - tau))   where mu_i is the mean cosine over those neighbours,
    score_i = mean cosine over the whole other side, where deg_i = 0.

Where the first formula passes e^80, which float32 cannot hold much longer, the score goes on in step with its logarithm
instead: e^80 (1 + ln(score) - 80). That keeps every order, and no score is infinite.

A high score means redundant. The second case stays below tau and the first above 1, so a token without a neighbour is
always kept before one that has any.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from script_core.similarity import unit

# An edge whose cosine equals tau up to rounding counts: two equal tokens are neighbours at tau = 1 too.
ROUNDING = 1e-7

# Natural logarithm of the score from which it grows with its logarithm.
STEEP = 80.0


def bipartite(features: Tensor) -> Tensor:
    """Cosine of every even-indexed row with every odd-indexed one: (n, d) -> (ceil(n/2), floor(n/2)) float64, host."""
    rows = unit(features)
    return (rows[0::2] @ rows[1::2].T).cpu()


def redundancy(features: Tensor, tau: float, gamma: float) -> Tensor:
    """GSP score of each token, higher = more redundant: features (n, d) -> (n,) float32.

    Raises ValueError if `features` is not a matrix.
    """
    if features.ndim != 2:
        raise ValueError(f"redundancy needs features (n, d), got {tuple(features.shape)}")
    return redundancy_of(bipartite(features), tau, gamma)


def redundancy_of(similarity: Tensor, tau: float, gamma: float) -> Tensor:
    """`redundancy` from the `bipartite` similarities (even, odd), which do not depend on tau or gamma."""
    scores = torch.zeros(sum(similarity.shape), dtype=torch.float64)
    edge = similarity >= tau - ROUNDING
    weight = torch.where(edge, similarity, 0.0)
    for side, axis in ((slice(0, None, 2), 1), (slice(1, None, 2), 0)):
        degree = edge.sum(dim=axis)
        neighbours = weight.sum(dim=axis) / degree.clamp_min(1)
        everyone = similarity.sum(dim=axis) / max(similarity.shape[axis], 1)
        scores[side] = torch.where(degree > 0, connected(degree, neighbours, tau, gamma), everyone)
    return scores.to(torch.float32)


def connected(degree: Tensor, mean: Tensor, tau: float, gamma: float) -> Tensor:
    """Scores of tokens with neighbours: how many, and their mean cosine in float64; finite in float32."""
    closeness = gamma * (mean - tau)
    beyond = degree.clamp_min(1).log() + closeness - STEEP
    return torch.where(beyond > 0, math.exp(STEEP) * (1 + beyond), degree * torch.exp(closeness))


def survivors(scores: Tensor, p: float, budget: int) -> Tensor:
    """Mask (n,) of the tokens that GSP keeps: all but the `min(round(p * n), n - budget)` most redundant ones.

    Exactly: sort by (score ascending, index ascending) and keep the first `n - min(round(p * n), n - budget)`, where
    `round` takes halves to the even number. So p is lowered, and no further than needed, when it would leave fewer
    than `budget`.
    """
    total = len(scores)
    dropped = max(min(round(p * total), total - budget), 0)
    allowed = torch.zeros(total, dtype=torch.bool)
    allowed[torch.sort(scores, stable=True).indices[: total - dropped]] = True
    return allowed


def redundant_neighbours(features: Tensor, token: int, members: Tensor, tau: float, count: int) -> Tensor:
    """The tokens that make `token` redundant: its most similar ones on the other side of its block's graph.

    features (n, d) of all tokens; members (b,) the indices of the token's block. Returns up to `count` token indices
    with cosine >= tau, most similar first. Raises ValueError if `token` is not in `members`.
    """
    found = torch.nonzero(members == token).flatten()
    if not len(found):
        raise ValueError(f"token {token} is not in the block that was given")
    other = members[1 - int(found[0]) % 2 :: 2]
    cosine = (unit(features[other.to(features.device)]) @ unit(features[token])).cpu()
    nearest = torch.sort(cosine, descending=True, stable=True).indices[:count]
    return other[nearest[cosine[nearest] >= tau - ROUNDING]]
