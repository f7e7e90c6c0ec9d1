"""How exact a multirate cochleagram is, and how coarse its grids may be for a wanted exactness.

config, error = accuracy.within(config, 1e-4)    # `oversampling` and `lowpass_tolerance` are set
"""

import dataclasses

import jax
import numpy as np
import scipy.signal

from metamer_jax.cochleagram import core, filters
from metamer_jax.configs import CochleagramConfig

_OVERSAMPLING = (2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 11.0, 16.0, 23.0, 32.0, 64.0)


def probe_sounds(config: CochleagramConfig) -> np.ndarray:
    """Makes sounds whose cochleagrams tell how exact a grid is.

    White noise; a chirp, whose envelopes are narrow; and a voice-like click train through two
    resonances that comes and goes, whose envelopes beat and whose pauses are silent.

    Args:
        config: The cochleagram's settings: rate and duration.

    Returns:
        [3, time] float32, rms 0.1.
    """
    rate, num_samples = config.sample_rate_hz, config.num_samples
    time = np.arange(num_samples) / rate
    noise = np.random.default_rng(0).standard_normal(num_samples)
    chirp = scipy.signal.chirp(time, 100.0, config.duration_s, 0.45 * rate, method="logarithmic")
    voice = np.zeros(num_samples)
    voice[:: round(rate / 120)] = 1.0  # Pulses at about 120 Hz.
    for formant_hz in (500.0, 1500.0):
        b, a = scipy.signal.iirpeak(formant_hz, formant_hz / 80.0, fs=rate)  # 80 Hz wide.
        voice = voice + scipy.signal.lfilter(b, a, voice)
    voice *= np.clip(np.sin(2 * np.pi * 2 * time / config.duration_s), 0, None)
    sounds = np.stack([noise, chirp, voice])
    return (0.1 * sounds / np.sqrt(np.mean(sounds**2, axis=1, keepdims=True))).astype(np.float32)


def cochleagram_error(
    config: CochleagramConfig,
    sounds: np.ndarray | None = None,
    *,
    bank: filters.FilterBank | None = None,
) -> float:
    """Returns the relative error of `config` against the dense cochleagram in float64.

    Args:
        config: Any method.
        sounds: [sound, time]; by default `probe_sounds`.
        bank: A filter bank of one's own.

    Returns:
        The largest over the sounds of the norm of the difference over the norm.
    """
    sounds = probe_sounds(config) if sounds is None else sounds
    return _distance(_made(config, sounds, bank), _truth(config, sounds, bank))


def within(
    config: CochleagramConfig, tolerance: float, *, bank: filters.FilterBank | None = None
) -> tuple[CochleagramConfig, float]:
    """Sets the coarsest grids that keep the multirate cochleagram within `tolerance`.

    Args:
        config: Its method must be multirate.
        tolerance: Largest relative error (`cochleagram_error`) of the probe sounds.
        bank: A filter bank of one's own.

    Returns:
        The config with `oversampling` and `lowpass_tolerance` set, and the error measured.

    Raises:
        ValueError: The method is dense, or no grid is so exact in float32.
    """
    if config.method != "multirate":
        raise ValueError(
            f"config.method must be 'multirate' for its grids to be set, got {config.method!r}"
        )
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance!r}")
    sounds = probe_sounds(config)
    truth = _truth(config, sounds, bank)
    error = np.inf
    for oversampling in _OVERSAMPLING:
        tried = dataclasses.replace(
            config,
            oversampling=oversampling,
            # A small part of what the grid may cost.
            lowpass_tolerance=min(config.lowpass_tolerance, tolerance / 10),
        )
        error = _distance(_made(tried, sounds, bank), truth)
        if error <= tolerance:
            return tried, error
    raise ValueError(
        f"tolerance={tolerance:g} is out of reach in float32: the finest grid's error is "
        f"{error:.1e}"
    )


def _made(config, sounds, bank):
    design = core.design_cochleagram(config, bank=bank)
    return np.asarray(core.cochleagram(sounds, design, config=config), np.float64)


def _truth(config, sounds, bank):
    exact = dataclasses.replace(config, method="dense")
    with jax.enable_x64(True):
        design = core.design_cochleagram(exact, bank=bank, dtype=np.float64)
        made = [  # One at a time: every band is complex, at the full rate, in float64.
            np.asarray(core.cochleagram(sound, design, config=exact))
            for sound in np.asarray(sounds, np.float64)
        ]
    return np.stack(made)


def _distance(made, truth):
    difference = np.linalg.norm(made - truth, axis=(-2, -1))
    return float(np.max(difference / np.linalg.norm(truth, axis=(-2, -1))))
