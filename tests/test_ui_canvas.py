"""What the token canvas is sent: the budget rule, who may move it, neighbours, and the picture underneath."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from script_core import similarity
from script_core.pruners import PRUNERS
from script_core.pruners.base import split_budget
from tests.handling import handlers_of
from ui.examples import examples
from ui.handlers import AskHandlers
from ui.tokengrid import keep, neighbours, payload, shown_pictures

handlers = handlers_of(AskHandlers)
FIRST = str(examples()[0].path)


@given(st.integers(1, 60), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_the_budget_rule_for_the_browser_is_the_pruners(budget: int, p: float, seed: int) -> None:
    from script_core.graph import survivors

    generator = torch.Generator().manual_seed(seed)
    sizes = [20, 0, 25, 15]
    scores = torch.randint(0, 4, (60,), generator=generator).float()
    walks, ranks, expected, start = [], torch.empty(60, dtype=torch.int64), [], 0
    for size, share in zip(sizes, split_budget(budget, sizes), strict=True):
        index = torch.arange(start, start + size)
        walk = index[torch.randperm(size, generator=generator)]
        ranks[index[torch.sort(scores[index], stable=True).indices]] = torch.arange(size)
        allowed = torch.zeros(60, dtype=torch.bool)
        allowed[index] = survivors(scores[index], p, share)
        expected.append(walk[allowed[walk]][:share])
        walks.append(walk)
        start += size
    assert torch.equal(keep(torch.cat(walks), sizes, ranks, p, budget), torch.sort(torch.cat(expected)).values)


@pytest.mark.parametrize(
    ("method", "nested"), [("script", True), ("random", True), ("uniform", False), ("full", False)]
)
def test_only_nested_methods_hand_their_order_to_the_browser(handlers: AskHandlers, method: str, nested: bool) -> None:
    engine = handlers.host.engine()
    pruner = PRUNERS[method]()
    value = payload(engine.select(FIRST, "is there an egg ?", pruner=pruner, budget=50), pruner, [], asked={})
    assert ("walk" in value) is nested and ("kept" in value) is not nested


def test_the_browser_gets_the_whole_order_of_a_walk_that_stopped_early(
    handlers: AskHandlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, pruner = handlers.host.engine(), PRUNERS["script"]()
    asked = partial(engine.select, FIRST, "is there a cup ?", pruner=pruner, budget=50)
    whole = payload(asked(), pruner, [], asked={})
    engine.forget()
    monkeypatch.setattr(similarity, "on_gpu", lambda tokens: True)
    early = asked()
    assert len(early.selection.order) < 576
    value = payload(early, pruner, [], asked={})
    assert [value[name] for name in ("walk", "rank", "p")] == [whole[name] for name in ("walk", "rank", "p")]


def test_neighbours_are_on_the_other_side_and_reach_tau(handlers: AskHandlers) -> None:
    tokens = handlers.host.engine().encode(FIRST).tokens
    found = neighbours(tokens, "crop", 0.6).astype(int)
    unit = torch.nn.functional.normalize(tokens.features.double(), dim=1)
    rows, places = np.nonzero(found != 65535)
    assert len(rows)
    others = found[rows, places]
    assert np.all((rows + others) % 2 == 1)
    assert bool(((unit[rows] * unit[others]).sum(1) >= 0.6 - 1e-6).all())


def test_the_picture_under_the_tokens_is_a_file_of_moderate_size(handlers: AskHandlers) -> None:
    media = handlers.host.engine().encode(FIRST).media
    (shown,) = shown_pictures(media)
    with Image.open(shown["path"]) as picture:
        assert max(picture.size) <= 960 and picture.format == "JPEG"
    assert shown_pictures(media) == [shown]
