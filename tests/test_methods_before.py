"""Rival methods before and after the encoder, against plain restatements of what their authors' code computes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from script_core.pruners import cdpruner, divprune, script_released, trim, visionzip
from script_core.pruners.base import CannotPrune
from script_core.tokens import Block, VisualTokens
from tests import made
from tests.made import clustered


def cosine(features: Tensor) -> np.ndarray:
    rows = torch.nn.functional.normalize(features.double(), dim=-1).numpy()
    return rows @ rows.T


def crops(count: int, size: int, width: int, seed: int) -> Tensor:
    return clustered(count * size, width, seed).view(count, size, width)


@pytest.mark.parametrize("seed", range(4))
def test_divprune_picks_the_farthest_from_everything_picked(seed: int) -> None:
    features = clustered(40, 12, seed)
    distance = 1 - cosine(features)
    picks = [int(np.argmax(np.sort(distance, axis=0)[1]))]
    while len(picks) < 25:
        picks.append(int(np.argmax(distance[picks].min(axis=0))))
    assert divprune.max_min_order(features, 25).tolist() == picks


def test_divprune_by_hand_and_with_duplicates() -> None:
    features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [-1.0, 0.0]])
    # Token 3 is 1 away from its nearest, token 2 a little less; then 0 is opposite to 3, and 2 is far from both.
    assert divprune.max_min_order(features, 4).tolist() == [3, 0, 2, 1]
    assert sorted(divprune.max_min_order(torch.ones(6, 3), 6).tolist()) == list(range(6))
    assert divprune.max_min_order(torch.ones(1, 3), 5).tolist() == [0]


def exact_dpp(matrix: np.ndarray, k: int) -> list[int]:
    """Greedy by conditional variance, solved from scratch at each step."""
    picks: list[int] = []
    for _ in range(k):
        inner = np.linalg.inv(matrix[np.ix_(picks, picks)]) if picks else np.zeros((0, 0))
        cross = matrix[picks]
        variance = np.diag(matrix) - np.einsum("si,st,ti->i", cross, inner, cross)
        variance[picks] = -np.inf
        picks.append(int(np.argmax(variance)))
    return picks


def test_cdpruner_relevance_is_scaled_over_all_crops_together() -> None:
    image, text = crops(3, 10, 8, seed=1), clustered(2, 8, seed=2)
    match = np.zeros((3, 10))
    for b in range(3):
        for i in range(10):
            cosines = [float(torch.cosine_similarity(image[b, i].double(), t.double(), dim=0)) for t in text]
            match[b, i] = -sum(cosines) / 2
    want = (match - match.min() + 1e-6) / (match.max() - match.min())
    got = cdpruner.relevance(image, text)
    assert np.allclose(got.numpy(), want, atol=1e-6) and got.argmin() == match.argmin()
    assert np.allclose(cdpruner.relevance(image, text, sign=1.0).numpy(), 1 - want, atol=1e-5)
    assert cdpruner.relevance(torch.ones(2, 3, 4), torch.ones(1, 4)).tolist() == [[1.0] * 3] * 2


@pytest.mark.parametrize("seed", range(3))
def test_cdpruner_picks_per_crop(seed: int) -> None:
    features, image, text = crops(2, 30, 40, seed), crops(2, 30, 8, seed + 9), clustered(1, 8, seed)
    relevance = cdpruner.relevance(image, text)
    order = cdpruner.select_crops(features, relevance, 12)
    for b in range(2):
        r = relevance[b].double().numpy()
        assert order[b].tolist() == exact_dpp(r[:, None] * cosine(features[b]) * r[None], 12)


def test_cdpruner_never_returns_fewer_when_the_rank_runs_out() -> None:
    order = cdpruner.select_crops(crops(2, 50, 6, seed=1), torch.rand(2, 50), 40)
    assert order.shape == (2, 40) and all(len(set(row.tolist())) == 40 for row in order)


def released_loop(matrix: np.ndarray, k: int) -> list[int]:
    left, picks = np.diag(matrix).copy(), []
    for _ in range(k):
        j = max((i for i in range(len(left)) if i not in picks), key=lambda i: (left[i], -i))
        if left[j] > 0:
            left = left - (matrix[:, j] / (math.sqrt(left[j]) + 1e-6)) ** 2
        picks.append(j)
    return picks


@pytest.mark.parametrize("seed", range(4))
def test_released_picks_over_subtract_and_then_freeze(seed: int) -> None:
    features, relevance = crops(2, 40, 10, seed), torch.rand(2, 40, generator=torch.Generator().manual_seed(seed))
    order = script_released.pick_order(features, relevance, 30)
    for b in range(2):
        r = relevance[b].double().numpy()
        assert order[b].tolist() == released_loop(r[:, None] * cosine(features[b]) * r[None], 30)


def test_released_graph_scores() -> None:
    features = crops(2, 15, 6, seed=3)
    got = script_released.graph_scores(features)
    few = 0
    for b in range(2):
        similar = cosine(features[b])
        for i, row in enumerate(similar):
            near = row[row >= 0.2]  # the token itself is among them
            value = len(near) * math.exp(near.mean() - 0.2)
            if len(near) < 4:
                few += 1
                value = 0.5 * value + 0.5 * row.mean()
            assert float(got[b, i]) == pytest.approx(value, rel=1e-5)
    assert 0 < few < 30


@pytest.mark.parametrize("segments", [1, 2, 5])
def test_released_relevance_reads_the_better_half_of_the_segments(segments: int) -> None:
    image, text = crops(2, 12, 8, seed=4), clustered(segments, 8, seed=5)
    got = script_released.relevance(image, text)
    for b in range(2):
        products = image[b].double() @ text.double().T
        best = sorted(range(segments), key=lambda m: -float(products[:, m].mean()))[: max(1, segments // 2)]
        match = -products[:, best].mean(dim=1)
        want = (match - match.min()) / (match.max() - match.min() + 1e-6)
        torch.testing.assert_close(got[b], want.float())


def test_released_graph_changes_nothing_and_says_so() -> None:
    tokens, asked = made.tokens(2, side=8), made.question()
    selection = script_released.ScriptReleased(sign=-1).select(tokens, asked, 30)
    relevance = script_released.relevance(tokens.joint.view(2, 64, -1), asked.joint)
    picks = script_released.pick_order(tokens.features.view(2, 64, -1), relevance, 15)
    assert selection.kept.tolist() == sorted(picks[0].tolist() + (picks[1] + 64).tolist())
    assert "the graph changed nothing" in selection.notes[0]


def test_released_skips_a_tile_without_tokens() -> None:
    whole, asked = made.tokens(1, side=8), made.question()
    padding = Block("tile", 8, 8)
    grid = replace(whole.grid, blocks=(*whole.grid.blocks, padding, padding))
    thin = VisualTokens(whole.features, grid, joint=whole.joint)
    method = script_released.ScriptReleased()
    assert method.select(thin, asked, 20).kept.tolist() == method.select(whole, asked, 20).kept.tolist()


@pytest.mark.parametrize(("dominant", "contextual"), [(6, 4), (1, 3), (9, 0), (20, 30), (51, 0)])
def test_visionzip_tokens(dominant: int, contextual: int) -> None:
    draw = torch.Generator().manual_seed(dominant)
    hidden, keys = torch.randn(2, 51, 7, generator=draw), torch.randn(2, 51, 5, generator=draw)
    attention = torch.rand(2, 3, 50, generator=draw)
    tokens, patches, targets = visionzip.zip_tokens(hidden, keys, attention, dominant, contextual)
    assert tokens.shape == (2, dominant + contextual, 7)
    for b in range(2):
        ranked = sorted(range(50), key=lambda j: -float(attention[b, :, j].double().sum()))
        kept = [0] + [j + 1 for j in sorted(ranked[: dominant - 1])]
        rest = [i for i in range(51) if i not in kept]
        step = max(1, len(rest) // contextual) if contextual else 1
        centres = [rest[i * step] for i in range(contextual)]
        groups: dict[int, list[Tensor]] = {c: [] for c in centres}
        for i in rest if contextual else []:
            if i not in groups:
                near = [float(torch.cosine_similarity(keys[b, i], keys[b, c], dim=0)) for c in centres]
                groups[centres[int(np.argmax(near))]].append(hidden[b, i])
        rows = [hidden[b, i] for i in kept]
        rows += [hidden[b, c] + (torch.stack(g).mean(0) if g else 0) for c, g in groups.items()]
        torch.testing.assert_close(tokens[b], torch.stack(rows))
        assert patches[b].tolist() == [i - 1 for i in kept[1:]] and targets[b].tolist() == [c - 1 for c in centres]


def test_visionzip_refuses_more_than_there_is() -> None:
    with pytest.raises(ValueError, match="cannot give"):
        visionzip.zip_tokens(torch.rand(1, 11, 4), torch.rand(1, 11, 4), torch.rand(1, 2, 10), 9, 3)


@pytest.mark.parametrize(
    ("budget", "split"), [(64, (54, 10)), (128, (108, 20)), (192, (162, 30)), (32, (27, 5)), (16, (14, 2))]
)
def test_visionzip_splits_the_budget_as_its_authors_do(budget: int, split: tuple[int, int]) -> None:
    tokens = made.tokens(1, side=16)
    selection = visionzip.VisionZip().select(tokens, made.question(), budget)
    dominant, contextual = split
    rows, patches, targets = visionzip.zip_tokens(
        tokens.encoder.hidden, tokens.encoder.keys, tokens.encoder.cls_attention, dominant, contextual
    )
    torch.testing.assert_close(selection.inserted, tokens.encoder.project(rows[0]))
    assert selection.kept.tolist() == sorted(patches[0].tolist() + targets[0].tolist())
    assert f"{dominant} dominant" in selection.notes[0] and f"{contextual} contextual" in selection.notes[0]
    assert ("of ours" in selection.notes[0]) == (budget == 16)


def test_visionzip_puts_the_tiles_patches_before_their_cls_and_contextual_tokens() -> None:
    tokens = made.tokens(3, side=8, kind="tile")
    selection = visionzip.VisionZip().select(tokens, made.question(), 96)
    zipped = [
        visionzip.zip_tokens(s.hidden[b][None], s.keys[b][None], s.cls_attention[b][None], 27, 5)[0][0]
        for s in [tokens.encoder]
        for b in range(3)
    ]
    base, one, two = zipped
    rows = torch.cat([base, one[1:27], two[1:27], one[:1], two[:1], one[27:], two[27:]])
    torch.testing.assert_close(selection.inserted, tokens.encoder.project(rows))


def test_trim_scores_prefer_the_lowest_dot_product() -> None:
    image, text = crops(2, 9, 5, seed=6) * 0.3, clustered(1, 5, seed=7)[0]
    want = torch.softmax(-(image.double() @ text.double()), dim=1)
    torch.testing.assert_close(trim.scores(image, text), want.float())
    torch.testing.assert_close(trim.scores(image, text, sign=1.0), torch.softmax(image @ text, dim=1))


def test_trim_counts() -> None:
    scores = torch.full((2, 10), 0.05)
    scores[0, 3], scores[1, 7], scores[1, 8] = 0.5, 0.4, 0.3
    assert trim.keep_count(scores) == int(10 * 3 / 20)
    assert trim.keep_count(torch.full((1, 10), 0.1)) == 0
    wide = torch.zeros(1, 576)
    assert [trim.keep_count(wide, r) for r in (0.111, 0.2222, 0.3333)] == [63, 127, 191]


def test_trim_aggregates_what_is_dropped() -> None:
    features, kept = crops(2, 6, 4, seed=8), torch.tensor([[0, 5], [2, 3]])
    want = torch.stack([features[0, [1, 2, 3, 4]].mean(0), features[1, [0, 1, 4, 5]].mean(0)])
    torch.testing.assert_close(trim.aggregate(features, kept), want)
    assert trim.aggregate(features, torch.arange(6).expand(2, -1)).abs().sum() == 0


@pytest.mark.parametrize("blocks", [1, 2])
def test_trim_appends_the_mean_of_the_rest(blocks: int) -> None:
    tokens, asked = made.tokens(blocks, side=8), made.question()
    selection = trim.Trim().select(tokens, asked, 20 * blocks)
    scores = trim.scores(tokens.joint.view(blocks, 64, -1), asked.joint[0], sign=1.0)
    best = torch.stack([torch.sort(s, descending=True, stable=True).indices[:19] for s in scores])
    assert selection.kept.tolist() == sorted((best + 64 * torch.arange(blocks)[:, None]).flatten().tolist())
    means = tokens.encoder.project(trim.aggregate(tokens.encoder.hidden[:, 1:], best))
    torch.testing.assert_close(selection.inserted, torch.cat([tokens.features[selection.kept], means]))
    assert trim.Trim().select(tokens, asked, 1).kept.tolist() == []


@pytest.mark.parametrize("method", [visionzip.VisionZip(), trim.Trim()])
def test_methods_that_merge_need_the_encoder(method: visionzip.VisionZip | trim.Trim) -> None:
    tokens = made.tokens(side=4)
    bare = VisualTokens(tokens.features, tokens.grid, joint=tokens.joint)
    with pytest.raises(CannotPrune, match="vision encoder"):
        method.select(bare, made.question(), 4)
