"""Tests of programs for TPUs that are not here; compiling takes minutes, so only when asked for.

METAMER_JAX_TEST_TPU=1 python -m pytest tests/benchmarks/aot_test.py     # with the extra [tpu]
"""

import os

import jax
import jax.numpy as jnp
import pytest

from metamer_jax.benchmarks import aot


@pytest.mark.skipif("METAMER_JAX_TEST_TPU" not in os.environ, reason="METAMER_JAX_TEST_TPU unset")
@pytest.mark.skipif(bool(aot.missing()), reason=aot.missing())
def test_the_step_on_four_chips_moves_few_bytes_and_no_message():
    cost = aot.tpu_cochleagram_step_apart()
    assert cost.collectives == 0
    assert cost.bytes_accessed < 0.9e9  # 3.6e9 with Fourier transforms as XLA spells them out.
    assert cost.flops < 20e9
    assert cost.peak_bytes < 200e6


def test_cost_counts_what_a_program_does():
    size = 64
    matrix = jax.ShapeDtypeStruct((size, size), jnp.float32)
    cost = aot.cost(jax.jit(jnp.matmul).lower(matrix, matrix))
    assert cost.flops == 2 * size**3
    assert cost.bytes_accessed == 3 * size**2 * 4
    assert cost.collectives == 0
    assert cost.floor_s == cost.bytes_accessed / aot.V5E_BYTES_PER_S


@pytest.mark.skipif(not aot.missing(), reason="libtpu is here")
def test_without_a_compiler_it_says_what_to_install():
    with pytest.raises(ValueError, match=r"libtpu is not installed: pip install .*\[tpu\]"):
        aot.tpu_mesh()
