"""Matrices whose columns are nearly zero but for a stretch of rows, as blocks without the zeros."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

# Overhead of one more block, in multiply-adds for each vector; set by measurement on a CPU.
_BLOCK_COST = 12000


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BandedMatrix:
    """[row, column], of which each block holds some columns, in order, and the rows they use."""

    blocks: tuple[jax.Array, ...]  # [row of the block, column of the block]
    starts: tuple[int, ...] = dataclasses.field(metadata={"static": True})  # First row of each.
    num_rows: int = dataclasses.field(metadata={"static": True})

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix that it stands for."""
        return self.num_rows, sum(block.shape[1] for block in self.blocks)


def from_dense(matrix: np.ndarray, tolerance: float, dtype: np.dtype | type) -> BandedMatrix:
    """Cuts a matrix into the blocks that are cheapest to multiply by.

    A low-pass is such a matrix: a frame reads the samples under its kernel. Columns i to j make a
    block of (rows that any of them uses) x (j - i) entries, zeros between them included, and every
    block costs something of its own; the least cost of the first j columns is

        best[j] = min over i of best[i] + rows(i, j) (j - i) + block cost.

    Args:
        matrix: [row, column] float64.
        tolerance: Share of a column's summed magnitude that may be left out, half at either end.
        dtype: Floating type of the blocks.

    Returns:
        Blocks of adjoining columns, in order.
    """
    first, last = _extents(matrix, tolerance)
    num_rows, num_columns = matrix.shape
    # best[j]: least cost of the first j columns, and where the block that ends there begins.
    best: list[tuple[float, int]] = [(0.0, 0)]
    for j in range(1, num_columns + 1):
        low = np.minimum.accumulate(first[:j][::-1])[::-1]  # Of a block of columns i to j.
        high = np.maximum.accumulate(last[:j][::-1])[::-1]
        cost = (high - low) * (j - np.arange(j)) + _BLOCK_COST
        total = cost + np.array([c for c, _ in best])
        i = int(np.argmin(total))
        best.append((float(total[i]), i))
    cuts = [num_columns]
    while cuts[-1]:
        cuts.append(best[cuts[-1]][1])
    cuts = cuts[::-1]
    starts, blocks = [], []
    for begin, end in zip(cuts, cuts[1:], strict=False):
        low, high = int(first[begin:end].min()), int(last[begin:end].max())
        starts.append(low)
        blocks.append(jnp.asarray(matrix[low:high, begin:end], dtype))
    return BandedMatrix(tuple(blocks), tuple(starts), num_rows)


def _extents(matrix: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """First row of each column that counts, and the one after the last."""
    mass = np.cumsum(np.abs(matrix), axis=0)
    total = mass[-1]
    first = np.sum(mass <= 0.5 * tolerance * total, axis=0)
    last = np.sum(mass < (1 - 0.5 * tolerance) * total, axis=0) + 1
    silent = total == 0
    return np.where(silent, 0, first), np.where(silent, 1, np.minimum(last, len(matrix)))


def multiply(vectors: jax.Array, matrix: BandedMatrix) -> jax.Array:
    """Multiplies row vectors by the matrix.

    Args:
        vectors: [..., row].
        matrix: [row, column].

    Returns:
        [..., column].
    """
    parts = [
        vectors[..., start : start + block.shape[0]] @ block
        for start, block in zip(matrix.starts, matrix.blocks, strict=True)
    ]
    return jnp.concatenate(parts, axis=-1)
