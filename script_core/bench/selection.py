"""Selection alone: the greedy walk, every method at every budget, and how the walk grows with its size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from script_core import dpp, kernels, similarity
from script_core.bench import inputs
from script_core.bench.plain import plain_map
from script_core.bench.tables import Cell
from script_core.bench.timing import Effort, Timing, once, timed
from script_core.pruners import PRUNERS
from script_core.pruners.base import CannotPrune
from script_core.tokens import VisualTokens

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Shape:
    """`blocks` crops or frames of `side` x `side` tokens of width d; `budgets` for all of them together."""

    name: str
    blocks: int
    side: int
    d: int
    budgets: tuple[int, ...]

    @property
    def total(self) -> int:
        return self.blocks * self.side**2


LLAVA = Shape("LLaVA-1.5", 1, 24, 4096, (192, 64, 16))
NEXT = Shape("LLaVA-NeXT", 5, 24, 4096, (640, 320, 160))
# (crops, tokens of each, picks of each)
WALKS = ((1, 576, 64), (1, 576, 192), (5, 576, 64), (64, 169, 16), (1, 2880, 320))


def walks(
    device: torch.device, effort: Effort, d: int, sizes: tuple[tuple[int, int, int], ...]
) -> Iterator[dict[str, Cell]]:
    """The exact walk against the plain one, from the similarity matrix and from raw features."""
    for crops, n, k in sizes:
        x = inputs.features(crops * n, d).view(crops, n, d).to(device)
        r = inputs.relevance(crops * n).view(crops, n).to(device)
        raw = timed(partial(kernels.greedy_map, x, r, k), effort, device)
        plain = timed(partial(plain_map, x, r, k), effort, device)
        yield {
            "walk": f"{crops} x {n} -> {k}",
            "d": d,
            "device": device.type,
            "from the matrix, ms": timed(_from_matrix(x, r, k), effort, device),
            "the matrix, ms": timed(partial(_each, similarity.gram, [(crop,) for crop in x]), effort, device),
            "from raw features, ms": raw,
            "plain torch, raw, ms": plain,
            "plain / ours": round(plain.median / raw.median, 2),
            "in processor time": _ratio(plain, raw) if device.type == "cpu" else None,
        }


def _from_matrix(x: Tensor, r: Tensor, k: int) -> Callable[[], Any]:
    """The walk with its matrix at hand: on a GPU one launch for all crops, on a CPU one after the other."""
    if x.is_cuda and find_spec("triton") is not None:
        from script_core.kernels.triton_walk import walk

        cosine = torch.stack([torch.from_numpy(similarity.gram(crop)) for crop in x]).to(x.device)
        return partial(walk, cosine, r.double().contiguous(), k, dpp.FLOOR)
    known = [(similarity.gram(crop), similarity.array(weight)) for crop, weight in zip(x, r, strict=True)]
    return partial(_each, dpp.greedy_walk, known, k)


def _ratio(above: Timing, below: Timing) -> float | None:
    return round(above.processor / below.processor, 2) if above.processor and below.processor else None


def _each(work: Callable[..., Any], crops: list[tuple[Any, ...]], *more: Any) -> None:
    for crop in crops:
        work(*crop, *more)


def methods(shape: Shape, device: torch.device, effort: Effort) -> Iterator[dict[str, Cell]]:
    """Every method that chooses before the language model runs, at every budget.

    A fresh encoding pays for similarities and the walk, a new question for the walk, a move of the budget for neither.
    """
    encoded = inputs.encoding(shape.blocks, shape.side, shape.d, device)
    registry: dict[str, Any] = PRUNERS
    for name, method in registry.items():
        if method.acts == "inside" or name == "full":
            continue
        for budget in shape.budgets:
            yield _method(shape, encoded, name, budget, effort)


def _method(shape: Shape, encoded: VisualTokens, name: str, budget: int, effort: Effort) -> dict[str, Cell]:
    pruner, asked, device = PRUNERS[name](), 0, encoded.features.device
    tokens, query = encoded, inputs.question(shape.d, device)

    def forget() -> None:
        nonlocal tokens
        tokens = replace(encoded)

    def ask_again() -> None:
        nonlocal asked, query
        asked += 1
        query = inputs.question(shape.d, device, asked)

    def select(count: int) -> None:
        pruner.select(tokens, query, count)

    row: dict[str, Cell] = {"method": name, "budget": budget, "of": shape.total}
    columns = ("fresh picture, ms", "new question, ms", "budget moved, ms", "remark")
    try:
        first = timed(lambda: select(budget), effort, device, forget)
        question = timed(lambda: select(budget), effort, device, ask_again)
        moved = timed(lambda: select(budget), effort, device, lambda: select(budget // 2))
    except CannotPrune as reason:
        return {**row, **dict.fromkeys(columns), "remark": str(reason)}
    return {**row, **dict(zip(columns, (first, question, moved, None), strict=True))}


class FullRank:
    """Half a cosine matrix and half the identity. A walk ends where the rank does, which for features of width d is
    after d picks; over this one it goes on to whatever share of the tokens."""

    def __init__(self, cosine: similarity.Rows) -> None:
        self._cosine = cosine

    def __len__(self) -> int:
        return len(self._cosine)

    def __getitem__(self, index: int, /) -> np.ndarray:
        row = 0.5 * self._cosine[index]
        row[index] += 0.5
        return row

    def diagonal(self) -> np.ndarray:
        return 0.5 * self._cosine.diagonal() + 0.5


def growth(
    sizes: tuple[int, ...], shares: tuple[float, ...], limit: float, effort: Effort, d: int = 256
) -> Iterator[dict[str, Cell]]:
    """The walk over n tokens to share x n picks. What would take over `limit` seconds, going by the share before and
    k^2, is left out, and so are larger shares. d: of the features, which say what a computed row costs."""
    for n in sizes:
        x, weight = inputs.features(n, d), similarity.array(inputs.relevance(n))
        cosine = similarity.per_block(x, [torch.arange(n)]).rows[0]
        block = FullRank(cosine)
        expected = 0.0
        for place, share in enumerate(shares):
            k = max(round(share * n), 1)
            spent = None
            if expected <= limit * 1000:
                walk = partial(dpp.greedy_walk, block, weight, k)
                alone = once(walk, CPU)
                spent = Timing.of([alone]) if alone > effort.seconds * 1000 else timed(walk, effort, CPU)
                expected = alone
            grown = (shares[min(place + 1, len(shares) - 1)] / share) ** 2
            expected *= grown
            yield {
                "tokens": n,
                "picks": k,
                "share": share,
                "rows": "held" if isinstance(cosine, np.ndarray) else f"computed, d = {d}",
                "walk, ms": spent,
                "remark": None if spent else f"Left out: walks that would take over {limit:g} s.",
            }
