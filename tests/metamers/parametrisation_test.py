"""The sound as it is played stands in the graph: it is what is matched, and what is saved."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from metamer_jax import audio, auditory, metamers, models
from metamer_jax.configs import SYNTHESIS_RECIPES, CochleagramConfig, PlaybackConfig

KEY = jax.random.key(0)
RATE_HZ, SAMPLES = 8000, 400
AS_PLAYED = metamers.AsPlayed(RATE_HZ, level=0.1)
FAST = SYNTHESIS_RECIPES["fast"]
RNG = np.random.default_rng(0)
WAVES = (RNG.standard_normal((3, SAMPLES)) * [[3], [0.01], [1]] + 0.2).astype(np.float32)
MATRIX = 0.1 * RNG.standard_normal((8, SAMPLES)).astype(np.float32)


def curved(matrix, waveform):
    return jnp.tanh(matrix @ waveform)  # Not level-invariant.


def make(targets=WAVES, ids=(0, 1, 2), **changes):
    arguments = {"stage_fn": curved, "variables": MATRIX, "parametrisation": AS_PLAYED}
    return metamers.synthesize(KEY, targets, ids, **{**arguments, "config": FAST, **changes})


@pytest.fixture(scope="module")
def made():
    return make()


def test_it_makes_what_the_file_is_made_of():
    playback = PlaybackConfig(ramp_s=0.01)
    samples, level_db = audio.to_playback(WAVES, RATE_HZ, playback)
    of_file = audio.heard(samples, level_db, 0.1)
    np.testing.assert_allclose(jax.vmap(AS_PLAYED)(WAVES), of_file, atol=3e-5)  # Half a bit.
    unlevelled = jax.vmap(metamers.AsPlayed(RATE_HZ, level=None))(WAVES)
    np.testing.assert_allclose(unlevelled, audio.fade(WAVES, 0.01, RATE_HZ), atol=1e-5)
    silence = np.zeros(SAMPLES, np.float32)
    np.testing.assert_array_equal(AS_PLAYED(silence), silence)
    assert np.all(np.isfinite(jax.grad(lambda x: jnp.sum(AS_PLAYED(x) ** 2))(silence)))


def test_a_recording_is_heard_as_its_file_has_it():
    loud = np.where(np.arange(SAMPLES) == 200, 60 * np.abs(WAVES).max(), WAVES)  # By peaks.
    faint = np.where(np.arange(SAMPLES) < 200, WAVES, 1e-5 * WAVES)  # Rounded to few values.
    for level in (0.1, None):
        as_played = metamers.AsPlayed(RATE_HZ, level=level)
        for waves in (WAVES, loud, faint):
            samples, level_db = audio.to_playback(waves, RATE_HZ, as_played.playback)
            of_file = audio.heard(samples, level_db, level)
            np.testing.assert_array_equal(as_played.of_recordings(waves), of_file)
    two = np.stack([np.zeros(SAMPLES), faint[0]])  # Silence is none's file, and no error.
    stage = metamers.parametrised(lambda variables, sound: variables * sound, AS_PLAYED)
    state = metamers.init(KEY, two, [0, 1], stage_fn=stage, variables=2.0)
    np.testing.assert_array_equal(state.target[0], 0)
    np.testing.assert_array_equal(state.target[1], 2 * AS_PLAYED.of_recordings(faint)[0])
    halved = metamers.parametrised(lambda _, sound: sound, functools.partial(jnp.multiply, 0.5))
    state = metamers.init(KEY, faint, range(len(faint)), stage_fn=halved)
    np.testing.assert_array_equal(state.target, 0.5 * faint.astype(np.float32))


def test_its_gradient_knows_neither_level_nor_mean():
    with jax.enable_x64(True):
        x = jnp.asarray(WAVES[0, :100], jnp.float64)
        short = metamers.AsPlayed(RATE_HZ, PlaybackConfig(ramp_s=0.002))
        check_grads(lambda x: jnp.sum(jnp.sin(20 * short(x))), (x,), order=1, modes=["rev"])
        slope = jax.grad(lambda x: jnp.sum(jnp.sin(20 * short(x))))(x)
        centred = x - jnp.mean(x)
        np.testing.assert_allclose(jnp.vdot(slope, jnp.ones_like(x)), 0, atol=1e-9)
        np.testing.assert_allclose(
            jnp.vdot(slope, x), 0, atol=1e-9 * jnp.linalg.norm(slope) * jnp.linalg.norm(centred)
        )


def test_what_is_saved_is_the_sound_that_matches(made):
    assert np.all(made.relative_error <= 1e-3)
    sounds = made.waveform[:, 0]
    np.testing.assert_allclose(np.sqrt(np.mean(sounds**2, axis=-1)), 0.1, rtol=1e-5)
    np.testing.assert_allclose(sounds.mean(axis=-1), 0, atol=1e-7)
    np.testing.assert_array_equal(sounds[:, [0, -1]], 0)
    wanted = np.tanh(AS_PLAYED.of_recordings(WAVES) @ MATRIX.T)  # As its file has it.
    got = np.tanh(sounds @ MATRIX.T)
    error = np.linalg.norm(got - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
    np.testing.assert_allclose(made.relative_error[:, 0], error, rtol=0.05, atol=1e-5)
    # Through the 16-bit file nothing is lost that could be seen.
    samples, level_db = audio.to_int16(sounds, PlaybackConfig())
    heard = np.tanh(audio.heard(samples, level_db) @ MATRIX.T)
    assert np.all(np.linalg.norm(heard - wanted, axis=1) < 2e-3 * np.linalg.norm(wanted, axis=1))


def test_a_target_does_not_depend_on_its_batch_nor_on_its_own_level(made):
    few = dataclasses.replace(FAST, steps=5)
    together, alone = make(config=few), make(WAVES[1:2], [1], config=few)
    np.testing.assert_allclose(alone.waveform[0], together.waveform[1], rtol=1e-4, atol=1e-6)
    louder = make(7 * WAVES[1:2] + 1, [1], config=few)
    np.testing.assert_allclose(louder.waveform, alone.waveform, rtol=1e-3, atol=5e-5)  # A bit.


def test_another_parametrisation_takes_its_place():
    def positive(x):
        return jnp.exp(x)

    config = dataclasses.replace(FAST, as_played=False, steps=5)
    result = make(0.1 * WAVES, parametrisation=positive, config=config)
    assert np.all(result.waveform > 0)


def test_a_recipe_that_needs_one_says_so():
    with pytest.raises(ValueError, match="parametrisation must be given, e.g. AsPlayed"):
        make(parametrisation=None)


def test_the_path_to_the_ear_costs_nothing_to_speak_of():
    config = CochleagramConfig(method="multirate")
    model = models.build_model("conv2d", num_words=8)
    shapes = jax.eval_shape(lambda: auditory.init_variables(KEY, model, config))
    stage = auditory.stage_fn(model, "conv1", config, relu_override=True)

    def cost(stage_fn, **changes):
        lowered = metamers.lower(
            4, config.num_samples, stage_fn=stage_fn, variables=shapes,
            config=dataclasses.replace(FAST, **changes),
        )  # fmt: skip
        return lowered.compile().cost_analysis()

    before = cost(stage, as_played=False)
    after = cost(metamers.parametrised(stage, metamers.AsPlayed(config.sample_rate_hz)))
    ratio = {name: after[name] / before[name] for name in ("flops", "bytes accessed")}
    # Of the networks' smallest step; sums over a sound are passes of their own on a CPU.
    assert ratio["flops"] <= 1.03 and ratio["bytes accessed"] <= 1.07, ratio


def test_a_batch_that_was_saved_under_way_ends_with_the_same_bits():
    def start():
        return metamers.init(
            KEY, WAVES, (0, 1, 2), stage_fn=curved, variables=MATRIX, parametrisation=AS_PLAYED,
            config=dataclasses.replace(FAST, steps=60, tolerance=0.0, chunk_steps=20),
        )  # fmt: skip

    saved = []

    def save(state, info, trace):
        saved.append((jax.tree.map(np.array, state.metamer), trace))

    state = start()
    whole = metamers.run_batch(state, metamers.empty_trace(state), save)
    state, (metamer, trace) = start(), saved[1]
    state = dataclasses.replace(state, metamer=metamers.place(metamer, None))
    rest = metamers.run_batch(state, trace)
    assert len(saved) == 4 and whole.steps.max() == 60
    for a, b in zip(whole, rest, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_a_stage_says_of_coarse_and_fine_is_passed_on():
    class Stage:
        coarse_levels = np.arange(3)

        def __call__(self, variables, waveform):
            return waveform

    as_played = metamers.AsPlayed(8000)
    found = metamers.parametrised(Stage(), as_played)
    np.testing.assert_array_equal(found.coarse_levels, np.arange(3))
    assert metamers.parametrised(lambda variables, x: x, as_played).coarse_levels is None
