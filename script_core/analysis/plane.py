"""One crop or frame as a plane of unit vectors, each with its row and column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from script_core.similarity import array, unit
from script_core.tokens import VisualTokens

# The eight tokens around one.
AROUND = tuple((dr, dc) for dr in (-1, 0, 1) for dc in (-1, 0, 1) if dr or dc)


@dataclass(frozen=True, eq=False)
class Plane:
    """vectors (n, d) float64 of length 1; row, col (n,) int; the plane is `rows` x `cols`, holes allowed.

    index (n,): the tokens' indices in the whole encoding.
    """

    vectors: np.ndarray
    row: np.ndarray
    col: np.ndarray
    rows: int
    cols: int
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.vectors)

    def image(self, values: np.ndarray) -> np.ndarray:
        """Values (n,) laid out as (rows, cols) float64, NaN where there is no token."""
        laid = np.full((self.rows, self.cols), np.nan)
        laid[self.row, self.col] = values
        return laid

    def places(self) -> np.ndarray:
        """(rows, cols) int: which of this plane's tokens is where, -1 for none."""
        laid = np.full((self.rows, self.cols), -1)
        laid[self.row, self.col] = np.arange(len(self))
        return laid

    def around(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each of the eight directions the pairs (tokens, their neighbours there) that exist."""
        padded = np.pad(self.places(), 1, constant_values=-1)
        pairs = []
        for dr, dc in AROUND:
            there = padded[self.row + 1 + dr, self.col + 1 + dc]
            exists = np.nonzero(there >= 0)[0]
            pairs.append((exists, there[exists]))
        return pairs


def plane(tokens: VisualTokens, block: int = 0) -> Plane:
    """One block of an encoding. Raises ValueError if there is no such block or it holds fewer than two tokens."""
    blocks = tokens.grid.blocks
    if not 0 <= block < len(blocks):
        raise ValueError(f"There is no crop or frame {block}; there are {len(blocks)}.")
    index = tokens.grid.members()[block]
    if len(index) < 2:
        raise ValueError("This crop or frame holds fewer than two visual tokens, so there is nothing to compare.")
    vectors = array(unit(tokens.features[index.to(tokens.features.device)]))
    here = blocks[block]
    row, col = tokens.grid.row[index].numpy(), tokens.grid.col[index].numpy()
    return Plane(vectors, row, col, here.rows, here.cols, index.numpy())
