"""Muon for the matrices inside blocks, AdamW for the rest, both with float32 master copies of low-precision weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def orthogonalise(g: Tensor, steps: int = 5) -> Tensor:
    """Nearest semi-orthogonal matrix by the quintic Newton-Schulz iteration of Muon (K. Jordan, 2024).

    g (rows, columns) or (stack, rows, columns); a stack is taken apart because batched low-precision products are slow.
    """
    if g.ndim == 3:
        return torch.stack([orthogonalise(part, steps) for part in g])
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = g.shape[0] > g.shape[1]
    x = (g / (g.norm() + 1e-7)).to(torch.bfloat16)
    x = x.mT.contiguous() if tall else x
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).float()


def workers() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def averaged(tensors: list[Tensor], total: bool = False) -> list[Tensor]:
    """Mean (or sum) of the tensors over all processes, in one exchange."""
    if workers() == 1:
        return tensors
    flat = torch.cat([t.flatten() for t in tensors])
    dist.all_reduce(flat)
    parts = (flat if total else flat / workers()).split([t.numel() for t in tensors])
    return [part.view_as(t) for part, t in zip(parts, tensors, strict=True)]


class Group:
    """Parameters that share a rule and a rate. `rule` is "muon" or "adamw"."""

    def __init__(self, parameters: Iterable[nn.Parameter], rule: str, rate: float) -> None:
        self.parameters, self.rule, self.rate = list(parameters), rule, rate
        self.master = [p.detach().float().clone() for p in self.parameters]
        self.first = [torch.zeros_like(m) for m in self.master]
        self.second = [torch.zeros_like(m) if rule == "adamw" else torch.zeros(()) for m in self.master]


class Optimiser:
    """Steps all groups. With several processes the gradients are averaged first, together with their `progress`."""

    def __init__(self, groups: list[Group], clip: float = 1.0) -> None:
        self.groups, self.clip, self.steps = groups, clip, 0

    def step(self, scale: float, progress: float) -> tuple[float, float]:
        """Apply the gradients at `scale` times each group's rate; returns (gradient norm, agreed progress)."""
        grads = [
            p.grad.float() if p.grad is not None else torch.zeros_like(m)
            for group in self.groups
            for p, m in zip(group.parameters, group.master, strict=True)
        ]
        *grads, agreed = averaged([*grads, torch.tensor([progress])])
        progress = float(agreed)
        norm = float(torch.linalg.vector_norm(torch.stack([g.norm() for g in grads])))
        if norm == norm and norm != float("inf"):  # a step with a non-finite gradient is left out
            self._apply(grads, min(1.0, self.clip / (norm + 1e-6)), scale)
        for group in self.groups:
            for p in group.parameters:
                p.grad = None
        return norm, progress

    @torch.no_grad()
    def _apply(self, grads: list[Tensor], shrink: float, scale: float) -> None:
        self.steps += 1
        left = iter(grads)
        for group in self.groups:
            mine = [next(left) * shrink for _ in group.parameters]
            if group.rule == "muon":
                self._muon(group, mine, group.rate * scale)
            else:
                self._adamw(group, mine, group.rate * scale)
            for p, m in zip(group.parameters, group.master, strict=True):
                p.copy_(m)

    def _muon(self, group: Group, grads: list[Tensor], rate: float) -> None:
        """Every process works out its share of the updates; the others' arrive by a sum with zeros."""
        share, rank = workers(), dist.get_rank() if dist.is_initialized() else 0
        updates = []
        for i, (g, first) in enumerate(zip(grads, group.first, strict=True)):
            first.mul_(0.95).add_(g)
            updates.append(orthogonalise(g + 0.95 * first) if i % share == rank else torch.zeros_like(g))
        for m, update in zip(group.master, averaged(updates, total=True), strict=True):
            m.mul_(1 - 0.01 * rate).sub_(update, alpha=rate * max(1.0, m.shape[-2] / m.shape[-1]) ** 0.5)

    def _adamw(self, group: Group, grads: list[Tensor], rate: float) -> None:
        bias1, bias2 = 1 - 0.9**self.steps, 1 - 0.98**self.steps
        for g, m, first, second in zip(grads, group.master, group.first, group.second, strict=True):
            first.lerp_(g, 0.1)
            second.lerp_(g * g, 0.02)
            m.sub_(first / bias1 / ((second / bias2).sqrt() + 1e-8), alpha=rate)

    def state(self) -> dict[str, Any]:
        """Everything that resuming needs."""
        return {"steps": self.steps, "groups": [(g.master, g.first, g.second) for g in self.groups]}

    def load(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned; the groups must be the same."""
        self.steps = state["steps"]
        with torch.no_grad():
            for group, (master, first, second) in zip(self.groups, state["groups"], strict=True):
                group.master, group.first, group.second = master, first, second
                for p, m in zip(group.parameters, master, strict=True):
                    p.copy_(m)


def block_matrices(module: nn.Module) -> list[nn.Parameter]:
    """The weight matrices inside transformer layers: what Muon is for."""
    return [p for name, p in module.named_parameters() if "layers." in name and p.ndim >= 2 and "bias" not in name]


def others(module: nn.Module) -> list[nn.Parameter]:
    """Everything else: embeddings, norms, biases, projections."""
    inside = {id(p) for p in block_matrices(module)}
    return [p for p in module.parameters() if id(p) not in inside]
