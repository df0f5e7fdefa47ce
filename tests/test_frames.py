"""The embedded model's way with videos: pooled frames over a LLaVA checkpoint."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from script_core.backends.checkpoint import load_parts
from script_core.backends.frames import PooledFrames
from script_core.backends.llava import Llava
from script_core.backends.placement import Placement
from script_core.engine import Engine
from script_core.media import Media
from tests.tiny import picture

ROOT = Path(__file__).parent.parent
TIMES = (0.0, 0.5, 1.0)


@pytest.fixture(scope="module")
def pair(next_folder: Path) -> tuple[Any, Any]:
    """The same checkpoint, once for pictures and once for frames."""
    parts = load_parts(str(next_folder), "llava_next", Placement(torch.device("cpu"), torch.float32))
    return Llava(parts, squash=True), PooledFrames(parts, frames=5)


def test_a_frames_token_is_the_mean_of_four_patches(pair: tuple[Any, Any]) -> None:
    still, moving = pair
    frames = [picture(150, 110, seed) for seed in range(3)]
    tokens = moving.encode(Media.of(frames, TIMES))
    assert len(tokens) == 3 * 9 and [b.time for b in tokens.grid.blocks] == list(TIMES)
    one = still.encode(Media.of([frames[1]]))
    whole = one.features.view(6, 6, -1)
    attention = one.cls_attention.view(6, 6)
    joint = torch.nn.functional.normalize(one.joint, dim=-1).view(6, 6, -1)
    for index in range(9):
        y, x = 2 * (index // 3), 2 * (index % 3)
        assert torch.allclose(tokens.features[9 + index], whole[y : y + 2, x : x + 2].mean((0, 1)), atol=1e-5)
        assert torch.allclose(tokens.cls_attention[9 + index], attention[y : y + 2, x : x + 2].mean(), atol=1e-6)
        assert torch.allclose(tokens.joint[9 + index], joint[y : y + 2, x : x + 2].mean((0, 1)), atol=1e-5)


def test_it_offers_what_pooled_tokens_have(pair: tuple[Any, Any]) -> None:
    still, moving = pair
    assert still.info.frames == 0 and moving.info.frames == 5
    assert moving.info.offers == still.info.offers - {"encoder"}


def test_questions_about_frames_are_answered(pair: tuple[Any, Any]) -> None:
    engine = Engine(pair[1])
    video = Media.of([picture(150, 110, seed) for seed in range(3)], TIMES)
    full = engine.ask(video, "what moves?", pruner="full", budget=999, max_new_tokens=3)
    few = engine.ask(video, "what moves?", pruner="script", budget=6, max_new_tokens=3)
    assert (full.counters.kept, few.counters.kept, few.counters.total) == (27, 6, 27)
    assert len(engine.ask(video.frames[0], "what?", pruner="full", budget=99).selection.kept) == 9


RUN = """
import re
from pathlib import Path
import numpy as np, torch
from script_core.engine import Engine
from script_core.media import Media
torch.set_num_threads(1)
engine = Engine.load("stickers-video", device="cpu", frames=64)
noise = np.random.default_rng(0).integers(0, 256, (64, 432, 768, 3), dtype=np.uint8)
video = Media.of(list(noise), tuple(i / 2 for i in range(64)))
result = engine.ask(video, "is there an apple ?", pruner="full", budget=10**6, max_new_tokens=2)
# Not ru_maxrss: a process takes over what its parent held when it was started.
print(result.counters.total, re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def test_64_frames_stay_under_3_gigabytes() -> None:
    done = subprocess.run([sys.executable, "-c", RUN], cwd=ROOT, capture_output=True, text=True, check=True)
    total, peak = (int(n) for n in done.stdout.split())
    assert total == 64 * 144
    assert peak * 1024 < 3e9


def test_frames_of_one_colour_are_told_apart_by_nothing_but_their_time(pair: tuple[Any, Any]) -> None:
    same = np.full((110, 150, 3), 90, np.uint8)
    tokens = pair[1].encode(Media.of([same, same], (0.0, 1.0)))
    assert torch.equal(tokens.features[:9], tokens.features[9:])
    assert tokens.grid.block.tolist() == [0] * 9 + [1] * 9
