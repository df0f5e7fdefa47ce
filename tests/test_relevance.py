"""Query-conditioned relevance."""

from __future__ import annotations

import pytest
import torch

from script_core import relevance
from script_core.relevance import query_relevance
from tests import made


def test_by_hand() -> None:
    visual = torch.tensor([[1.0, 0.0], [0.0, 5.0], [1.0, 1.0], [-2.0, 0.0]])
    text = torch.tensor([[2.0, 0.0], [0.0, 0.0]])  # mean points along the first axis
    want = torch.tensor([1.0, 0.5, (0.5**0.5 + 1) / 2, 0.0])
    torch.testing.assert_close(query_relevance(visual, text, 1), want)
    torch.testing.assert_close(query_relevance(visual, text, -1), 1 - want)


def test_lengths_of_image_embeddings_do_not_matter() -> None:
    visual, text = made.clustered(30, 7, seed=1), made.clustered(3, 7, seed=2)
    scaled = visual * torch.linspace(0.1, 9, 30)[:, None]
    torch.testing.assert_close(query_relevance(visual, text, 1), query_relevance(scaled, text, 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_spans_zero_to_one(dtype: torch.dtype) -> None:
    values = query_relevance(made.clustered(30, 7, seed=1).to(dtype), made.clustered(3, 7, seed=2).to(dtype), -1)
    assert values.dtype == torch.float32 and values.min() == 0 and values.max() == 1


@pytest.mark.parametrize(
    ("visual", "text"),
    [
        (torch.randn(1, 7).repeat(5, 1) * torch.tensor([[1.0], [2], [3], [4], [5]]), torch.randn(2, 7)),
        (torch.randn(5, 7), torch.zeros(1, 7)),
        (torch.randn(5, 7), torch.zeros(0, 7)),
        (torch.zeros(5, 7), torch.randn(1, 7)),
        (torch.full((5, 7), float("nan")), torch.randn(1, 7)),
    ],
)
def test_nothing_to_tell_apart_gives_all_ones(visual: torch.Tensor, text: torch.Tensor) -> None:
    assert query_relevance(visual, text, 1).tolist() == [1.0] * 5


def test_wrong_spaces_are_refused() -> None:
    with pytest.raises(ValueError, match="one space"):
        query_relevance(torch.randn(5, 7), torch.randn(2, 8), 1)


def test_the_joint_space_brings_its_sign_and_the_language_models_space_is_positive() -> None:
    tokens, asked = made.tokens(sign=-1.0), made.question()
    members = tokens.grid.members()
    got = relevance.of(tokens, asked, members)
    torch.testing.assert_close(got, query_relevance(tokens.joint, asked.joint, -1))
    torch.testing.assert_close(relevance.of(tokens, asked, members, sign=1.0), 1 - got)
    plain = relevance.of(tokens, made.question(joint=False), members)
    torch.testing.assert_close(plain, query_relevance(tokens.features, asked.features, 1))


def test_each_block_is_scaled_by_itself() -> None:
    tokens, asked = made.tokens(blocks=3, side=4), made.question()
    got = relevance.of(tokens, asked, tokens.grid.members())
    for block in got.view(3, 16):
        assert block.min() == 0 and block.max() == 1
