"""The networks of Feather et al. (2023): sizes, batch norm, training, metamers, several devices.

Their activations are compared with NumPy's in torch_import_test.
"""

import dataclasses
import functools
import json
import math
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_run
import tiny_network

from metamer_jax import auditory, configs, metamers, models, pipeline, runs, storage, training
from metamer_jax import cochleagram as cochleagrams
from metamer_jax.models import blocks
from metamer_jax.storage import checkpoints

KEY = jax.random.key(0)
SMALL = {"name": "cochcnn9", "conv_features": (4, 4, 4, 4, 4), "dense_features": 8}
FULL = configs.COCHLEAGRAMS["feather2023"]  # 20 kHz, 2 s.


def shapes(network, num_words, config=FULL):
    model = models.build_model(network, num_words)
    cochleagram = jax.ShapeDtypeStruct((1, config.num_channels, config.num_frames), jnp.float32)
    (_, stages), variables = jax.eval_shape(model.init_with_output, KEY, cochleagram)
    assert tuple(stages) == auditory.stage_names(model)
    count = sum(math.prod(p.shape) for p in jax.tree.leaves(variables["params"]))
    return {name: stage.shape[1:] for name, stage in stages.items()}, count, variables


def test_cochcnn9_has_the_published_sizes():
    found, count, variables = shapes("cochcnn9", 794)
    assert found == {
        "cochleagram": (211, 390),
        "relu0": (71, 130, 96),
        "relu1": (18, 33, 256),
        "relu2": (9, 17, 512),
        "relu3": (9, 17, 1024),
        "relu4": (9, 17, 512),
        "avgpool": (5, 9, 512),  # The published code's dense layer has 512 x 9 x 5 inputs.
        "relufc": (4096,),
        "final": (794,),
    }
    kernels = [1 * 96 * 98, 96 * 256 * 32, 256 * 512 * 10, 512 * 1024 * 10, 1024 * 512 * 10]
    dense = 512 * 9 * 5 * 4096 + 4096 + 4096 * 794 + 794
    norms = 2 * (1 + 96 + 256)
    assert count == sum(kernels) + dense + norms == 110_221_980
    assert {k: v["mean"].shape for k, v in variables["batch_stats"].items()} == {
        "batchnorm0": (1,), "batchnorm1": (96,), "batchnorm2": (256,),
    }  # fmt: skip


def test_cochresnet50_has_the_published_sizes():
    found, count, _ = shapes("cochresnet50", 1000)
    assert list(found.values()) == [
        (211, 390), (106, 195, 64), (53, 98, 256), (27, 49, 512), (14, 25, 1024), (7, 13, 2048),
        (2048,), (1000,),
    ]  # fmt: skip
    # torchvision's resnet50 has 25,557,032, with three colours for one cochleagram.
    assert count == 25_557_032 - 2 * 64 * 7 * 7


def test_spectemp_has_the_published_sizes():
    found, count, variables = shapes("spectemp", 794)
    # 9 x 7 filters, and 8 x 6 of the other direction.
    assert found["filtered_signal"] == found["spectempfilter_power"] == (111, 211, 390)
    assert found["avgpool"] == (111, 211)
    assert count == 111 * 211 * 794 + 794 and "batch_stats" not in variables


@pytest.mark.parametrize("network", ["cochcnn9_small", "cochresnet50_small", "spectemp_small"])
def test_small_networks_are_for_a_second_at_16_khz(network):
    found, count, _ = shapes(network, 13, configs.COCHLEAGRAMS["speech_commands"])
    assert found["cochleagram"] == (211, 200) and found["final"] == (13,)
    assert count < 1e6


def test_refusals():
    build = functools.partial(models.build_model, num_words=3)
    for settings, message in (
        ({"name": "cochcnn9", "conv_features": (1, 2)}, "must be 5 widths"),
        ({"name": "cochcnn9", "pooling": "mean"}, "'max' or 'hann'"),
        ({"name": "cochresnet50", "pooling": "mean"}, "'max' or 'hann'"),
        ({"name": "spectemp", "temporal_rates_hz": (0, 101)}, "must not exceed 100"),
        ({"name": "spectemp", "spectral_rates": (1, 0)}, "ascending"),
    ):
        with pytest.raises(ValueError, match=message):
            build(settings)
    model, x = build(SMALL), jnp.zeros((1, 20, 20))
    with pytest.raises(ValueError, match=r"straight_through must be one of .*relufc"):
        model.init(KEY, x, straight_through="logits")
    with pytest.raises(ValueError, match="whole cochleagram is read"):
        model.init(KEY, x, grid=models.Grid(20, 20, (0,), (0,)))
    with pytest.raises(ValueError, match="batch_size must be a multiple of the mesh's 3 devices"):
        training.check_mesh(jax.sharding.AbstractMesh((3,), ("clip",)), configs.TrainingConfig())


def test_pools_equal_xlas():
    """Of an axis of an odd length and a long window, and of others."""
    x = jax.random.normal(KEY, (2, 7, 6, 3))
    settings = [((5, 2), (2, 1)), ((2, 5), (2, 2)), ((1, 3), (3, 1))]

    def pools(x):
        for extents, strides in settings:
            window, steps = (1, *extents, 1), (1, *strides, 1)
            largest = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, steps, "SAME")
            total = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, steps, "SAME")
            yield blocks.max_pool(x, extents, strides), largest
            yield blocks.average_pool(x, extents, strides), total / math.prod(extents)

    for found, expected in jax.jit(lambda x: list(pools(x)))(x):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_two_convolutions_are_one():
    """With strides that leave points over, an even extent, and padding of either kind."""
    x, kernel = jax.random.normal(KEY, (2, 9, 11, 3)), jax.random.normal(KEY, (4, 3, 3, 5))

    def responses(x, kernel):
        for convolve in (blocks.convolve_by_product, blocks.convolve_by_xla):
            for strides, padding in (((2, 3), "SAME"), ((1, 2), ((1, 2), (0, 1)))):
                yield convolve(x, kernel, strides, padding)

    product, product_padded, xla, xla_padded = jax.jit(lambda *a: list(responses(*a)))(x, kernel)
    np.testing.assert_allclose(product, xla, atol=1e-4)
    np.testing.assert_allclose(product_padded, xla_padded, atol=1e-4)


def test_the_override_passes_every_gradient_at_the_matched_stage_alone():
    model = models.build_model(SMALL, 2)

    def total(x, variables, straight_through):
        return model.apply(variables, x, straight_through=straight_through)[1]["relu1"].sum()

    def before_relu(x, variables):
        _, seen = model.apply(
            variables, x, capture_intermediates=lambda m, _: m.name == "conv1",
            mutable=["intermediates"],
        )  # fmt: skip
        return seen["intermediates"]["conv1"]["__call__"][0].sum()

    @jax.jit
    def gradients(x):
        variables = model.init(KEY, x)
        overrides = [jax.grad(total)(x, variables, override) for override in ("relu1", None)]
        return (*overrides, jax.grad(before_relu)(x, variables))

    straight, ordinary, linear = gradients(jax.random.normal(KEY, (1, 20, 20)))
    np.testing.assert_allclose(straight, linear, atol=1e-6)
    assert np.abs(ordinary - straight).max() > 1e-3


TINY = tiny_network.Tiny(2)
TRAIN = functools.partial(
    training.train, KEY, TINY, tiny_network.clips(40, 1), tiny_network.clips(20, 2)
)
CONFIG = configs.TrainingConfig(
    epochs=12, batch_size=16, learning_rate=0.01, patience=0, ema_decay=0.9
)


@pytest.fixture(scope="module")
def trained():
    """Networks at the end of training, and the states after each epoch."""
    states = []
    return TRAIN(CONFIG, on_epoch=lambda state, _: states.append(state)), states


def test_learns_with_batch_norm(trained):
    result, states = trained
    score = training.evaluate(TINY, result.variables, *tiny_network.clips(100, 3))
    assert score.accuracy > 0.9
    # Batches of 16, 16 and 8 clips filled up to 16, from a mean of 0 and a variance of 1.
    stats, left = states[-1].batch_stats["batchnorm0"], 0.9 ** (3 * CONFIG.epochs)
    inputs = tiny_network.clips(40, 1).inputs
    np.testing.assert_allclose(stats["mean"], (1 - left) * inputs.mean(), rtol=0.02)
    np.testing.assert_allclose(stats["var"], left + (1 - left) * inputs.var(), rtol=0.05)
    # The statistics are those that go with the averaged weights of the best epoch.
    best = states[result.best_epoch - 1]
    for name in ("params", "batch_stats"):
        expected = {"params": best.average, "batch_stats": best.average_stats}[name]
        jax.tree.map(np.testing.assert_array_equal, result.variables[name], expected)
    averaged, latest = (s["batchnorm0"]["mean"] for s in (best.average_stats, best.batch_stats))
    assert np.any(averaged != latest)


def test_one_step_moves_the_running_statistics_by_a_tenth():
    config = dataclasses.replace(CONFIG, epochs=1, batch_size=40, ema_decay=0.0)
    state = TRAIN(config).state
    inputs = tiny_network.clips(40, 1).inputs
    stats = state.batch_stats["batchnorm0"]
    np.testing.assert_allclose(stats["mean"], 0.1 * inputs.mean(), rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * inputs.var(), rtol=1e-5)


def test_an_interrupted_run_ends_as_an_uninterrupted_one(trained, tmp_path):
    whole, states = trained
    checkpoints.save(tmp_path / "state.npz", states[9])
    like = training.init_state(KEY, TINY, tiny_network.clips(2, 0).inputs, CONFIG)
    saved, _ = checkpoints.restore(tmp_path / "state.npz", like)
    resumed = TRAIN(CONFIG, state=saved)
    jax.tree.map(np.testing.assert_array_equal, resumed.variables, whole.variables)


@pytest.fixture(scope="module")
def heard():
    """A model that has trained, as its running statistics say, and sounds of several levels."""
    config = small_run.config(None, None).cochleagram
    variables = auditory.init_variables(KEY, TINY, config)
    stats = {"mean": jnp.array([3.0]), "var": jnp.array([4.0])}
    variables = {**variables, "batch_stats": {"batchnorm0": stats}}
    sounds = np.random.default_rng(0).standard_normal((3, config.num_samples)).astype("f")
    return config, variables, sounds * np.float32([[0.1], [1.0], [0.01]])


def test_the_gradient_of_a_metamer_meets_running_statistics(heard):
    config, variables, sounds = heard
    stage_fn = auditory.stage_fn(TINY, "relu0", config)

    def written_out(variables, sound):
        x = cochleagrams.cochleagram(sound, variables[auditory.FILTERS]["full"], config=config)
        x = (x - 3.0) / np.sqrt(4.0 + 1e-5)
        kernel = jnp.moveaxis(variables["params"]["conv0"]["kernel"], (-1, -2), (0, 1))
        return jnp.maximum(jax.lax.conv(x[None, None], kernel, (2, 2), "SAME")[0], 0.0)

    @jax.jit
    def gradients(variables, sounds):
        def losses(respond):
            return lambda sound: 0.5 * jnp.sum(respond(variables, sound) ** 2)

        return [jax.vmap(jax.grad(losses(each)))(sounds) for each in (stage_fn, written_out)]

    found, expected = gradients(variables, sounds)
    assert np.all(np.abs(expected).max(axis=1) > 1e-3)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


def test_a_sound_is_heard_and_matched_alike_in_any_company(heard):
    config, variables, sounds = heard
    forward = jax.jit(functools.partial(auditory.forward, TINY, config=config))
    apart = [forward(variables, sound[None])[1]["final"][0] for sound in sounds]
    together = forward(variables, sounds)[1]["final"]
    np.testing.assert_allclose(together, apart, rtol=1e-4, atol=1e-5)
    made = [
        metamers.synthesize(
            KEY, sounds[chosen], chosen, stage_fn=auditory.stage_fn(TINY, "relu0", config),
            variables=variables, config=configs.SynthesisConfig(steps=3),
        )
        for chosen in ([0, 1, 2], [1])
    ]  # fmt: skip
    np.testing.assert_allclose(made[0].waveform[1], made[1].waveform[0], rtol=1e-4, atol=1e-6)
    assert np.abs(made[0].waveform[1] - made[0].waveform[2]).max() > 1e-3


@pytest.mark.slow
def test_a_run_of_two_kinds_of_networks(tmp_path, monkeypatch):
    """Each network's own stages; running statistics in synthesis and verification."""
    monkeypatch.setattr(models, "MODELS", {**models.MODELS, "tiny": tiny_network.Tiny})
    monkeypatch.setattr(models, "PRESETS", {**models.PRESETS, "tiny": {"name": "tiny"}})
    small_run.write_recordings(tmp_path / "recordings")
    settings = small_run.config(
        tmp_path / "recordings", tmp_path / "cache", networks=("frequency_grouped", "tiny"),
        stages=("dense", "relu0"), targets_per_word=1,
        training=configs.TrainingConfig(epochs=2, batch_size=16),
        synthesis=configs.SynthesisConfig(steps=5, chunk_steps=5, batch_size=2),
    )  # fmt: skip
    with runs.open_run(tmp_path / "run", settings) as run:
        recordings = pipeline.load_recordings(run)
        pipeline.train_networks(run, recordings)
        pipeline.synthesize_metamers(run, recordings)
        pipeline.verify_metamers(run, recordings)
        table = storage.read_csv(run.path("verification", "metamers.csv"))
        model, variables = pipeline.load_network(run, "tiny", 2)
    made = set(zip(table["network"], table["stage"], strict=True))
    assert made == {("frequency_grouped", "dense"), ("tiny", "relu0")}
    # What was matched fast is what the exact model hears.
    found = table[table["network"] == "tiny"]
    np.testing.assert_allclose(
        found["optimised_relative_error"], found["synthesis_relative_error"], rtol=0.02
    )
    assert np.all(variables["batch_stats"]["batchnorm0"]["mean"] > 0)
    with runs.open_run(tmp_path / "other", dataclasses.replace(settings, stages=("conv7",))) as run:
        with pytest.raises(ValueError, match=r"stages \['conv7'\] are not among .*'relu0'"):
            pipeline.common.stages_of(run, model)


@pytest.mark.slow
def test_eight_devices_train_what_one_trains():
    done = subprocess.run(
        [sys.executable, "tests/sharded_training.py"], capture_output=True, cwd=small_run.ROOT,
        check=True, env={
            **os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
            "PYTHONPATH": str(small_run.ROOT), "JAX_PLATFORMS": "cpu",
        },
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["devices"] == 8 and set(found["placed on"]) == {8}
    # Rounding, which Adam's division magnifies where gradients are small.
    assert found["difference"] < 1e-4 < 1e-3 < found["moved"]
    assert found["difference of few"] == 0.0
    np.testing.assert_allclose(*found["records"], rtol=1e-4)
    assert found["part of the work"] < 0.3


@pytest.mark.skipif("METAMER_JAX_TEST_FULL" not in os.environ, reason="METAMER_JAX_TEST_FULL unset")
@pytest.mark.parametrize("network", models.COCHLEAGRAM_NETWORKS)
def test_a_step_of_synthesis_at_full_size(network):
    model = models.build_model(network, 794)
    config = dataclasses.replace(FULL, method="multirate")
    variables = auditory.init_variables(KEY, model, config)
    sounds = 0.1 * np.random.default_rng(0).standard_normal((1, config.num_samples)).astype("f")
    stage_fn = auditory.stage_fn(model, "avgpool", config, relu_override=True)
    settings = configs.SynthesisConfig(steps=2, chunk_steps=1)
    made = metamers.synthesize(
        KEY, sounds, [0], stage_fn=stage_fn, variables=variables, config=settings
    )
    assert np.all(np.isfinite(made.waveform)) and made.steps.max() == 2
    assert made.trace_relative_error[0, 0, -1] < made.trace_relative_error[0, 0, 0]
