"""Tests of Fourier transforms as matrix products, against NumPy and against FFTs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metamer_jax import cochleagram
from metamer_jax.cochleagram import accuracy, matmul
from metamer_jax.configs import CochleagramConfig


@pytest.mark.parametrize("num_samples", [2000, 97, 1])
def test_spectrum_is_that_of_an_fft(num_samples):
    sound = np.random.default_rng(0).standard_normal((3, num_samples))
    matrices = matmul.design_spectrum(num_samples)
    real, imaginary = matmul.spectrum(jnp.asarray(sound, jnp.float32), matrices)
    wanted = np.fft.rfft(sound)
    scale = np.linalg.norm(wanted)
    assert np.linalg.norm(np.asarray(real) + 1j * np.asarray(imaginary) - wanted) < 1e-6 * scale


def test_products_make_the_cochleagram_and_gradient_of_the_definition():
    # Wide enough filters that both kinds of product are used.
    fft = CochleagramConfig(duration_s=0.25, num_filters=20, sample_factor=2, oversampling=6.0)
    products = dataclasses.replace(fft, method="multirate", transform="matmul")
    sound = 0.1 * np.random.default_rng(1).standard_normal((2, fft.num_samples))
    sound = jnp.asarray(sound, jnp.float32)

    def measured(config):
        filters = cochleagram.design_cochleagram(config)

        def total(sound):
            made = jax.vmap(lambda w: cochleagram.cochleagram(w, filters, config=config))(sound)
            return jnp.sum(made**2), made

        (_, made), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(sound)
        return filters.bands, np.asarray(made), np.asarray(gradient)

    _, made, gradient = measured(fft)
    bands, fast, fast_gradient = measured(products)
    assert len(bands.groups) > 1
    assert np.linalg.norm(fast - made) < 2e-3 * np.linalg.norm(made)
    cosine = np.sum(gradient * fast_gradient) / (
        np.linalg.norm(gradient) * np.linalg.norm(fast_gradient)
    )
    assert cosine > 0.998


def test_filters_as_wide_as_the_clip_have_a_grid_of_whole_lanes():
    # 4,000 samples are no multiple of 128 lanes.
    config = CochleagramConfig(
        duration_s=0.25,
        num_filters=20,
        sample_factor=2,
        oversampling=11.0,
        method="multirate",
        transform="matmul",
    )
    filters = cochleagram.design_cochleagram(config)
    points = [g.lowpass.shape[0] * g.lowpass.shape[1] for g in filters.bands.groups]
    assert max(points) == 4096
    assert accuracy.cochleagram_error(config) < 1e-3


def test_the_platform_chooses_unless_told():
    assert matmul.resolve("auto", "tpu") == "matmul"
    assert matmul.resolve("auto", "cpu") == matmul.resolve("auto", "cuda") == "fft"
    assert matmul.resolve("fft", "tpu") == "fft"
    with pytest.raises(ValueError, match="transform must be one of"):
        matmul.resolve("dft")
