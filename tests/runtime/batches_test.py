"""Batches of one size lose nothing and add only what is said not to count."""

import numpy as np
import pytest

from metamer_jax.runtime.batches import padded_batches


@pytest.mark.parametrize(("count", "size"), [(0, 4), (1, 4), (7, 3), (6, 3), (5, 1)])
def test_batches_have_one_size_and_hold_every_example_once(count, size):
    values = np.arange(2 * count).reshape(count, 2)
    found = [*padded_batches(values, size)]
    assert {len(batch) for batch, _ in found} <= {min(size, count)}
    kept = [batch[:counted] for batch, counted in found]
    np.testing.assert_array_equal(np.concatenate([values[:0], *kept]), values)
    for batch, counted in found:
        np.testing.assert_array_equal(batch[counted:], values[-1:].repeat(len(batch) - counted, 0))
