"""ReLUs found in what JAX traces, and overridden there."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metamer_jax.own_models import relus

X = jnp.asarray([-2.0, -0.5, 0.5, 3.0])


def squared_relu_body(x):
    return jax.lax.scan(lambda c, _: (jax.nn.relu(c - 0.1), None), x, None, length=2)[0]


RELUS = {
    "jax.nn": jax.nn.relu,
    "linen": nn.relu,
    "maximum": lambda x: jnp.maximum(x, 0),
    "maximum, swapped": lambda x: jnp.maximum(0.0, x),
    "maximum of zeros": lambda x: jnp.maximum(x, jnp.zeros_like(x)),
    "maximum of a constant": lambda x: jnp.maximum(x, np.zeros(4, np.float32)),
    "where": lambda x: jnp.where(x > 0, x, 0),
    "where, swapped": lambda x: jnp.where(x >= 0, x, 0),
    "where not": lambda x: jnp.where(x < 0, 0, x),
    "where, computed twice": lambda x: jnp.where(x[::-1] * 1 > 0, x[::-1] * 1, 0)[::-1],
    "clip": lambda x: jnp.clip(x, 0),
    "times": lambda x: x * (x > 0),
    "times, swapped": lambda x: (x > 0).astype(x.dtype) * x,
    "jit": jax.jit(jax.jit(jax.nn.relu)),
    "checkpoint": jax.checkpoint(lambda x: jax.nn.relu(x)),
    "vmap": jax.vmap(jax.nn.relu),
}
OTHERS = {
    "relu6": jax.nn.relu6,
    "leaky": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "abs": jnp.abs,
    "minimum": lambda x: jnp.minimum(x, 0),
    "other bound": lambda x: jnp.maximum(x, 1.0),
    "other side": lambda x: jnp.where(x > 0, 0.0, x),
    "other value": lambda x: jnp.where(x > 0, x, 1.0),
    "other argument": lambda x: jnp.where(x > 0, x + 1.0, 0.0),
    "of another": lambda x: jnp.where(x * 2 > 0, x * 3, 0),
    "of two": lambda x: jnp.maximum(x, -x),
}


def overridden(function, x, weight=1.0):
    """Value and gradient of the weighted sum, with the ReLU that it ends in overridden."""
    program = relus.trace(lambda x: [function(x)], x)
    chosen = relus.ending(program, program.outputs[0])

    def value(x):
        return relus.evaluate(program, [x], program.outputs, chosen)[0]

    return chosen, value(x), jax.grad(lambda x: jnp.sum(weight * value(x)))(x)


@pytest.mark.parametrize("name", RELUS)
def test_a_relu_is_known_by_what_it_computes(name):
    chosen, value, gradient = overridden(RELUS[name], X)
    assert len(chosen) == 1
    np.testing.assert_array_equal(value, np.maximum(X, 0))
    np.testing.assert_array_equal(gradient, np.ones(4))


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_relu_keeps_its_derivative(name):
    chosen, value, gradient = overridden(OTHERS[name], X)
    assert chosen == ()
    np.testing.assert_allclose(value, OTHERS[name](X), rtol=1e-6)
    np.testing.assert_allclose(gradient, jax.grad(lambda x: OTHERS[name](x).sum())(X), rtol=1e-6)


def test_only_the_relu_of_the_stage_is_overridden():
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 6, 6)).astype("f")
    x, weight = rng.standard_normal((2, 6)).astype("f")

    @jax.jit
    def network(x):
        return jax.nn.relu(second @ jnp.maximum(first @ x, 0)).reshape(2, 3).T

    chosen, value, gradient = overridden(network, jnp.asarray(x), weight.reshape(3, 2))
    hidden = np.maximum(first @ x, 0)
    np.testing.assert_allclose(
        value, np.maximum(second @ hidden, 0).reshape(2, 3).T, rtol=1e-5, atol=1e-6
    )
    back = second.T @ weight.reshape(3, 2).T.ravel()  # As if the last ReLU were not there.
    np.testing.assert_allclose(gradient, first.T @ (back * (hidden > 0)), rtol=1e-4, atol=1e-5)
    assert len(relus.find(relus.trace(lambda x: [network(x)], x))) == 2 and len(chosen) == 1


def test_joined_relus_are_all_overridden_and_half_a_join_is_none():
    chosen, _, gradient = overridden(
        lambda x: jnp.concatenate([jax.nn.relu(x), jax.nn.relu(-2 * x)]), X
    )
    assert len(chosen) == 2
    np.testing.assert_array_equal(gradient, -np.ones(4))
    assert overridden(lambda x: jnp.concatenate([jax.nn.relu(x), x]), X)[0] == ()


def test_a_pool_behind_a_relu_is_not_the_relu():
    assert overridden(lambda x: jax.nn.relu(x).max(keepdims=True), X)[0] == ()


@pytest.mark.parametrize(
    "function",
    [
        squared_relu_body,
        lambda x: jax.lax.cond(x[0] > 0, jax.nn.relu, lambda x: 2 * x, x),
        lambda x: jax.lax.while_loop(lambda c: c[0] > 9, jax.nn.relu, x),
    ],
    ids=["scan", "cond", "while"],
)
def test_a_relu_inside_a_loop_is_refused(function):
    program = relus.trace(lambda x: [function(x)], X)
    with pytest.raises(relus.InnerReluError, match="inside a lax.*relu_override=False"):
        relus.ending(program, program.outputs[0])
    np.testing.assert_allclose(relus.evaluate(program, [X], program.outputs)[0], function(X))


def test_other_custom_derivatives_survive():
    @jax.custom_vjp
    def doubled_gradient(x):
        return x

    doubled_gradient.defvjp(lambda x: (x, None), lambda _, g: (2 * g,))
    _, _, gradient = overridden(lambda x: jax.nn.relu(doubled_gradient(x)), X)
    np.testing.assert_array_equal(gradient, 2 * np.ones(4))


def test_what_is_not_needed_is_not_computed():
    program = relus.trace(lambda x: [jax.nn.relu(x), jnp.sin(x) @ jnp.cos(x)], X)

    def first(x):
        return relus.evaluate(program, [x], program.outputs[:1])

    assert "sin" not in str(jax.make_jaxpr(first)(X))
