"""Devices by name: which there are, and what precision and which memory belong to them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from script_core.backends import SMALL, Wish, load, locate, obstacle
from script_core.backends.base import CannotLoad
from script_core.backends.loading import device_of
from script_core.backends.machine import Machine
from tests.hub import ROOMY

ROOM = Machine((9_000_000_000, 1_000_000_000), 1 << 40, 1 << 40)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_a_cpu_with_a_number_is_the_cpu(llava_folder: Path) -> None:
    placement = locate(Wish(str(llava_folder), "cpu:0"), machine=ROOMY).placement
    assert (placement.device, placement.dtype) == (torch.device("cpu"), torch.float32)
    assert obstacle(Wish(SMALL, "cpu:0"), Machine((), 1 << 40, 1 << 40)) == ""


def test_a_gpu_with_a_number_has_its_own_memory_only(two_gpus: None) -> None:
    assert obstacle(Wish(SMALL, "cuda:0"), ROOM) == obstacle(Wish(SMALL, "cuda"), ROOM) == ""
    message = obstacle(Wish(SMALL, "cuda:1"), ROOM)
    assert "1.0 GB of GPU memory are free" in message and "2 GPUs" not in message
    assert device_of("cuda:1") == "cuda:1"


@pytest.mark.parametrize("device", ["meta", "cuda:300", "cuda:255", "fpga", "abacus", "cpu:"])
def test_what_no_model_can_run_on_is_refused_in_a_sentence(llava_folder: Path, two_gpus: None, device: str) -> None:
    with pytest.raises(CannotLoad, match="is not a device that a model can run on here; use .*[.]$"):
        load(llava_folder, device=device, machine=ROOMY)


def test_a_gpu_that_is_not_there_is_refused(two_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CannotLoad, match="no GPU for device 'cuda:2' here; use device='cuda'"):
        device_of("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CannotLoad, match="no GPU for device 'cuda' here; use device='cpu'"):
        device_of("cuda")
