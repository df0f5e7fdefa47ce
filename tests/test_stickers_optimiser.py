"""The optimiser's steps by hand, and how a stage's length scales them."""

from __future__ import annotations

from math import inf
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from script_core.stickers import presets, train
from script_core.stickers.optimiser import Group, Optimiser, orthogonalise


def test_muon_step_is_orthogonal_and_adamw_first_step_is_the_rate() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(2, 24, 64)))
    assert values.min() > 0.4 and values.max() < 1.4
    p = torch.nn.Parameter(torch.zeros(3))
    optimiser = Optimiser([Group([p], "adamw", 0.1)], clip=100.0)
    (p * torch.tensor([1.0, -2.0, 3.0])).sum().backward()
    optimiser.step(1.0, 0.5)
    torch.testing.assert_close(p.detach(), torch.tensor([-0.1, 0.1, -0.1]), atol=1e-5, rtol=1e-4)


def test_a_step_with_a_broken_gradient_changes_nothing() -> None:
    p = torch.nn.Parameter(torch.ones(2))
    optimiser = Optimiser([Group([p], "adamw", 0.1)])
    (p * float("nan")).sum().backward()
    optimiser.step(1.0, 0.0)
    assert p.tolist() == [1.0, 1.0] and optimiser.steps == 0


def test_a_stage_at_half_pace_moves_its_weights_half_as_far(tmp_path: Path) -> None:
    moved = []
    for pace in (1.0, 0.5):
        p = torch.nn.Parameter(torch.zeros(1))
        stage = SimpleNamespace(losses=lambda progress, p=p: (p.sum(), {}, 1))
        length = presets.Length(inf, 1, steps=1, pace=pace)
        log = train.Log(tmp_path, "toy", speaks=False)
        train.train_loop(stage, None, Optimiser([Group([p], "adamw", 0.3)]), length, log, None, 0.0)
        moved.append(float(p.detach()))
    assert moved == pytest.approx([-0.01, -0.005], rel=1e-4)  # the first of 30 steps of warm-up
