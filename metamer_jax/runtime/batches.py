"""Many examples in batches of one size, so that one compiled program serves all of them."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np


def padded_batches(values: np.ndarray | jax.Array, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Divides examples into batches of one size, the last filled up with the last example.

    Args:
        values: Examples [example, ...].
        size: Number of examples in a batch; where there are fewer in all, so many.

    Yields:
        A batch, and the number of its examples that count.
    """
    size = min(size, len(values))
    for start in range(0, len(values), size or 1):
        batch = np.asarray(values[start : start + size])
        missing = size - len(batch)
        yield np.pad(batch, [(0, missing)] + [(0, 0)] * (values.ndim - 1), mode="edge"), len(batch)


def in_batches(
    function: Callable[[np.ndarray], Any],
    values: np.ndarray | jax.Array,
    size: int,
    on_batch: Callable[[int], None] | None = None,
) -> Any:
    """Calls a function on batches of examples and joins what it makes of them.

    Args:
        function: Maps a batch [example, ...] to arrays [example, ...], in any structure.
        values: Examples [example, ...], at least one.
        size: As of `padded_batches`.
        on_batch: Function called after each batch with the number of its examples that count.

    Returns:
        The same structure, of NumPy arrays of all examples; of one batch at a time there are two.
    """
    whole, done = None, 0
    for batch, count in padded_batches(values, size):
        made = function(batch)
        if whole is None:
            whole = jax.tree.map(lambda x: np.empty((len(values), *x.shape[1:]), x.dtype), made)
        for into, part in zip(jax.tree.leaves(whole), jax.tree.leaves(made), strict=True):
            into[done : done + count] = np.asarray(part)[:count]
        done += count
        if on_batch is not None:
            on_batch(count)
    return whole
