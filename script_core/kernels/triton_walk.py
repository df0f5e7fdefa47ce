"""The exact greedy walk of `dpp` as Triton kernels: many crops at once, never a word to the host in between.

Unmeasured on hardware: these kernels compile for it, and have only been run by Triton's interpreter, against the
float64 reference.

Two shapes of the same algorithm, both in float64, so that the picks are the reference's:

* Up to `CROP` tokens, one launch for everything: one program per crop makes all its picks, the residuals in
  registers, the Cholesky rows in global memory as (step, token), so that neighbouring lanes read neighbouring words.
* Larger, one launch per pick: the tokens are cut into tiles, one program each. A launch is the barrier: it reads the
  tiles' best candidates that the launch before left, and leaves its own in a second buffer, so that no program reads
  what another one of the same launch writes. The launches of one shape are captured in a CUDA graph and replayed.

Ties go to the lowest index (see `similarity.TIE`). When the largest residual has fallen to `floor` of the first, the
numerical rank is exhausted; the remaining picks go by relevance and their gain is 0. Both decisions are made on the
device.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from script_core import similarity

CROP = 1024  # tokens that one program walks alone
TILE = 256  # tokens per program of a larger walk
CHUNK = 8  # Cholesky rows that are on their way at the same time

# A product and the sum it goes into are rounded once, whatever the installed Triton would do by itself.
ROUNDING = {"enable_fp_fusion": True}

# Captured walks, each with its buffers: the cosine matrix and k x n Cholesky values. The oldest goes first.
CAPTURED = 2

TIE = tl.constexpr(similarity.TIE)


@triton.jit
def _explained(row, factor, best, step, lane, inside, n, CHUNK: tl.constexpr):
    """`row` minus what the `step` Cholesky rows so far explain of pick `best`."""
    for start in range(0, step, CHUNK):
        past = start + tl.arange(0, CHUNK)
        known = past < step
        column = tl.load(factor + past * n + best, mask=known, other=0.0)
        block = tl.load(factor + past[:, None] * n + lane[None, :], mask=known[:, None] & inside[None, :], other=0.0)
        row -= tl.sum(column[:, None] * block, axis=0)
    return row


@triton.jit
def _walk_crop(cosine, relevance, factor, order, gains, n, k, floor, BLOCK: tl.constexpr, CHUNK: tl.constexpr):
    crop = tl.program_id(0).to(tl.int64)
    cosine += crop * n * n
    relevance += crop * n
    factor += crop * k * n
    order += crop * k
    gains += crop * k
    lane = tl.arange(0, BLOCK)
    inside = lane < n
    weight = tl.load(relevance + lane, mask=inside, other=0.0)
    diagonal = tl.load(cosine + lane * (n + 1), mask=inside, other=0.0)
    nothing = tl.full((BLOCK,), float("-inf"), tl.float64)
    residual = tl.where(inside, weight * weight * diagonal, nothing)
    left = inside
    first = tl.max(residual, axis=0)
    limit = floor * first
    for step in range(k):
        gain = tl.max(tl.where(left, residual, nothing), axis=0)
        spent = gain <= limit
        choice = tl.where(spent, weight, tl.minimum(residual, gain - TIE * first))
        best = tl.argmax(tl.where(left, choice, nothing), axis=0, tie_break_left=True)
        tl.store(order + step, best.to(tl.int64))
        tl.store(gains + step, tl.where(spent, 0.0, gain))
        left = left & (lane != best)
        if gain > limit:
            row = tl.load(cosine + best * n + lane, mask=inside, other=0.0) * weight
            row = _explained(row * tl.load(relevance + best), factor, best, step, lane, inside, n, CHUNK)
            row = row / tl.sqrt(gain)
            tl.store(factor + step * n + lane, row, mask=inside)
            residual -= row * row
            tl.debug_barrier()  # the next pick reads this row across lanes


@triton.jit
def _lowest(values, slack):
    """Index of the first of `values` that is no more than `slack` below the largest."""
    return tl.argmax(tl.minimum(values, tl.max(values, axis=0) - slack), axis=0, tie_break_left=True)


@triton.jit
def _leave_best(values, indices, mine, slack, start, tile):
    """Store a tile's best value and which token it is; the tile begins at token `start`."""
    tl.store(values + tile, tl.max(mine, axis=0))
    tl.store(indices + tile, start + _lowest(mine, slack).to(tl.int64))


@triton.jit
def _begin(cosine, relevance, residual, rest, values, indices, n, tiles, TILE: tl.constexpr):
    """Residuals before the first pick, and every tile's best by residual and by relevance (buffers 0 and 1)."""
    tile, crop = tl.program_id(0), tl.program_id(1).to(tl.int64)
    lane = tile * TILE + tl.arange(0, TILE)
    inside = lane < n
    weight = tl.load(relevance + crop * n + lane, mask=inside, other=0.0)
    diagonal = tl.load(cosine + crop * n * n + lane.to(tl.int64) * (n + 1), mask=inside, other=0.0)
    nothing = tl.full((TILE,), float("-inf"), tl.float64)
    mine = weight * weight * diagonal
    tl.store(residual + crop * n + lane, mine, mask=inside)
    tl.store(rest + crop * n + lane, weight, mask=inside)
    values += crop * 4 * tiles
    indices += crop * 4 * tiles
    mine = tl.where(inside, mine, nothing)
    _leave_best(values, indices, mine, TIE * tl.max(mine, axis=0), tile * TILE, tile)
    _leave_best(values + tiles, indices + tiles, tl.where(inside, weight, nothing), 0.0, tile * TILE, tile)


@triton.jit(do_not_specialize=["step"])
def _pick(
    cosine, relevance, factor, order, gains, residual, rest, values, indices, n, k, floor, step, tiles,
    TILE: tl.constexpr, TILES: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """One pick. `values` and `indices` hold (2 buffers) x (residual, relevance) x tiles for every crop."""
    tile, crop = tl.program_id(0), tl.program_id(1).to(tl.int64)
    values += crop * 4 * tiles
    indices += crop * 4 * tiles
    now, then = (step % 2) * 2 * tiles, ((step + 1) % 2) * 2 * tiles
    at = tl.arange(0, TILES)
    bests = tl.load(values + now + at, mask=at < tiles, other=float("-inf"))
    weights = tl.load(values + now + tiles + at, mask=at < tiles, other=float("-inf"))
    gain = tl.max(bests, axis=0)
    first = gain
    if step > 0:
        first = tl.load(gains + crop * k)
    spent = gain <= floor * first
    lowest = tl.where(spent, tiles + _lowest(weights, 0.0), _lowest(bests, TIE * first))
    best = tl.load(indices + now + lowest)
    if tile == 0:
        tl.store(order + crop * k + step, best)
        tl.store(gains + crop * k + step, tl.where(spent, 0.0, gain))

    lane = tile * TILE + tl.arange(0, TILE)
    inside = lane < n
    nothing = tl.full((TILE,), float("-inf"), tl.float64)
    mine = tl.load(residual + crop * n + lane, mask=inside, other=float("-inf"))
    weight = tl.load(rest + crop * n + lane, mask=inside, other=float("-inf"))
    if gain > floor * first:
        own = factor + crop * k * n
        row = tl.load(cosine + crop * n * n + best * n + lane, mask=inside, other=0.0)
        row *= tl.load(relevance + crop * n + lane, mask=inside, other=0.0)
        row = _explained(row * tl.load(relevance + crop * n + best), own, best, step, lane, inside, n, CHUNK)
        row = row / tl.sqrt(gain)
        tl.store(own + step.to(tl.int64) * n + lane, row, mask=inside)
        mine -= row * row
    mine = tl.where(inside & (lane != best), mine, nothing)
    weight = tl.where(inside & (lane != best), weight, nothing)
    tl.store(residual + crop * n + lane, mine, mask=inside)
    tl.store(rest + crop * n + lane, weight, mask=inside)
    _leave_best(values + then, indices + then, mine, TIE * first, tile * TILE, tile)
    _leave_best(values + then + tiles, indices + then + tiles, weight, 0.0, tile * TILE, tile)


@dataclass(frozen=True)
class _Buffers:
    """Everything a large walk reads and writes, at addresses that a captured graph may keep."""

    cosine: Tensor  # (B, n, n) float64
    relevance: Tensor  # (B, n) float64
    factor: Tensor  # (B, k, n) float64
    order: Tensor  # (B, k) int64
    gains: Tensor  # (B, k) float64
    residual: Tensor  # (B, n) float64
    rest: Tensor  # (B, n) float64: relevance, -inf where picked
    values: Tensor  # (B, 2, 2, tiles) float64
    indices: Tensor  # (B, 2, 2, tiles) int64

    @classmethod
    def like(cls, cosine: Tensor, relevance: Tensor, k: int) -> _Buffers:
        crops, n = relevance.shape
        tiles = triton.cdiv(n, TILE)
        return cls(
            cosine=torch.empty_like(cosine),
            relevance=torch.empty_like(relevance),
            factor=relevance.new_empty(crops, k, n),
            order=relevance.new_empty(crops, k, dtype=torch.int64),
            gains=relevance.new_empty(crops, k),
            residual=torch.empty_like(relevance),
            rest=torch.empty_like(relevance),
            values=relevance.new_empty(crops, 2, 2, tiles),
            indices=relevance.new_empty(crops, 2, 2, tiles, dtype=torch.int64),
        )

    def fill(self, cosine: Tensor, relevance: Tensor) -> None:
        self.cosine.copy_(cosine)
        self.relevance.copy_(relevance)


def walk(cosine: Tensor, relevance: Tensor, k: int, floor: float) -> tuple[Tensor, Tensor]:
    """Greedy picks of every crop: cosine (B, n, n) and relevance (B, n), float64 and contiguous, 1 <= k <= n.

    Returns order (B, k) int64 and gains (B, k) float64 on the same device, without waiting for it.
    """
    if relevance.shape[1] > CROP:
        return _walk_large(cosine, relevance, k, floor)
    crops, n = relevance.shape
    factor, gains = relevance.new_empty(crops, k, n), relevance.new_empty(crops, k)
    order = relevance.new_empty(crops, k, dtype=torch.int64)
    block = triton.next_power_of_2(n)
    _walk_crop[(crops,)](
        cosine,
        relevance,
        factor,
        order,
        gains,
        n,
        k,
        floor,
        BLOCK=block,
        CHUNK=CHUNK,
        num_warps=4 if block <= 256 else 8,
        **ROUNDING,
    )
    return order, gains


def _walk_large(cosine: Tensor, relevance: Tensor, k: int, floor: float) -> tuple[Tensor, Tensor]:
    if not cosine.is_cuda:
        buffers = _Buffers.like(cosine, relevance, k)
        buffers.fill(cosine, relevance)
        _launch(buffers, floor)
        return buffers.order, buffers.gains
    with _one_at_a_time, torch.cuda.device(cosine.device):
        graph, buffers = _captured(cosine, relevance, k, floor)
        buffers.fill(cosine, relevance)
        graph.replay()
        return buffers.order.clone(), buffers.gains.clone()


def _launch(buffers: _Buffers, floor: float) -> None:
    """All kernels of one large walk, in order."""
    b = buffers
    (crops, n), k, tiles = b.relevance.shape, b.order.shape[1], b.values.shape[-1]
    grid = (tiles, crops)
    _begin[grid](b.cosine, b.relevance, b.residual, b.rest, b.values, b.indices, n, tiles, TILE=TILE, **ROUNDING)
    for step in range(k):
        _pick[grid](
            b.cosine, b.relevance, b.factor, b.order, b.gains, b.residual, b.rest, b.values, b.indices,
            n, k, floor, step, tiles, TILE=TILE, TILES=triton.next_power_of_2(tiles), CHUNK=CHUNK,
            **ROUNDING,
        )  # fmt: skip


_graphs: OrderedDict[tuple[Any, ...], tuple[Any, _Buffers]] = OrderedDict()
_one_at_a_time = threading.Lock()  # a graph has one set of buffers


def _captured(cosine: Tensor, relevance: Tensor, k: int, floor: float) -> tuple[Any, _Buffers]:
    """The graph of a walk of this shape and its buffers; captured on first use."""
    key = (cosine.device, tuple(relevance.shape), k, floor)
    if key not in _graphs:
        buffers = _Buffers.like(cosine, relevance, k)
        buffers.fill(cosine, relevance)
        _launch(buffers, floor)  # compiles the kernels, which must not happen inside a capture
        torch.cuda.current_stream().synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads go on using the GPU
            _launch(buffers, floor)
        _graphs[key] = graph, buffers
        while len(_graphs) > CAPTURED:
            _graphs.popitem(last=False)
    _graphs.move_to_end(key)
    return _graphs[key]
