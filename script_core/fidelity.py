"""How close a pruned answer is to the full one, in numbers that do not depend on a benchmark.

KL divergence is in nats, of the full prompt's next-token distribution from the pruned one's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from script_core.report import Result


def kl(full_logits: Tensor, pruned_logits: Tensor) -> float:
    """KL(full || pruned) in nats between the distributions of two logit vectors (V,); 0 if they are the same.

    nan if either is no distribution, as after an overflow; infinite if the pruned one excludes what full allows.
    """
    p = torch.log_softmax(full_logits.double().cpu(), -1)
    q = torch.log_softmax(pruned_logits.double().cpu(), -1)
    apart = torch.where(p == -torch.inf, 0.0, p.exp() * (p - q)).sum()  # what never comes adds nothing
    return float(apart.clamp_min(0.0))


def mean_kl(full: Sequence[Tensor], pruned: Sequence[Tensor]) -> float:
    """Mean of `kl` over the steps of one answer, both models fed the full answer's tokens (teacher forcing)."""
    if len(full) != len(pruned) or not full:
        raise ValueError(f"need as many pruned steps as full ones and at least one, got {len(pruned)} and {len(full)}")
    return sum(kl(a, b) for a, b in zip(full, pruned, strict=True)) / len(full)


def agreement(full: Sequence[Tensor], pruned: Sequence[Tensor]) -> float:
    """Share of steps, teacher-forced, at which both would choose the same token."""
    if len(full) != len(pruned) or not full:
        raise ValueError(f"need as many pruned steps as full ones and at least one, got {len(pruned)} and {len(full)}")
    return sum(_agree(a, b) for a, b in zip(full, pruned, strict=True)) / len(full)


def _agree(full: Tensor, pruned: Tensor) -> bool:
    known = not bool(full.isnan().any() | pruned.isnan().any())
    return known and int(full.argmax()) == int(pruned.argmax())


@dataclass(frozen=True, eq=False)
class Comparison:
    """One question answered with all tokens and with few.

    kl_first: nats, first token. kl_answer: nats, mean over the full answer, teacher-forced. agreement: share of the
    full answer's tokens that the pruned prompt would have chosen, too. same: both answers are the same text.
    """

    full: Result
    pruned: Result
    kl_first: float
    kl_answer: float
    agreement: float
    same: bool
