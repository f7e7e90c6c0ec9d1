"""Connections over frequency and antialiased pooling, against written-out ones."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metamer_jax import auditory, configs, metamers, models
from metamer_jax.models import layers
from metamer_jax.training import step

KEY = jax.random.key(0)


def written_out(x, kernel):
    """Locally connected, one number at a time."""
    frequencies, high, wide, _, features = kernel.shape
    frames = x.shape[2] - wide + 1
    y = np.zeros((len(x), frequencies, frames, features))
    for b, f, t, o in itertools.product(*map(range, y.shape)):
        heard = x[b, f : f + high, t : t + wide]
        y[b, f, t, o] = np.sum(heard * kernel[f, ..., o])
    return y


def test_locally_connected_written_out():
    rng = np.random.default_rng(0)
    x, bias = rng.standard_normal((2, 6, 7, 3)), rng.standard_normal((5, 4))
    kernel = rng.standard_normal((5, 2, 3, 3, 4))
    layer = layers.LocallyConnected(4, (2, 3))
    variables = {"params": {"kernel": jnp.float32(kernel), "bias": jnp.float32(bias)}}
    expected = written_out(x, kernel) + bias[:, None]
    actual = layer.apply(variables, jnp.float32(x))
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    started = layer.init(KEY, jnp.float32(x))["params"]
    assert jax.tree.map(jnp.shape, started) == jax.tree.map(jnp.shape, variables["params"])
    limit = np.sqrt(6 / (6 * 3 + 6 * 4))  # Glorot's, of the local kernel.
    assert 0.95 * limit < np.abs(started["kernel"]).max() <= limit


def test_locally_connected_gradients_written_out():
    rng = np.random.default_rng(1)
    x, kernel = rng.standard_normal((2, 5, 5, 2)), rng.standard_normal((3, 3, 3, 2, 3))
    cotangent = rng.standard_normal((2, 3, 3, 3))
    _, back = jax.vjp(layers.locally_connect, jnp.float32(x), jnp.float32(kernel))
    of_x, of_kernel = back(jnp.float32(cotangent))
    # The layer is linear in each: differences are exact but for the rounding of float64.
    for actual, function, point in (
        (of_x, lambda v: written_out(v, kernel), x),
        (of_kernel, lambda v: written_out(x, v), kernel),
    ):
        direction = rng.standard_normal(point.shape)
        change = function(point + 0.5 * direction) - function(point - 0.5 * direction)
        np.testing.assert_allclose(
            np.sum(np.asarray(actual, np.float64) * direction),
            np.sum(cotangent * change),
            rtol=1e-4,
        )
    # And one number at a time: what an input of 1 alone would answer.
    for index in ((0, 0, 0, 0), (1, 2, 3, 1), (0, 4, 4, 1)):
        one = np.zeros(x.shape)
        one[index] = 1.0
        np.testing.assert_allclose(
            of_x[index], np.sum(cotangent * written_out(one, kernel)), rtol=1e-4, atol=1e-5
        )


def test_locally_connected_with_equal_weights_is_conv2d():
    small = {"input_shape": (10, 9), "conv_features": (3, 4), "dense_features": 5}
    conv2d, local = (
        models.build_model({"name": name, **small}, 2) for name in ("conv2d", "frequency_local")
    )
    x = jax.random.normal(KEY, (2, 10, 9))
    variables = jax.jit(conv2d.init)(KEY, x)
    params = dict(variables["params"])
    for name, frequencies in (("conv1", 8), ("conv2", 6)):
        params[name] = jax.tree.map(lambda p, n=frequencies: jnp.stack([p] * n), params[name])
    expected = jax.jit(conv2d.apply)(variables, x)
    actual = jax.jit(local.apply)({**variables, "params": params}, x)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_weight_decay_leaves_the_biases_of_every_frequency():
    params = {"conv1": {"kernel": jnp.ones((5, 2, 3, 3, 4)), "bias": jnp.ones((5, 4))}}
    optimizer = step.optimizer(configs.TRAINING_RECIPES["augmented"], steps_per_epoch=1)
    state = optimizer.init(params)
    for _ in range(2):  # The first step of the warm-up has a rate of zero.
        updates, state = optimizer.update(jax.tree.map(jnp.zeros_like, params), state, params)
    assert (updates["conv1"]["kernel"] < 0).all()
    np.testing.assert_array_equal(updates["conv1"]["bias"], 0.0)


def test_locally_connected_refuses_other_sizes():
    kernel = jnp.zeros((4, 3, 3, 2, 5))
    for shape in ((1, 7, 9, 2), (1, 6, 2, 2)):
        with pytest.raises(ValueError, match="x must be .*6 frequencies, 3 frames"):
            layers.locally_connect(jnp.zeros(shape), kernel)


def test_frequency_dense_is_the_grouped_network_with_one_group():
    small = {"input_shape": (10, 9), "conv_features": (6, 4), "dense_features": 5}
    dense = models.build_model({"name": "frequency_dense", **small}, 2)
    grouped = models.build_model({"name": "frequency_grouped", "groups": 1, **small}, 2)
    x = jax.random.normal(KEY, (2, 10, 9))
    variables = jax.jit(dense.init)(KEY, x)
    outputs = [jax.jit(model.apply)(variables, x) for model in (dense, grouped)]
    assert jax.tree.all(jax.tree.map(np.array_equal, *outputs))


@pytest.mark.parametrize("stride,frequency,attenuation_db", [(2, 1 / 4, -24.3), (3, 1 / 6, -28.7)])
def test_hann_pool_attenuates_what_would_alias(stride, frequency, attenuation_db):
    # Feather et al. (2019): windows of 8 and 12 points. Measured on tones, far from the ends.
    n = np.arange(240)
    tones = np.stack([np.cos(2 * np.pi * frequency * n), np.sin(2 * np.pi * frequency * n)])
    pooled = layers.hann_pool_weights(240, stride) @ tones.T
    assert pooled.shape == (240 // stride, 2)
    gain = np.hypot(*pooled[10:-10].T)  # Of the complex tone: its phase does not matter.
    np.testing.assert_allclose(20 * np.log10(gain), attenuation_db, atol=0.05)


def test_hann_pool_is_a_strided_convolution_with_normalised_ends():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, 9, 8, 3))

    def line(values, stride):
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(4 * stride) / (4 * stride - 1))
        pooled = []
        for i in range(len(values) // stride):
            near = [(k + i * stride - 3 * stride // 2, w) for k, w in enumerate(window)]
            inside = [(k, w) for k, w in near if 0 <= k < len(values)]
            pooled.append(sum(w * values[k] for k, w in inside) / sum(w for _, w in inside))
        return pooled

    expected = np.apply_along_axis(line, 2, np.apply_along_axis(line, 1, x, 3), 2)
    actual = layers.hann_pool(jnp.float32(x), (3, 2))
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    assert actual.shape == layers.max_pool(jnp.float32(x), (3, 2)).shape
    ones = jnp.ones((1, 7, 28, 2))
    np.testing.assert_allclose(layers.hann_pool(ones, (2, 2)), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(layers.hann_pool(ones, (1,)), ones)
    # Linear, so its gradient is the transpose: <pool(x), y> = <x, gradient>.
    y = rng.standard_normal(expected.shape)
    gradient = jax.grad(lambda x: jnp.sum(jnp.float32(y) * layers.hann_pool(x, (3, 2))))
    np.testing.assert_allclose(
        np.sum(np.asarray(gradient(jnp.zeros(x.shape))) * x), np.sum(expected * y), rtol=1e-4
    )


def test_features_are_not_low_passed():
    # Their order means nothing: over them the maximum stays, and time alone is low-passed.
    small = {"input_shape": (16, 12), "conv_features": (8, 8), "dense_features": 4, "groups": 2}
    model = models.build_model({"name": "frequency_grouped", "pooling": "hann", **small}, 2)
    x = jax.random.normal(KEY, (1, 16, 12))
    variables = jax.jit(model.init)(KEY, x)
    _, stages = jax.jit(model.apply)(variables, x)
    conv2 = np.asarray(stages["conv2"])[0]
    paired = np.maximum(conv2[:, 0::2], conv2[:, 1::2])
    pooled = layers.hann_pool_weights(8, 2) @ paired
    dense = pooled.ravel() @ np.asarray(variables["params"]["dense"]["kernel"])
    np.testing.assert_allclose(stages["dense"][0], np.maximum(dense, 0), rtol=1e-4, atol=1e-5)


def test_antialiased_network():
    plain = models.build_model("conv2d", 8)
    model = models.build_model("conv2d_antialiased", 8)
    x = jax.ShapeDtypeStruct((1, 211, 200), jnp.float32)
    # A control: nothing but the aliasing is another.
    assert jax.eval_shape(model.init, KEY, x) == jax.eval_shape(plain.init, KEY, x)
    assert model.reads(211, 200) is None
    with pytest.raises(ValueError, match="pooling must be 'max' or 'hann', got 'average'"):
        models.build_model({"name": "conv2d", "pooling": "average"}, 8)


@pytest.mark.parametrize(
    "name,stage", [("frequency_local", "conv2"), ("conv2d_antialiased", "dense")]
)
def test_synthesis_comes_nearer(name, stage):
    # `auditory_test` has the gradients of every stage of every network.
    cochleagram = configs.CochleagramConfig(
        duration_s=0.1, num_filters=8, sample_factor=1, method="multirate"
    )
    config = configs.replace_given(
        configs.SYNTHESIS_RECIPES["fast"], steps=30, batch_size=2, as_played=False
    )
    small = {"input_shape": (10, 10), "conv_features": (4, 4), "dense_features": 6}
    model = models.build_model({"name": name, **small}, 3)
    variables = jax.jit(auditory.init_variables, static_argnums=(1, 2))(KEY, model, cochleagram)
    sounds = 0.1 * np.random.default_rng(0).standard_normal((2, cochleagram.num_samples))
    stage_fn = auditory.stage_fn(model, stage, cochleagram, relu_override=True)
    found = metamers.synthesize(
        KEY, sounds.astype("f"), [0, 1], stage_fn=stage_fn, variables=variables, config=config
    )
    assert model.stage_names == configs.STAGES
    assert (found.relative_error[:, 0] < 0.7 * found.trace_relative_error[:, 0, 0]).all()
