"""Operations whose derivative is chosen rather than derived."""

import functools

import jax
import jax.numpy as jnp


def square_root(x: jax.Array) -> jax.Array:
    """Square root of a non-negative array, with derivative zero (not infinity) at zero.

    `where` alone would not do: the derivative of the branch not taken is multiplied by zero, and
    zero times infinity is NaN. So that branch is given a one to take the root of.
    """
    zero = x == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, x)))


def norm(x: jax.Array) -> jax.Array:
    """Euclidean norm of all entries of an array, with derivative zero (not NaN) at zero."""
    return square_root(jnp.sum(x**2))


def magnitude(z: jax.Array) -> jax.Array:
    """Absolute value of a complex array, with derivative zero (not NaN) at zero."""
    return square_root(z.real**2 + z.imag**2)


@jax.custom_vjp
def relu_straight_through(x: jax.Array) -> jax.Array:
    """ReLU forward, identity backward.

    The "jittered ReLU" of Feather et al. (2019) and "fake ReLU" of Feather et al. (2023): at the
    matched stage it lets a unit that is off, but on for the target, be switched on.
    """
    return jnp.maximum(x, 0)


relu_straight_through.defvjp(lambda x: (jnp.maximum(x, 0), None), lambda _, g: (g,))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def power(x: jax.Array, exponent: float, gradient_limit: float | None) -> jax.Array:
    """Raises a non-negative array to `exponent`, its derivative clipped to +-`gradient_limit`.

    The derivative of a compressive power is infinite at zero; Feather et al. (2019) bound it.
    """
    return x**exponent


def _power_forward(x, exponent, gradient_limit):
    y = x**exponent
    return y, (x, y)


def _power_backward(exponent, gradient_limit, residuals, g):
    x, y = residuals
    if gradient_limit is None or exponent >= 1:
        slope = exponent * x ** (exponent - 1)
    else:
        # y / x is x ** (exponent - 1) without a second power; at zero it is no number.
        slope = jnp.where(x > 0, exponent * (y / jnp.where(x > 0, x, 1)), jnp.inf)
    if gradient_limit is not None:
        slope = jnp.minimum(slope, gradient_limit)
    return (g * slope,)


power.defvjp(_power_forward, _power_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def decibel(x: jax.Array, gradient_limit: float | None) -> jax.Array:
    """20 log10 of a positive array, its derivative clipped to +-`gradient_limit`."""
    return 20 * jnp.log10(x)


def _decibel_backward(gradient_limit, x, g):
    slope = (20 / jnp.log(10.0)).astype(x.dtype) / x
    return (g * (slope if gradient_limit is None else jnp.minimum(slope, gradient_limit)),)


decibel.defvjp(lambda x, gradient_limit: (20 * jnp.log10(x), x), _decibel_backward)
