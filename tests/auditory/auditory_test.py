"""The auditory model: its stages by name, alone and together, cut and whole."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metamer_jax import auditory, configs, models
from metamer_jax import cochleagram as cochleagrams

NETWORKS = tuple(models.WORD_NETWORKS)
# As many channels as the paper's, so that the resize skips some; short, so that it is quick.
CONFIG = configs.CochleagramConfig(duration_s=0.5)
FAST = dataclasses.replace(CONFIG, method="multirate")
WAVEFORMS = 0.1 * np.random.default_rng(0).standard_normal((2, CONFIG.num_samples)).astype("f")

forward = jax.jit(auditory.forward, static_argnums=0, static_argnames="config")


@functools.cache
def auditory_model(name):
    model = models.build_model(name, num_words=8)
    init = jax.jit(auditory.init_variables, static_argnums=(1, 2))
    variables = auditory.with_filters(init(jax.random.key(0), model, CONFIG), model, CONFIG)
    # Standardised as after fitting, so that ReLUs are on and off.
    filters = variables[auditory.FILTERS]["full"]
    image = cochleagrams.cochleagram(WAVEFORMS, filters, config=CONFIG)
    fitted = {
        "mean": jnp.mean(image),
        "variance": jnp.var(image),
        "count": jnp.asarray(image.size, jnp.int32),
    }
    return model, {**variables, "normalization": fitted}


@functools.cache
def every_stage(name):
    """Each stage from `stage_fn` and the gradient of its sum, without and with the override."""
    model, variables = auditory_model(name)

    @jax.jit
    def run(variables, waveform):
        found = {}
        for stage in model.stage_names:
            # One network at every stage, the other at one: each costs a compilation.
            overrides = (False, True) if name == "conv2d" or stage == "dense" else (False,)
            for override in overrides:
                stage_fn = auditory.stage_fn(model, stage, CONFIG, relu_override=override)
                value, back = jax.vjp(functools.partial(stage_fn, variables), waveform)
                found[stage, override] = value, back(jnp.ones_like(value))[0]
        return found

    return run(variables, WAVEFORMS[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_stage_functions_equal_the_whole_models_stages(name):
    model, variables = auditory_model(name)
    logits, stages = forward(model, variables, WAVEFORMS, config=CONFIG)
    assert auditory.stage_names(model) == tuple(stages) == configs.STAGES
    np.testing.assert_array_equal(logits, stages["logits"])
    for stage, expected in stages.items():
        value, _ = every_stage(name)[stage, False]
        assert value.shape == expected.shape[1:]
        scale = np.abs(expected).max()
        np.testing.assert_allclose(value / scale, expected[0] / scale, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_relu_override_changes_gradients_and_not_values(name):
    for stage in configs.STAGES if name == "conv2d" else ("dense",):
        value, gradient = every_stage(name)[stage, False]
        same_value, other_gradient = every_stage(name)[stage, True]
        np.testing.assert_allclose(value, same_value, rtol=1e-6, atol=1e-6)
        assert np.all(np.isfinite(gradient)) and np.all(np.isfinite(other_gradient))
        difference = np.linalg.norm(gradient - other_gradient) / np.linalg.norm(gradient)
        if stage in ("cochleagram", "logits"):  # No ReLU to override.
            assert difference < 1e-5
        else:
            assert np.mean(value == 0) > 0.1
            assert difference > 0.1


def test_what_is_read_is_a_cut_of_the_whole():
    model, variables = auditory_model("conv2d")
    grid = model.reads(CONFIG.num_channels, CONFIG.num_frames)
    assert (len(grid.channels), len(grid.frames)) == (64, 64)
    read = auditory.read_cochleagram(model, variables, WAVEFORMS, config=CONFIG)
    _, stages = forward(model, variables, WAVEFORMS, config=CONFIG)
    np.testing.assert_allclose(read, grid.cut(stages["cochleagram"]), rtol=2e-5, atol=1e-5)


def test_the_same_weights_serve_the_fast_cochleagram():
    model, variables = auditory_model("conv2d")
    fast = auditory.with_filters(auditory.without_filters(variables), model, FAST)
    for stage in ("cochleagram", "conv2"):
        exact = np.asarray(every_stage("conv2d")[stage, False][0])
        value = auditory.stage_fn(model, stage, FAST)(fast, WAVEFORMS[0])
        assert np.linalg.norm(value - exact) / np.linalg.norm(exact) < 3e-3


def test_filters_are_apart_from_the_networks_own_variables():
    model, variables = auditory_model("conv2d")
    own = auditory.without_filters(variables)
    assert set(own) == {"params", "normalization"}
    assert set(variables) == {*own, auditory.FILTERS}
    assert auditory.with_filters(own, model, CONFIG)["params"] is own["params"]


def test_a_network_that_reads_everything_shares_its_filters():
    model = models.build_model({"name": "conv2d", "antialias_resize": True}, num_words=8)
    held = auditory.with_filters({}, model, CONFIG)[auditory.FILTERS]
    assert held["read"] is held["full"]


def test_equal_stage_functions_are_one_to_jit():
    def make(stage="conv1", **options):
        model = models.build_model("conv2d", num_words=8)
        config = configs.CochleagramConfig(duration_s=0.5)
        return auditory.stage_fn(model, stage, config, **options)

    assert make() == make() and hash(make()) == hash(make())
    others = {make(), make("conv2"), make(relu_override=True)}
    assert len(others) == 3
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def run(stage_fn, x):
        traces.append(stage_fn)
        return x

    run(make(), 1.0), run(make(), 2.0), run(make("conv2"), 1.0)
    assert len(traces) == 2


def test_an_unknown_stage_is_refused():
    model = models.build_model("conv2d", num_words=8)
    with pytest.raises(ValueError, match=r"stage must be one of \('cochleagram', .*got 'conv9'"):
        auditory.stage_fn(model, "conv9", CONFIG)


def test_filters_of_another_method_are_refused():
    model, variables = auditory_model("conv2d")
    with pytest.raises(ValueError, match="filters were designed with another method"):
        auditory.forward(model, variables, WAVEFORMS, config=FAST)
