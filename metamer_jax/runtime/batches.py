"""Many examples in batches of one size, so that one compiled program serves all of them."""

from collections.abc import Iterator

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
