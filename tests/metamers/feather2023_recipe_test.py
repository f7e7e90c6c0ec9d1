"""The recipe of Feather et al. (2023), step by step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metamer_jax import auditory, configs, metamers, models
from metamer_jax.metamers import step as steps

KEY = jax.random.key(0)
RECIPE = configs.SYNTHESIS_RECIPES["feather2023"]


def pair_of_samples(_, waveform):
    """A stage whose distance to its target grows once a step is too long."""
    return waveform[:2]


def made(**changes):
    config = dataclasses.replace(RECIPE, steps=4, decay_steps=4, **changes)
    targets = jnp.zeros((2, 8)).at[:, :2].set(jnp.array([[0.3, 0.4], [3.0, 4.0]]))
    return metamers.synthesize(KEY, targets, [5, 6], stage_fn=pair_of_samples, config=config)


def test_steps_are_clamped_and_the_last_iterate_is_kept():
    found = made()
    # Steps of length 1 along (.6, .8) from about 0: beyond (.3, .4), back, beyond, back.
    np.testing.assert_allclose(found.trace_relative_error[0, 0], [1, 1, 1, 1, 1], atol=1e-5)
    # The other target lies outside [-1, 1]: each coordinate stops at the limit.
    np.testing.assert_allclose(found.waveform[1, 0, :2], [1, 1], atol=1e-6)
    np.testing.assert_array_equal(found.best_step, [[4], [4]])
    np.testing.assert_array_equal(found.waveform, found.last_waveform)
    best = made(kept="best", waveform_limit=None)
    assert np.linalg.norm(best.waveform[1, 0, :2]) > 3.9
    assert best.relative_error[0, 0] <= found.relative_error[0, 0]


def test_every_target_begins_from_one_noise():
    for shared in (True, False):
        config = dataclasses.replace(RECIPE, shared_start=shared)
        state = metamers.init(
            KEY, jnp.ones((2, 8)), [5, 6], [0, 1], stage_fn=pair_of_samples, config=config
        )
        start = np.asarray(state.metamer.waveform)
        assert np.array_equal(start[0], start[1]) == shared
        assert not np.array_equal(start[0, 0], start[0, 1])  # Seeds differ all the same.


@pytest.fixture(scope="module")
def stage():
    model = models.build_model("spectemp", num_words=2)
    config = configs.COCHLEAGRAMS["feather2023"]
    return auditory.stage_fn(model, "spectempfilter_power", config)


def test_filters_are_admitted_from_slow_to_fast(stage):
    levels = stage.coarse_levels
    modulations = np.abs(np.array(stage.model.modulations))
    limits = [(0, 0), (0.5, 0.0625), (1, 0.125), (2, 0.25), (4, 0.5), (8, 1), (16, 2)]
    ones = jnp.ones((len(modulations), 1, 1))
    for step, level, last in (
        *((0, 0, False), (398, 0, False), (399, 1, False), (2399, 6, False), (2999, 7, False)),
        *((3000, 0, False), (20999, 7, False), (21000, 0, True), (24000, 0, True)),
    ):
        (cut,) = steps.admitted((ones,), jnp.int32(step), stage, RECIPE)
        limit = limits[min(level, 6)]
        wanted = last | (modulations[:, 0] <= limit[0]) | (modulations[:, 1] <= limit[1])
        np.testing.assert_array_equal(cut[:, 0, 0] != 0, wanted)
    assert levels.shape == (111, 1, 1) and levels.min() == 0 and levels.max() == 6


def test_other_stages_and_networks_count_as_a_whole(stage):
    for other in ("cochleagram", "avgpool", "final"):
        assert dataclasses.replace(stage, stage=other).coarse_levels is None
    plain = auditory.stage_fn(
        models.build_model("cochcnn9", num_words=2), "relu0", configs.COCHLEAGRAMS["feather2023"]
    )
    assert plain.coarse_levels is None
    ones = (jnp.ones(3),)
    assert steps.admitted(ones, jnp.int32(0), plain, RECIPE) is ones
    off = dataclasses.replace(RECIPE, coarse_steps=0)
    assert steps.admitted(ones, jnp.int32(0), stage, off) is ones


def test_spectemp_starts_louder():
    assert RECIPE.for_stage("avgpool", "spectemp").start_rms == 1e-5
    assert RECIPE.for_stage("avgpool", "cochcnn9").start_rms == 1e-7


def test_the_preset_sets_everything_together():
    preset = configs.PRESETS["feather2023"]
    assert (preset.data.sample_rate_hz, preset.data.duration_s) == (20000, 2.0)
    assert preset.cochleagram == configs.COCHLEAGRAMS["feather2023"]
    assert preset.synthesis == RECIPE
    known = models.stage_names(preset.networks)
    assert sorted(preset.stages) == sorted(known)
