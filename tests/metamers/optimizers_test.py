"""L-BFGS against SciPy's, Adam by the level against its formula, both in company."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

from metamer_jax.metamers import optimizers


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def badly_scaled(x):
    weights = jnp.logspace(0, 4, x.size)
    return 0.5 * jnp.sum(weights * (x - 1) ** 2)


def minimize_values(fn, start, evaluations):
    """Returns the value at each evaluation."""
    optimizer = optimizers.lbfgs(1e-2, 10)

    def step(carry, _):
        x, state = carry
        value, gradient = jax.value_and_grad(fn)(x)
        updates, state = optimizer.update(gradient, state, x, value=value)
        return (optax.apply_updates(x, updates), state), value

    return jax.lax.scan(step, (start, optimizer.init(start)), length=evaluations)[1]


@pytest.fixture
def optimized():
    """Programs as they are outside the tests, which leave out most optimisations."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


# Evaluations are counted: line searches that stop at the last bit count on how sums are rounded.
@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("fn", [rosenbrock, badly_scaled])
def test_it_needs_about_the_evaluations_that_scipys_does(fn):
    with jax.enable_x64(True):
        start = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, 20))
        theirs = scipy.optimize.minimize(
            jax.jit(jax.value_and_grad(fn)), start, jac=True, method="L-BFGS-B", tol=1e-12
        )
        assert theirs.fun < 1e-8
        values = np.asarray(jax.jit(lambda x: minimize_values(fn, x, 3 * theirs.nfev))(start))
    assert values[-1] < 1e-8
    assert np.argmax(np.minimum.accumulate(values) < 1e-8) < 1.5 * theirs.nfev


def test_accepted_points_never_get_worse_and_meet_the_sufficient_decrease():
    with jax.enable_x64(True):
        optimizer = optimizers.lbfgs(0.1, 5)
        x = jnp.asarray(np.random.default_rng(1).uniform(-2, 2, 10))
        state, accepted = optimizer.init(x), []
        update = jax.jit(lambda g, s, x, v: optimizer.update(g, s, x, value=v))
        for _ in range(120):
            value, gradient = jax.value_and_grad(rosenbrock)(x)
            before = state
            updates, state = update(gradient, state, x, value)
            if not np.array_equal(before.point, state.point):
                slope = float(jnp.vdot(before.gradient, before.direction))
                bound = float(before.value + 1e-4 * before.step * slope)
                assert float(state.value) <= bound or not np.isfinite(bound)
                accepted.append(float(state.value))
            x = x + updates
    assert len(accepted) > 40
    assert np.all(np.diff(accepted) < 0)


def test_the_first_update_has_the_length_asked_for_and_goes_down_the_gradient():
    optimizer = optimizers.lbfgs(0.05)
    x = jnp.asarray([3.0, -1.0, 2.0])
    gradient = jnp.asarray([1.0, 2.0, -2.0])
    updates, _ = optimizer.update(gradient, optimizer.init(x), x, value=jnp.asarray(1.0))
    np.testing.assert_allclose(updates, -gradient / 3 * 0.05 * np.sqrt(3), rtol=1e-5)


def test_a_search_goes_back_from_where_the_value_is_not_finite():
    def walled(x):
        return jnp.where(jnp.all(x < 1.5), jnp.sum((x - 1) ** 2), jnp.inf)

    values = minimize_values(walled, jnp.full(3, -4.0), 80)
    assert np.min(values) < 1e-6


def test_a_batch_of_searches_is_each_search():
    starts = jnp.asarray(np.random.default_rng(2).uniform(-1, 1, (4, 8)), jnp.float32)
    together = jax.jit(jax.vmap(lambda x: minimize_values(rosenbrock, x, 12)))(starts)
    alone = minimize_values(rosenbrock, starts[2], 12)
    np.testing.assert_allclose(together[2], alone, rtol=1e-3)


def test_no_memory_is_refused():
    with pytest.raises(ValueError, match="memory_size must be at least 1, got 0"):
        optimizers.lbfgs(0.1, 0)


@pytest.mark.parametrize("num_samples", [40, 37])
def test_local_level_interpolates_the_mean_squares_of_windows(num_samples):
    sound = np.random.default_rng(0).normal(size=num_samples) * np.linspace(1, 5, num_samples)
    windows = [sound[i : i + 8] for i in range(0, num_samples, 8)]
    power = np.interp(
        np.arange(num_samples) + 0.5,
        8 * np.arange(len(windows)) + 4,
        [np.mean(w**2) for w in windows],
    )
    expected = np.sqrt(power + 1e-4 * np.mean(sound**2))
    actual = optimizers.local_level(jnp.asarray(sound, jnp.float32), 8)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_relative_adam_is_nesterov_adam_times_the_level():
    rng = np.random.default_rng(1)
    x, gradients = rng.normal(size=16), rng.normal(size=(3, 16))
    optimizer = optimizers.relative_adam(0.1, 0.9, 0.99, window=4)
    state, sound = optimizer.init(jnp.asarray(x, jnp.float32)), jnp.asarray(x, jnp.float32)
    mean = square = np.zeros(16)
    for step, gradient in enumerate(gradients, start=1):
        update, state = optimizer.update(jnp.asarray(gradient, jnp.float32), state, sound)
        # Dozat (2016), "Incorporating Nesterov momentum into Adam".
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.99 * square + 0.01 * gradient**2
        ahead = 0.9 * mean / (1 - 0.9 ** (step + 1)) + 0.1 * gradient / (1 - 0.9**step)
        adam = ahead / (np.sqrt(square / (1 - 0.99**step)) + 1e-8)
        level = np.asarray(optimizers.local_level(sound, 4), np.float64)
        np.testing.assert_allclose(update, -0.1 * adam * level, rtol=2e-5)
        sound = sound + update


def test_relative_adam_takes_the_same_steps_at_any_level():
    def path(level):
        optimizer = optimizers.relative_adam(0.1, 0.9, 0.99, window=8)
        x = jnp.asarray(np.random.default_rng(2).normal(size=64) * level, jnp.float32)
        state = optimizer.init(x)
        for _ in range(5):
            update, state = optimizer.update(x - level, state, x)
            x = x + update
        return np.asarray(x) / level

    np.testing.assert_allclose(path(8.0), path(1.0), rtol=1e-4)
