"""The stage that teaches order in time: what every token is asked, and that nothing but the language model moves."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from script_core.stickers import train
from script_core.stickers.canvas import Scene, Sticker
from script_core.stickers.checkpoints import build, weights
from script_core.stickers.clips import Event, animate, ask_clip
from script_core.stickers.layouts import CELL_PATCHES, film, tiled, times_of
from script_core.stickers.losses import Heads, time_loss
from script_core.stickers.model import Sizes
from script_core.stickers.order import Order
from script_core.stickers.presets import PRESETS
from script_core.stickers.questions import VOCABULARY
from script_core.stickers.tokenizer import word_ids

IDS = word_ids(VOCABULARY)
CAST = tuple(
    Sticker(name, None, x, y, 0.22) for name, x, y in (("dog", 0.2, 0.3), ("cake", 0.7, 0.7), ("bus", 0.7, 0.2))
)
CLIP = animate(Scene(CAST), (Event(0, 2), Event(1, 1)), 3)


def test_every_token_of_a_clip_knows_when_its_sticker_came_in_and_whether_before_all_others() -> None:
    # Numbered within each frame: the dog is not there yet in the second one, so its first sticker is the cake.
    owner = np.array([[[-1, 0], [0, -2], [0, 1]]])
    # The bus was there all along, so it is not the first to come in.
    assert times_of([CLIP], owner).tolist() == [[[-1, 0, 0], [0, 0, 0], [1, 1, 1], [-1, 1, 0], [2, 2, 0], [1, 2, 1]]]
    still = animate(Scene(CAST), (), 3)
    assert times_of([still], np.zeros((1, 3, 1), int)).tolist() == [[[0, 0, 0], [0, 1, 0], [0, 2, 0]]]


def test_the_loss_on_time_by_hand() -> None:
    times = torch.tensor([[[-1, 0, 0], [0, 0, 0], [1, 1, 1], [2, 1, 0]]])
    heads = Heads(Sizes(9, width=64))
    for head in (heads.frame, heads.time1, heads.time2):
        torch.nn.init.zeros_(head.weight)
    heads.frame.bias.data = torch.tensor([0.25])
    heads.time1.bias.data = torch.tensor([0.0, 0.25, 0.25])
    heads.time2.bias.data = torch.tensor([0.0, 0.0, 0.0, 0.0])
    states = [torch.randn(1, 4, 64) for _ in range(3)]
    frame = 2 * 0.25**2 / 4  # frames count as quarters
    late = (math.log(2) + 2 * 3 * math.log(2)) / 3  # one early and two late tokens, late ones thrice
    first = late + (0.25**2 + 0 + 0.25**2) / 3 + frame
    second = late + (0 + 0.25**2 + 0.5**2) / 3 + frame + math.log(2)
    torch.testing.assert_close(time_loss(heads, states, times), torch.tensor((frame + first + second) / 2))
    nothing = torch.tensor([[[-1, 0, 0]] * 4])
    torch.testing.assert_close(time_loss(heads, states, nothing), torch.tensor((0.25**2 + 0.25**2) / 2))


def test_what_is_looked_at_once_stands_for_the_same_tokens_as_in_the_other_stages() -> None:
    stage = Order(build(PRESETS["smoke"], IDS, train.TRAINING_SEED, 2))
    clip = animate(Scene(CAST), (Event(0, 2), Event(1, 1)), 8)
    seen, shot = stage.watch(clip), film(clip)
    projected = stage.projected(shot.patches)
    assert seen.tokens.shape[0] == 8 * 144 and (seen.owner == shot.cells).all()
    torch.testing.assert_close(seen.tokens[5 * 144 + 30], projected[5, CELL_PATCHES[30]].mean(0))
    large = tiled(Scene(CAST))
    mosaic = stage.look(large)
    torch.testing.assert_close(mosaic.tokens[3 * 576 + 7], stage.projected(large.patches)[3, 7])
    assert (mosaic.owner.reshape(5, 576) == large.owner).all() and not mosaic.tokens.requires_grad


@pytest.mark.parametrize("kind", ["shown", "pictured", "tiled"])
def test_every_kind_of_step_has_a_loss_that_reaches_the_language_model(kind: str) -> None:
    stage = Order(build(PRESETS["smoke"], IDS, train.TRAINING_SEED, 2))
    train.stage_groups(stage, stage.kit)
    loss, parts, count = getattr(stage, kind)()
    loss.backward()
    assert bool(torch.isfinite(loss)) and count >= 1 and ("clip-time" in parts) == (kind == "shown")
    assert stage.kit.model.language.layers[0].qkv.grad.abs().sum() > 0 and stage.kit.model.proj1.grad is None


def trained(folder: Path, keep: float) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """All weights before and after two steps of the stage."""
    small = {"vit_width": 48, "vit_layers": 3, "width": 32, "layers": 3, "heads": 2, "mlp": 48, "joint": 16}
    lengths = {"order": replace(PRESETS["smoke"].stages["order"], steps=2, batch=2, keep=keep)}
    preset = replace(PRESETS["smoke"], sizes=small, gate_scenes=8, stages=lengths)
    folder.mkdir()
    (folder / "vocabulary.json").write_text(json.dumps(IDS))
    start = weights(build(preset, IDS, train.TRAINING_SEED, 2))
    torch.save({"weights": start}, folder / "modes.pt")
    train.run_stage("order", preset, folder, train.TRAINING_SEED)
    return start, torch.load(folder / "order.pt", weights_only=True)["weights"]


def test_only_the_language_model_moves_and_keeps_the_share_it_is_told_to(tmp_path: Path) -> None:
    start, free = trained(tmp_path / "free", 0.0)
    moved = {name.rsplit(".layers")[0] for name in free if not torch.equal(free[name], start[name])}
    assert "model.language" in moved and "heads.point1.weight" in moved
    assert not any(name.startswith(("model.vision", "model.text", "model.proj", "heads.place")) for name in moved)
    _, mean = trained(tmp_path / "mean", 0.25)
    for name in free:
        share = 0.25 if name.startswith("model.") else 0.0  # the heads do not ship
        torch.testing.assert_close(mean[name], free[name].lerp(start[name], share), atol=1e-6, rtol=1e-5)


def test_asking_ends_when_a_clip_has_nothing_more_to_ask_about() -> None:
    assert ask_clip(animate(Scene(CAST), (), 4), np.random.default_rng(0), 4, {"first": 1.0, "moves": 1.0}) == []
