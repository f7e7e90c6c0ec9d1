"""Derivatives that are chosen: what is chosen holds, and elsewhere they are the true ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metamer_jax import gradients


def slope(f, x):
    return jax.grad(lambda x: jnp.sum(f(x)))(x)


def test_magnitude_is_the_absolute_value_with_gradient_zero_at_zero():
    z = jnp.asarray([3 + 4j, 0, -2j, 1e-12 + 0j], jnp.complex64)
    np.testing.assert_allclose(gradients.magnitude(z), [5, 0, 2, 1e-12], rtol=1e-6)

    def of_parts(parts):
        return jnp.sum(gradients.magnitude(parts[0] + 1j * parts[1]))

    gradient = jax.jit(jax.grad(of_parts))(jnp.stack([z.real, z.imag]))
    np.testing.assert_allclose(gradient, [[0.6, 0, 0, 1], [0.8, 0, -1, 0]], rtol=1e-6)


def test_relu_straight_through_passes_gradients_where_it_is_off():
    x = jnp.asarray([-2.0, 0.0, 3.0])
    np.testing.assert_array_equal(gradients.relu_straight_through(x), [0, 0, 3])
    np.testing.assert_array_equal(slope(gradients.relu_straight_through, x), [1, 1, 1])
    weighted = jax.grad(lambda x: jnp.vdot(jnp.arange(3.0), gradients.relu_straight_through(x)))(x)
    np.testing.assert_array_equal(weighted, [0, 1, 2])


@pytest.mark.parametrize("exponent", [0.3, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("limit", [None, 0.2, 1.0, 5.0])
def test_power_clips_its_derivative(exponent, limit):
    x = np.array([1e-30, 1e-6, 0.01, 0.18, 1.0, 7.0, 1e4], np.float32)
    expected = exponent * x.astype(np.float64) ** (exponent - 1)
    if limit is not None:
        expected = np.clip(expected, -limit, limit)
    np.testing.assert_allclose(gradients.power(x, exponent, limit), x**exponent, rtol=1e-6)
    actual = jax.jit(lambda x: slope(lambda x: gradients.power(x, exponent, limit), x))(x)
    np.testing.assert_allclose(actual, expected, rtol=2e-5)


def test_power_at_zero_has_the_limit_as_derivative():
    zero = jnp.zeros(1)
    assert gradients.power(zero, 0.3, 1.0) == 0
    assert slope(lambda x: gradients.power(x, 0.3, 1.0), zero) == 1
    assert slope(lambda x: gradients.power(x, 2.0, 1.0), zero) == 0


@pytest.mark.parametrize("limit", [None, 4.0])
def test_decibel_clips_its_derivative(limit):
    x = np.array([1e-8, 0.1, 1.0, 3.0, 1e3], np.float32)
    np.testing.assert_allclose(
        gradients.decibel(x, limit), 20 * np.log10(x.astype(np.float64)), rtol=1e-6, atol=1e-6
    )
    expected = np.minimum(8.685889638 / x.astype(np.float64), limit or np.inf)
    np.testing.assert_allclose(slope(lambda x: gradients.decibel(x, limit), x), expected, rtol=1e-6)


def test_decibel_computes_in_the_precision_of_its_argument():
    with jax.enable_x64(True):
        x = jnp.asarray([0.3, 2.0])
        np.testing.assert_allclose(
            slope(lambda x: gradients.decibel(x, None), x), 20 / np.log(10) / x, rtol=1e-14
        )
        single = jnp.asarray([0.3], jnp.float32)
        assert slope(lambda x: gradients.decibel(x, 1.0), single).dtype == jnp.float32


def test_the_square_root_has_slope_zero_at_zero_and_keeps_what_is_no_number():
    x = jnp.asarray([4.0, 0.0, jnp.nan])
    np.testing.assert_array_equal(gradients.square_root(x), [2, 0, np.nan])
    np.testing.assert_array_equal(slope(gradients.square_root, x[:2]), [0.25, 0])
    np.testing.assert_array_equal(jax.grad(gradients.norm)(jnp.zeros(3)), np.zeros(3))
    assert np.isnan(gradients.norm(x))  # A norm of zero would pass for a perfect match.
