"""The banded product against the dense one."""

import jax
import numpy as np
import pytest

from metamer_jax.cochleagram import banded


def a_band(rows=300, columns=60, width=25, seed=0):
    rng = np.random.default_rng(seed)
    matrix = np.zeros((rows, columns))
    for j in range(columns):
        start = int(j * (rows - width) / (columns - 1))
        matrix[start : start + width, j] = rng.standard_normal(width)
    return matrix


@pytest.mark.parametrize("tolerance", [0.0, 1e-4])
@pytest.mark.parametrize("shape", [(300,), (4, 300), (2, 3, 300)])
def test_the_product_is_the_dense_one(shape, tolerance):
    matrix = a_band()
    vectors = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    made = banded.from_dense(matrix, tolerance, np.float32)
    got = jax.jit(banded.multiply)(vectors, made)
    np.testing.assert_allclose(got, vectors.astype(float) @ matrix, rtol=1e-4, atol=2e-3)


def test_the_gradient_is_the_transposed_product():
    matrix = a_band()
    made = banded.from_dense(matrix, 0.0, np.float32)
    vector = np.random.default_rng(2).standard_normal(300).astype(np.float32)
    weights = np.random.default_rng(3).standard_normal(60).astype(np.float32)
    gradient = jax.grad(lambda v: weights @ banded.multiply(v, made))(vector)
    np.testing.assert_allclose(gradient, matrix @ weights.astype(float), rtol=1e-4, atol=1e-4)


def test_zeros_are_left_out_and_order_is_kept(monkeypatch):
    monkeypatch.setattr(banded, "_BLOCK_COST", 100)
    matrix = a_band()
    made = banded.from_dense(matrix, 0.0, np.float32)
    assert made.shape == matrix.shape
    assert len(made.blocks) > 4
    assert sum(block.size for block in made.blocks) < 0.3 * matrix.size
    for block, start in zip(made.blocks, made.starts, strict=True):
        assert 0 <= start <= 300 - block.shape[0]


def test_what_is_left_out_stays_below_the_tolerance():
    rows = np.arange(400)
    matrix = np.exp(-np.abs(rows[:, None] - np.linspace(50, 350, 40)) / 4)
    made = banded.from_dense(matrix, 1e-3, np.float32)
    dense = np.zeros_like(matrix)
    column = 0
    for block, start in zip(made.blocks, made.starts, strict=True):
        dense[start : start + block.shape[0], column : column + block.shape[1]] = block
        column += block.shape[1]
    lost = np.sum(np.abs(matrix - dense), axis=0) / np.sum(matrix, axis=0)
    assert np.all(lost <= 1.1e-3)
    assert np.any(lost > 1e-5)


def test_a_column_of_zeros_gives_zero():
    matrix = a_band()
    matrix[:, 7] = 0
    made = banded.from_dense(matrix, 1e-4, np.float32)
    got = banded.multiply(np.ones((1, 300), np.float32), made)
    assert got[0, 7] == 0
