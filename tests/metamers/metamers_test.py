"""Tests of the synthesis, mostly on stages simple enough to have a known answer."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metamer_jax import auditory, metamers, models
from metamer_jax.configs import SYNTHESIS_RECIPES, CochleagramConfig, SynthesisConfig

KEY = jax.random.key(0)
LINEAR = SynthesisConfig(steps=400, learning_rate=1e-2, schedule="cosine", tolerance=1e-3)


def linear_stage(matrix, waveform):
    return matrix @ waveform


@pytest.fixture(scope="module")
def matrix():
    return jnp.asarray(np.random.default_rng(0).standard_normal((16, 64)), jnp.float32)


@pytest.fixture(scope="module")
def targets():
    return (0.1 * np.random.default_rng(1).standard_normal((5, 64))).astype(np.float32)


def test_a_linear_stage_is_solved_to_tolerance_without_finding_the_target(matrix, targets):
    result = metamers.synthesize(
        KEY, targets, range(5), stage_fn=linear_stage, variables=matrix, config=LINEAR
    )
    assert result.waveform.shape == (5, 1, 64)
    assert np.all(result.outcome == metamers.Outcome.CONVERGED)
    wanted = np.asarray(matrix, float) @ targets.T.astype(float)
    got = np.asarray(matrix, float) @ result.waveform[:, 0].T.astype(float)
    error = np.linalg.norm(got - wanted, axis=0) / np.linalg.norm(wanted, axis=0)
    assert np.all(error <= 1.01e-3)
    np.testing.assert_allclose(result.relative_error[:, 0], error, rtol=1e-2)
    # 16 equations in 64 unknowns: a metamer, not a copy.
    assert np.all(np.linalg.norm(result.waveform[:, 0] - targets, axis=1) > 0.1)


@pytest.mark.parametrize("stage", ["cochleagram", "conv2", "dense"])
def test_a_target_does_not_depend_on_its_batch(stage):
    # A handful of steps: rounding differences between batch sizes grow with every update.
    config = CochleagramConfig(duration_s=0.1, num_filters=16, sample_factor=2, method="multirate")
    model = models.build_model("frequency_grouped", num_words=4)
    variables = jax.jit(auditory.init_variables, static_argnums=(1, 2))(KEY, model, config)
    sounds = (0.1 * np.random.default_rng(2).standard_normal((4, 1600))).astype(np.float32)

    def run(ids):
        return metamers.synthesize(
            KEY,
            sounds[ids],
            ids,
            stage_fn=auditory.stage_fn(model, stage, config, relu_override=True),
            variables=variables,
            config=SynthesisConfig(steps=5),
        )

    alone, together = run([2]), run([0, 1, 2, 3])
    np.testing.assert_allclose(alone.waveform[0], together.waveform[2], rtol=1e-4, atol=1e-6)
    assert not np.allclose(together.waveform[2], together.waveform[3], atol=1e-3)


def test_a_poisoned_target_does_not_touch_its_neighbours(matrix, targets):
    def fragile(variables, waveform):
        # The gradient of sqrt at 0 is infinite, and the loss NaN where the argument is negative.
        poison = jnp.sqrt(jnp.where(variables["bad"] @ waveform > -1e9, 1.0, -1.0))
        return linear_stage(variables["matrix"], waveform) * poison

    variables = {"matrix": matrix, "bad": jnp.zeros(64)}
    state = metamers.init(
        KEY, targets, range(5), stage_fn=fragile, variables=variables, config=LINEAR
    )
    clean, _ = metamers.advance(state, 20)
    clean = np.asarray(clean.metamer.waveform)
    state = metamers.init(
        KEY, targets, range(5), stage_fn=fragile, variables=variables, config=LINEAR
    )
    poisoned = state.target.at[3].set(jnp.nan)
    state, info = metamers.advance(dataclasses.replace(state, target=poisoned), 20)
    outcome = np.asarray(state.metamer.outcome)[:, 0]
    assert outcome[3] == metamers.Outcome.NON_FINITE
    assert np.all(outcome[[0, 1, 2, 4]] == metamers.Outcome.RUNNING)
    others = np.asarray(state.metamer.waveform)[[0, 1, 2, 4]]
    np.testing.assert_array_equal(others, clean[[0, 1, 2, 4]])
    assert np.all(np.isfinite(np.asarray(state.metamer.waveform)))
    assert np.all(np.isfinite(info.relative_error[:, [0, 1, 2, 4]]))


def test_advance_in_two_parts_equals_one(matrix, targets):
    def start():
        return metamers.init(
            KEY, targets, range(5), stage_fn=linear_stage, variables=matrix, config=LINEAR
        )

    whole, _ = metamers.advance(start(), 80)
    first, _ = metamers.advance(start(), 33)
    second, _ = metamers.advance(first, 47)
    for a, b in zip(jax.tree.leaves(whole.metamer), jax.tree.leaves(second.metamer), strict=True):
        np.testing.assert_array_equal(a, b)


def test_batching_and_padding_change_nothing_but_rounding(matrix, targets):
    kwargs = {"stage_fn": linear_stage, "variables": matrix}
    small = dataclasses.replace(LINEAR, batch_size=2, steps=20)
    one = metamers.synthesize(KEY, targets, range(5), config=small, **kwargs)
    all_ = metamers.synthesize(
        KEY, targets, range(5), config=dataclasses.replace(small, batch_size=16), **kwargs
    )
    np.testing.assert_allclose(one.waveform, all_.waveform, rtol=1e-4, atol=1e-6)
    assert one.trace_relative_error.shape == (5, 1, 21)


def test_seeds_are_an_axis_and_give_different_metamers(matrix, targets):
    config = dataclasses.replace(LINEAR, seeds=(7, 11))
    both = metamers.synthesize(
        KEY, targets[:2], [4, 9], stage_fn=linear_stage, variables=matrix, config=config
    )
    assert both.waveform.shape == (2, 2, 64)
    assert np.all(np.linalg.norm(both.waveform[:, 0] - both.waveform[:, 1], axis=-1) > 0.05)
    single = metamers.synthesize(
        KEY, targets[1:2], [9], [11], stage_fn=linear_stage, variables=matrix, config=LINEAR
    )
    np.testing.assert_allclose(single.waveform[0, 0], both.waveform[1, 1], rtol=1e-3, atol=1e-5)


def test_the_best_iterate_is_kept_when_a_step_too_large_makes_the_last_one_worse(matrix, targets):
    config = SynthesisConfig(steps=60, learning_rate=0.5, schedule="exponential")
    result = metamers.synthesize(
        KEY, targets, range(5), stage_fn=linear_stage, variables=matrix, config=config
    )
    trace = result.trace_relative_error
    np.testing.assert_array_equal(result.relative_error, np.nanmin(trace, axis=-1))
    np.testing.assert_array_equal(result.last_relative_error, trace[..., -1])
    assert np.any(result.relative_error < result.last_relative_error)
    recomputed = np.linalg.norm(
        np.asarray(matrix) @ (result.waveform[:, 0] - targets).T, axis=0
    ) / np.linalg.norm(np.asarray(matrix) @ targets.T, axis=0)
    np.testing.assert_allclose(recomputed, result.relative_error[:, 0], rtol=1e-4)


def test_a_silent_target_is_reported(matrix, targets):
    silent = targets.copy()
    silent[1] = 0
    result = metamers.synthesize(
        KEY, silent, range(5), stage_fn=linear_stage, variables=matrix, config=LINEAR
    )
    assert result.outcome[1, 0] == metamers.Outcome.SILENT_TARGET
    assert np.all(result.outcome[[0, 2, 3, 4]] == metamers.Outcome.CONVERGED)


def test_pink_noise_has_the_rms_and_the_slope_it_claims():
    config = SynthesisConfig()
    keys = jax.random.split(KEY, 64)
    noise = jax.vmap(lambda k: metamers.start_waveform(k, 16000, config))(keys)
    np.testing.assert_allclose(np.sqrt(np.mean(noise**2, axis=1)), 0.01, rtol=1e-4)
    np.testing.assert_allclose(np.mean(noise, axis=1), 0, atol=1e-7)
    power = np.mean(np.abs(np.fft.rfft(np.asarray(noise, float))) ** 2, axis=0)[1:-1]
    frequency = np.arange(1, len(power) + 1)
    slope = np.polyfit(np.log(frequency), np.log(power), 1)[0]
    assert abs(slope + 1) < 0.02  # Power falls as 1 / f.


def test_losses_follow_their_formulas():
    a, b = np.random.default_rng(3).standard_normal((2, 7, 5))
    with jax.enable_x64(True):
        half = metamers.matching_loss(jnp.asarray(a), jnp.asarray(b), "half_sum_of_squares")
        relative = metamers.matching_loss(jnp.asarray(a), jnp.asarray(b), "relative_l2")
        correlation = metamers.matching_loss(jnp.asarray(a), jnp.asarray(b), "correlation")
        gradient = jax.grad(metamers.matching_loss)(jnp.asarray(b), jnp.asarray(b), "relative_l2")
    np.testing.assert_allclose(half, 0.5 * np.sum((a - b) ** 2))
    np.testing.assert_allclose(relative, np.linalg.norm(a - b) / np.linalg.norm(b))
    np.testing.assert_allclose(correlation, 1 - np.corrcoef(a.ravel(), b.ravel())[0, 1])
    np.testing.assert_array_equal(gradient, 0)


def test_first_update_of_each_recipe_has_the_length_its_paper_says(matrix, targets):
    def first_update(recipe):
        state = metamers.init(
            KEY,
            targets,
            range(5),
            stage_fn=linear_stage,
            variables=matrix,
            config=SYNTHESIS_RECIPES[recipe],
        )
        before = np.asarray(state.metamer.waveform)
        state, _ = metamers.advance(state, 1)
        return np.asarray(state.metamer.waveform) - before

    # Adam's first step is the learning rate in every coordinate.
    np.testing.assert_allclose(np.abs(first_update("paper")), 1e-3, rtol=1e-2)
    # A gradient divided by its norm, times one.
    lengths = np.linalg.norm(first_update("feather2023"), axis=-1)
    np.testing.assert_allclose(lengths, 1.0, rtol=1e-4)


@pytest.mark.parametrize(
    ("recipe", "step", "rate"),
    [
        ("paper", 0, 1e-3),
        ("paper", 500, 1e-3 * 0.95**0.5),
        ("feather2019", 15000, 1e-3 * 0.95**15),
        ("feather2023", 2999, 1.0),
        ("feather2023", 3000, 0.5),
        ("feather2023", 23999, 0.5**7),
    ],
)
def test_schedules_are_those_of_the_papers(recipe, step, rate):
    schedule = metamers.learning_rate_schedule(SYNTHESIS_RECIPES[recipe])
    np.testing.assert_allclose(schedule(step), rate, rtol=1e-5)


def test_one_compilation_serves_every_batch_and_chunk(matrix, targets):
    traces = []

    def counted(variables, waveform):
        traces.append(1)
        return linear_stage(variables, waveform)

    config = SynthesisConfig(steps=123, batch_size=2, chunk_steps=50)
    metamers.synthesize(KEY, targets, range(5), stage_fn=counted, variables=matrix, config=config)
    assert len(traces) == 2  # For the targets' activations, and for value and gradient.


def test_bad_arguments_are_named(matrix, targets):
    kwargs = {"stage_fn": linear_stage, "variables": matrix}
    with pytest.raises(ValueError, match=r"targets must be \[target, time\]"):
        metamers.init(KEY, targets[0], [0], **kwargs)
    with pytest.raises(ValueError, match="target_ids must hold one id for each of 5"):
        metamers.init(KEY, targets, [0, 1], **kwargs)
    broken = targets.copy()
    broken[2, 3] = np.nan
    with pytest.raises(ValueError, match=r"finite; rows \[2\]"):
        metamers.init(KEY, broken, range(5), **kwargs)
    with pytest.raises(ValueError, match="seeds must be"):
        metamers.init(KEY, targets, range(5), [], **kwargs)


class Accelerator:
    platform = "gpu"

    def __init__(self, limit):
        self.limit = limit

    def memory_stats(self):
        return {"bytes_limit": self.limit}


def test_batch_size_follows_the_memory_at_hand_unless_it_is_given(matrix, monkeypatch, caplog):
    def chosen(num_targets=10_000, **changes):
        config = dataclasses.replace(LINEAR, **changes)
        return metamers.choose_batch_size(
            num_targets, 64, len(config.seeds), stage_fn=linear_stage, variables=matrix,
            config=config,
        )  # fmt: skip

    assert chosen(batch_size=12) == 12
    assert chosen(batch_size=12, seeds=(0, 1, 2)) == 4
    assert chosen(3, batch_size=12) == 3
    assert chosen() == 8  # On a CPU.
    sizes = []
    for limit in (2**16, 2**18, 2**30):
        monkeypatch.setattr(jax, "local_devices", lambda n=limit: [Accelerator(n)])
        sizes.append(chosen())
    assert 1 <= sizes[0] < sizes[1] < sizes[2] == 256
    with caplog.at_level("DEBUG"):
        chosen()
    assert "256 targets at once (256 metamers) on 1 gpu device: 0 MiB each of 1 GiB" in caplog.text


@pytest.mark.parametrize("loss", ["half_sum_of_squares", "relative_l2", "correlation"])
def test_an_activation_that_is_no_number_never_passes_for_a_match(matrix, targets, loss):
    def broken(variables, waveform):
        return jnp.where(jnp.any(waveform > 0.05), jnp.nan, 1.0) * linear_stage(variables, waveform)

    config = dataclasses.replace(LINEAR, loss=loss, steps=5, start_rms=1.0)
    result = metamers.synthesize(
        KEY, 0.001 * targets, range(5), stage_fn=broken, variables=matrix, config=config
    )
    assert np.all(result.outcome == metamers.Outcome.NON_FINITE)
