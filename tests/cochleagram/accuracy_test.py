"""The multirate cochleagram's grids, set for a wanted exactness and held to it."""

import dataclasses

import jax
import numpy as np
import pytest

from metamer_jax import cochleagram
from metamer_jax.cochleagram import accuracy
from metamer_jax.configs import CochleagramConfig

CONFIG = CochleagramConfig(
    sample_rate_hz=4000,
    duration_s=0.25,
    envelope_rate_hz=100,
    high_hz=2000.0,
    num_filters=8,
    sample_factor=2,
    lowpass_taps=101,
    method="multirate",
)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3])
def test_grids_are_as_exact_as_asked_for_and_no_finer(tolerance):
    config, error = accuracy.within(CONFIG, tolerance)
    assert error <= tolerance
    assert accuracy.cochleagram_error(config) == pytest.approx(error)
    if config.oversampling > 2:
        coarser = dataclasses.replace(config, oversampling=2.0)
        assert accuracy.cochleagram_error(coarser) > tolerance


def test_the_error_is_the_distance_to_the_dense_cochleagram():
    sounds = accuracy.probe_sounds(CONFIG)[:1]
    dense = dataclasses.replace(CONFIG, method="dense")
    made, exact = (
        np.asarray(cochleagram.cochleagram(sounds, cochleagram.design_cochleagram(c), config=c))
        for c in (CONFIG, dense)
    )
    expected = np.linalg.norm(made - exact) / np.linalg.norm(exact)
    assert expected > 1e-5  # What float32 adds is small beside it.
    assert accuracy.cochleagram_error(CONFIG, sounds) == pytest.approx(expected, rel=0.05)
    assert not jax.config.jax_enable_x64


def test_the_dense_cochleagram_is_exact_to_rounding():
    assert accuracy.cochleagram_error(dataclasses.replace(CONFIG, method="dense")) < 5e-5


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="must be 'multirate'.*got 'dense'"):
        accuracy.within(dataclasses.replace(CONFIG, method="dense"), 1e-3)
    with pytest.raises(ValueError, match="tolerance must be positive, got 0"):
        accuracy.within(CONFIG, 0.0)
    with pytest.raises(ValueError, match="out of reach in float32"):
        accuracy.within(CONFIG, 1e-12)
