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
    """KL(full || pruned) in nats between the distributions of two logit vectors (V,); 0 if they are the same."""
    p = torch.log_softmax(full_logits.double().cpu(), -1)
    q = torch.log_softmax(pruned_logits.double().cpu(), -1)
    return max(0.0, float((p.exp() * (p - q)).sum()))


def mean_kl(full: Sequence[Tensor], pruned: Sequence[Tensor]) -> float:
    """Mean of `kl` over the steps of one answer, both models fed the full answer's tokens (teacher forcing)."""
    if len(full) != len(pruned) or not full:
        raise ValueError(f"need as many pruned steps as full ones and at least one, got {len(pruned)} and {len(full)}")
    return sum(kl(a, b) for a, b in zip(full, pruned, strict=True)) / len(full)


def agreement(full: Sequence[Tensor], pruned: Sequence[Tensor]) -> float:
    """Share of steps, teacher-forced, at which both would choose the same token."""
    if len(full) != len(pruned) or not full:
        raise ValueError(f"need as many pruned steps as full ones and at least one, got {len(pruned)} and {len(full)}")
    return sum(int(a.argmax()) == int(b.argmax()) for a, b in zip(full, pruned, strict=True)) / len(full)


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
