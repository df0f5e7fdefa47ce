"""Puts all questions about a scene into one row behind its visual tokens, with what each word should point at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from script_core.stickers.canvas import Scene
from script_core.stickers.questions import Question
from script_core.stickers.tokenizer import CUE, EOS, encode


@dataclass(frozen=True)
class Packed:
    """Questions and answers of b scenes, packed: `ids` (b, t), `offset` (b, t) position within its own question,
    `segment` (b, t) question number (-1: padding). `at` (m, 2) are the (scene, token) pairs that predict `label` (m,);
    `owner` (m,) numbers the question they belong to. `point_at` (p, 2) are noun tokens, `point_xy` (p, 2) what they
    name; `compare_at` (c, 2) are cue tokens of comparisons, `compare_xy` (c, 2) the difference of the two centres;
    `target_at` (a, 2) are cue tokens whose answer names one sticker, `target_xy` (a, 2) its centre; `count_at` (n, 2)
    are cue tokens of counting questions, `count` (n,) the number.
    """

    ids: Tensor
    offset: Tensor
    segment: Tensor
    at: Tensor
    label: Tensor
    owner: Tensor
    kinds: tuple[str, ...]
    yes: tuple[str, ...]
    point_at: Tensor
    point_xy: Tensor
    compare_at: Tensor
    compare_xy: Tensor
    target_at: Tensor
    target_xy: Tensor
    count_at: Tensor
    count: Tensor


@dataclass
class _Rows:
    at: list[tuple[int, int]] = field(default_factory=list)
    label: list[int] = field(default_factory=list)
    owner: list[int] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    point_at: list[tuple[int, int]] = field(default_factory=list)
    point_xy: list[tuple[float, float]] = field(default_factory=list)
    compare_at: list[tuple[int, int]] = field(default_factory=list)
    compare_xy: list[tuple[float, float]] = field(default_factory=list)
    target_at: list[tuple[int, int]] = field(default_factory=list)
    target_xy: list[tuple[float, float]] = field(default_factory=list)
    count_at: list[tuple[int, int]] = field(default_factory=list)
    count: list[int] = field(default_factory=list)


Ways = Sequence[Mapping[int, tuple[float, float]]]  # per scene: sticker -> how far it moves (dx, dy)


def pack(
    scenes: Sequence[Scene], asked: Sequence[Sequence[Question]], vocabulary: dict[str, int], ways: Ways = ()
) -> Packed:
    """Pack all questions of a scene into one row; each reads the picture and itself, never another question.

    For clips `scenes` are their casts, and `ways` says who moves.
    """
    rows = _Rows()
    sequences: list[tuple[list[int], list[int], list[int]]] = []
    for b, (scene, questions) in enumerate(zip(scenes, asked, strict=True)):
        ids: list[int] = []
        offset: list[int] = []
        segment: list[int] = []
        for s, question in enumerate(questions):
            words = encode(vocabulary, question.text)
            answer = [*encode(vocabulary, question.answer), EOS]
            sequence = [*words, vocabulary[CUE], *answer[:-1]]
            start, cue = len(ids), len(ids) + len(words)
            ids += sequence
            offset += range(len(sequence))
            segment += [s] * len(sequence)
            rows.at += [(b, cue + i) for i in range(len(answer))]
            rows.label += answer
            rows.owner += [len(rows.kinds)] * len(answer)
            rows.kinds.append(question.kind)
            rows.answers.append(question.answer)
            where = [(scene.stickers[k].x, scene.stickers[k].y) for _, k in question.words]
            rows.point_at += [(b, start + w) for w, _ in question.words]
            rows.point_xy += where
            if question.kind in ("leftright", "abovebelow") and len(where) == 2:
                rows.compare_at.append((b, cue))
                rows.compare_xy.append((where[0][0] - where[1][0], where[0][1] - where[1][1]))
            if question.kind == "moves" and ways:
                rows.compare_at.append((b, cue))
                rows.compare_xy.append(ways[b][question.about[0]])
            named = [(k.x, k.y) for k in scene.stickers if k.name == question.answer]
            named += [(w.x, w.y) for w in scene.words if w.text == question.answer]
            if len(named) == 1:
                rows.target_at.append((b, cue))
                rows.target_xy.append(named[0])
            if question.kind == "count":
                rows.count_at.append((b, cue))
                rows.count.append(int(question.answer))
        sequences.append((ids, offset, segment))
    longest = max(len(ids) for ids, _, _ in sequences)
    full = np.zeros((3, len(sequences), longest), np.int64)
    full[2] = -1
    for b, parts in enumerate(sequences):
        for i, part in enumerate(parts):
            full[i, b, : len(part)] = part
    ids_, offset_, segment_ = (torch.from_numpy(x) for x in full)

    def pairs(values: Sequence[tuple[float, float]], kind: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=kind).reshape(-1, 2)

    return Packed(
        ids_,
        offset_,
        segment_,
        pairs(rows.at, torch.int64),
        torch.tensor(rows.label),
        torch.tensor(rows.owner),
        tuple(rows.kinds),
        tuple(rows.answers),
        pairs(rows.point_at, torch.int64),
        pairs(rows.point_xy, torch.float32),
        pairs(rows.compare_at, torch.int64),
        pairs(rows.compare_xy, torch.float32),
        pairs(rows.target_at, torch.int64),
        pairs(rows.target_xy, torch.float32),
        pairs(rows.count_at, torch.int64),
        torch.tensor(rows.count, dtype=torch.float32),
    )


def positions_and_mask(packed: Packed, visual: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Position ids (b, 1 + k + t) and the additive mask (b, 1, t, 1 + k + t).

    `visual` (b, k): position ids of the visual tokens, ascending; the text follows the largest of them.
    """
    b, t = packed.ids.shape
    start = torch.zeros(b, 1, dtype=torch.int64)
    text = visual.amax(1, keepdim=True) + 1 + packed.offset
    positions = torch.cat([start, visual, text], 1)
    same = packed.segment[:, :, None] == packed.segment[:, None, :]
    causal = torch.ones(t, t, dtype=torch.bool).tril()
    blocked = torch.zeros(b, t, t, dtype=dtype).masked_fill(~(same & causal), -1e4)
    mask = torch.cat([torch.zeros(b, t, 1 + visual.shape[1], dtype=dtype), blocked], 2)
    return positions, mask[:, None]
