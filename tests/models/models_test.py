"""The networks: the paper's sizes, layers against written-out ones, transformations of JAX."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metamer_jax import models
from metamer_jax.models import layers

NETWORKS = tuple(models.WORD_NETWORKS)
KEY = jax.random.key(0)
STAGES = ("cochleagram", "conv1", "conv2", "dense", "logits")


def cochleagrams(batch=3, channels=211, frames=200, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.gamma(2.0, 1.0, (batch, channels, frames)), jnp.float32)


@functools.cache
def network(name, **fields):
    model = models.build_model({"name": name, **fields}, num_words=8)
    return model, jax.jit(model.init)(KEY, cochleagrams(1))


@functools.partial(jax.jit, static_argnames=("model", "train", "straight_through", "grid"))
def apply(model, variables, x, *, rngs=None, **options):
    return model.apply(variables, x, rngs=rngs, **options)


@pytest.mark.parametrize(
    "name,count",
    [
        ("conv2d", 1_625_608),  # The paper's.
        ("frequency_grouped", 1_866_376),  # The paper's.
        # 30 frequencies x (9 x 32 + 32), 28 x (9 x 32 x 64 + 64), the rest as in conv2d.
        ("frequency_local", 9_600 + 517_888 + 1_605_760 + 1_032),
        # 3 x 32 x 128 + 128, 3 x 128 x 512 + 512, the rest as in frequency_grouped.
        ("frequency_dense", 12_416 + 197_120 + 1_835_520 + 4_104),
    ],
)
def test_trainable_parameters(name, count):
    _, variables = network(name)  # `init` has no dropout key here.
    assert sum(p.size for p in jax.tree.leaves(variables["params"])) == count
    assert set(variables) == {"params", "normalization"}
    assert set(variables["normalization"]) == {"mean", "variance", "count"}


@pytest.mark.parametrize(
    "name,shapes",
    [
        ("conv2d", [(211, 200), (30, 30, 32), (28, 28, 64), (128,), (8,)]),
        ("frequency_grouped", [(211, 200), (30, 128), (28, 512), (512,), (8,)]),
        ("frequency_local", [(211, 200), (30, 30, 32), (28, 28, 64), (128,), (8,)]),
        ("frequency_dense", [(211, 200), (30, 128), (28, 512), (512,), (8,)]),
    ],
)
def test_stages_come_in_processing_order(name, shapes):
    model, variables = network(name)
    logits, stages = apply(model, variables, cochleagrams(2))
    assert tuple(stages) == model.stage_names == STAGES
    assert [a.shape[1:] for a in stages.values()] == shapes
    np.testing.assert_array_equal(logits, stages["logits"])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_cut_cochleagram_gives_the_whole_ones_logits(name):
    model, variables = network(name)
    whole = cochleagrams(2)
    grid = model.reads(211, 200)
    assert (len(grid.channels), len(grid.frames)) == (64, 64)
    part = grid.cut(whole)
    assert part.shape == (2, 64, 64)
    expected, _ = apply(model, variables, whole)
    actual, _ = apply(model, variables, part, grid=grid)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)
    # What the cut left out is not read.
    unread = whole + 100.0 * (1.0 - _mask(grid))
    np.testing.assert_allclose(apply(model, variables, unread)[0], expected, rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="grid's"):
        apply(model, variables, whole, grid=grid)
    with pytest.raises(ValueError, match="grid lacks"):
        smaller = models.Grid(211, 200, grid.channels[1:], grid.frames)
        apply(model, variables, part[:, 1:], grid=smaller)


def _mask(grid):
    mask = np.zeros((grid.num_channels, grid.num_frames), np.float32)
    mask[np.ix_(grid.channels, grid.frames)] = 1.0
    return mask


def test_an_antialiased_network_reads_everything():
    model, variables = network("conv2d", antialias_resize=True)
    assert model.reads(211, 200) is None
    plain, _ = network("conv2d")
    x = cochleagrams(1)
    assert np.abs(apply(model, variables, x)[0] - apply(plain, variables, x)[0]).max() > 1e-3


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("size,shape", [((211, 200), (32, 32)), ((13, 9), (20, 9))])
def test_resize_agrees_with_jax_image(antialias, size, shape):
    x = cochleagrams(2, *size)
    expected = jax.image.resize(x, (2, *shape), "linear", antialias=antialias)
    actual = layers.resize(x, shape, antialias=antialias)
    np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-5)


def test_resize_is_tensorflows_written_out():
    # tensorflow/core/kernels/image/resize_bilinear_op.cc with half_pixel_centers.
    x = np.asarray(cochleagrams(1, 211, 200)[0], np.float64)

    def line(num_inputs, num_outputs, i):
        position = (i + 0.5) * num_inputs / num_outputs - 0.5
        lower = max(int(np.floor(position)), 0)
        upper = min(int(np.ceil(position)), num_inputs - 1)
        return lower, upper, position - np.floor(position)

    expected = np.empty((32, 40))
    for i, j in itertools.product(range(32), range(40)):
        top, bottom, down = line(211, 32, i)
        left, right, along = line(200, 40, j)
        upper = x[top, left] * (1 - along) + x[top, right] * along
        lower = x[bottom, left] * (1 - along) + x[bottom, right] * along
        expected[i, j] = upper * (1 - down) + lower * down
    actual = layers.resize(jnp.asarray(x, jnp.float32), (32, 40))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    # 211 x 200 -> 32 x 32: no centre falls on a pixel, so that 64 x 64 points are read.
    np.testing.assert_array_equal(np.count_nonzero(layers.resize_weights(211, 32), axis=1), 2)
    np.testing.assert_array_equal(np.count_nonzero(layers.resize_weights(200, 32), axis=1), 2)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_grouped_convolution_written_out(groups):
    rng = np.random.default_rng(1)
    batch, frames, inputs, features, extent = 2, 7, 16, 24, 3
    x = rng.standard_normal((batch, frames, inputs))
    kernel = rng.standard_normal((extent, inputs // groups, features))
    expected = np.zeros((batch, frames - extent + 1, features))
    for feature in range(features):
        group = feature // (features // groups)
        for i in range(inputs // groups):
            for k in range(extent):
                heard = x[:, k : k + frames - extent + 1, group * (inputs // groups) + i]
                expected[:, :, feature] += heard * kernel[k, i, feature]
    actual = layers.convolve(jnp.float32(x), jnp.float32(kernel), groups=groups)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "shape,extents,groups", [((9, 8), (3, 3), 1), ((9, 8), (2, 5), 2), ((9,), (3,), 4)]
)
def test_convolution_has_flaxs_parameters_and_gradients(shape, extents, groups):
    x = jax.random.normal(KEY, (2, *shape, 8))
    ours = layers.Convolution(12, extents, groups)
    flaxs = nn.Conv(12, extents, padding="VALID", feature_group_count=groups)
    variables = ours.init(KEY, x)
    expected = jax.eval_shape(flaxs.init, KEY, x)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, expected)
    variables["params"]["bias"] = jnp.arange(12.0)

    def loss(apply):
        return lambda v, x: jnp.sum(jnp.sin(apply(v, x)))

    actual, expected = (
        jax.jit(jax.value_and_grad(loss(module.apply), (0, 1)))(variables, x)
        for module in (ours, flaxs)
    )
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_weights_start_as_keras_starts_them():
    _, variables = network("frequency_grouped")
    for kernel, fans in (
        (variables["params"]["conv2"]["kernel"], 3 * 16 + 3 * 512),
        (variables["params"]["dense"]["kernel"], 3584 + 512),
    ):
        limit = np.sqrt(6 / fans)  # Keras: glorot_uniform over the kernel's own shape.
        assert 0.98 * limit < np.abs(kernel).max() <= limit
    assert not np.any(variables["params"]["conv1"]["bias"])


@pytest.mark.parametrize("shape,window", [((2, 6, 8, 3), (2, 2)), ((2, 7, 9), (2, 3))])
def test_pool_and_its_gradient_agree_with_xlas(shape, window):
    # Whole numbers: ties in most windows, where the first of the largest takes the gradient.
    x = jnp.asarray(np.random.default_rng(2).integers(0, 3, shape), jnp.float32)

    def xlas(x):
        sizes = (1, *window, *(1 for _ in shape[1 + len(window) :]))
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, sizes, sizes, "VALID")

    np.testing.assert_array_equal(layers.max_pool(x, window), xlas(x))
    weights = jax.random.normal(KEY, xlas(x).shape)
    ours = jax.grad(lambda x: jnp.sum(weights * layers.max_pool(x, window)))(x)
    expected = jax.grad(lambda x: jnp.sum(weights * xlas(x)))(x)
    np.testing.assert_array_equal(ours, expected)


def test_pool_passes_nan_on():
    for i, j in itertools.product(range(2), range(2)):
        x = jnp.zeros((1, 2, 2)).at[0, i, j].set(jnp.nan)
        assert np.isnan(layers.max_pool(x, (2, 2))).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_straight_through_acts_at_its_stage_only(name):
    model, variables = network(name)
    x = cochleagrams(1)
    target = {k: jnp.ones_like(a) for k, a in apply(model, variables, x)[1].items()}

    def gradient(stage, straight_through):
        def loss(x):
            _, stages = apply(model, variables, x, straight_through=straight_through)
            return 0.5 * jnp.sum((stages[stage] - target[stage]) ** 2)

        return jax.jit(jax.grad(loss))(x)

    # conv1 by hand: through a linear layer, the residual as it is, not masked by the ReLU.
    def linear(x):
        image = layers.standardize(model.resized(x), **_statistics(variables))
        image = model.arrange(image)
        return model.convolution(model.conv_features[0], None).apply(
            {"params": variables["params"]["conv1"]}, image
        )

    @jax.jit
    def by_hand(x):
        before, pull = jax.vjp(linear, x)
        return pull(jax.nn.relu(before) - target["conv1"])[0]

    expected = by_hand(x)
    np.testing.assert_allclose(gradient("conv1", "conv1"), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(gradient("conv1", None) - expected).max() > 1e-3
    np.testing.assert_array_equal(gradient("conv1", "dense"), gradient("conv1", None))
    with pytest.raises(ValueError, match="straight_through"):
        apply(model, variables, x, straight_through="relu1")


def _statistics(variables):
    return {k: variables["normalization"][k] for k in ("mean", "variance")}


@pytest.mark.parametrize("name", NETWORKS)
def test_works_inside_jit_vmap_and_grad(name):
    model, variables = network(name)
    x = cochleagrams(4)

    def loss(variables, x):
        return jnp.sum(apply(model, variables, x[None])[0] ** 2)

    together = jax.jit(jax.vmap(jax.grad(loss, argnums=1), (None, 0)))(variables, x)
    gradient = jax.jit(jax.grad(loss, argnums=1))
    alone = jnp.stack([gradient(variables, each) for each in x])
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-4 * np.abs(alone).max())
    # Its length, by central differences along it.
    length = jnp.linalg.norm(together[0])
    step = 0.05 * together[0] / length
    difference = loss(variables, x[0] + step) - loss(variables, x[0] - step)
    np.testing.assert_allclose(length, difference / 0.1, rtol=2e-2)


@pytest.mark.parametrize("name", NETWORKS)
def test_dropout_acts_in_training_alone(name):
    model, variables = network(name)
    x = cochleagrams(2)
    a, b = (
        apply(model, variables, x, train=True, rngs={"dropout": jax.random.key(i)})[0]
        for i in (1, 2)
    )
    assert np.abs(a - b).max() > 1e-3
    np.testing.assert_array_equal(apply(model, variables, x)[0], apply(model, variables, x)[0])


def test_standardize_is_keras_normalization():
    x = jnp.array([1.0, 3.0])
    np.testing.assert_allclose(layers.standardize(x, 1.0, 4.0), [0.0, 1.0])
    np.testing.assert_allclose(layers.standardize(x, 1.0, 0.0), [0.0, 2e7])  # Keras's epsilon.


def test_any_group_count():
    for groups in (1, 4, 16):
        model = models.build_model({"name": "frequency_grouped", "groups": groups}, num_words=8)
        (logits, _), variables = jax.eval_shape(model.init_with_output, KEY, cochleagrams(1))
        assert variables["params"]["conv2"]["kernel"].shape == (3, 128 // groups, 512)
        assert logits.shape == (1, 8)
    with pytest.raises(ValueError, match=r"groups must lie in \[1, inputs=32\], got 33"):
        network("frequency_grouped", groups=33)


def test_groups_that_do_not_divide_are_cut_as_numpy_cuts():
    rng = np.random.default_rng(3)
    inputs, features, groups = 8, 10, 3  # 3, 3, 2 inputs and 4, 3, 3 features.
    x = rng.standard_normal((2, 6, inputs))
    layer = layers.Convolution(features, (3,), groups)
    variables = layer.init(KEY, jnp.float32(x))
    assert sorted(variables["params"]) == ["bias", "kernel0", "kernel1", "kernel2"]
    bias = rng.standard_normal(features)
    variables["params"]["bias"] = jnp.float32(bias)
    expected = []
    for i, heard in enumerate(np.array_split(np.arange(inputs), groups)):
        kernel = np.asarray(variables["params"][f"kernel{i}"], np.float64)
        assert kernel.shape == (3, len(heard), len(np.array_split(np.arange(features), groups)[i]))
        # One limit for every group: they start alike.
        limit = np.sqrt(6 / (3 * len(heard) + 3 * features))
        assert 0.9 * limit < np.abs(kernel).max() <= limit
        expected.append(sum(x[:, k : k + 4, heard] @ kernel[k] for k in range(3)))
    actual = layer.apply(variables, jnp.float32(x))
    np.testing.assert_allclose(actual, np.concatenate(expected, -1) + bias, rtol=1e-4, atol=1e-4)


def test_bands_stay_apart_with_any_group_count():
    model, variables = network("frequency_grouped", groups=5, dense_features=8)
    x = cochleagrams(1, 32, 32)
    bands = np.array_split(np.arange(512), 5)
    _, stages = apply(model, variables, x)
    _, changed = apply(model, variables, x.at[:, 7:13].add(1.0))  # The second: 7, 7, 6, 6, 6.
    same = np.asarray(stages["conv2"] == changed["conv2"]).all((0, 1))
    assert not same[bands[1]].all()
    assert same[np.setdiff1d(np.arange(512), bands[1])].all()


def test_bad_requests_are_refused_by_name():
    with pytest.raises(ValueError, match="'conv3d'"):
        models.build_model("conv3d", 8)
    with pytest.raises(ValueError, match="no field.*wdith"):
        models.build_model({"name": "conv2d", "wdith": 3}, 8)
    with pytest.raises(ValueError, match="num_words"):
        models.build_model("conv2d", 1)
    with pytest.raises(ValueError, match="channels must be ascending"):
        models.Grid(4, 4, (2, 1), (0,))
    model, variables = network("conv2d")
    with pytest.raises(ValueError, match="cochleagram must be"):
        apply(model, variables, jnp.zeros((211, 200)))


def test_a_network_from_json_is_hashable():
    model = models.build_model({"name": "conv2d", "conv_features": [8, 8]}, 8)
    assert hash(model) == hash(models.build_model({"name": "conv2d", "conv_features": (8, 8)}, 8))
