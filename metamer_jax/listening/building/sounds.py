"""Sounds of an experiment beside the test sounds: checks, markers, condition recordings.

Arrays in, arrays out. Stereo sounds are [time, ear], left ear first.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metamer_jax import audio

_PAUSE_S = 0.5  # Between the three sounds of a headphone trial.
_CHECK_RAMP_S = 0.1  # Of each of them; both papers.


class HeadphoneTrials(NamedTuple):
    """A headphone check: three sounds a trial, one of which is to be found."""

    sounds: np.ndarray  # [trial, time, ear] float64.
    correct: np.ndarray  # [trial] int, 0 to 2: which sound it is.


def apply_ramps(sounds: np.ndarray, ramp_s: float, sample_rate_hz: int) -> np.ndarray:
    """Fades sounds [..., time] in and out with raised-cosine ramps, as float64."""
    return sounds * audio.ramp_window(np.shape(sounds)[-1], ramp_s, sample_rate_hz)


def calibration_noise(
    duration_s: float, sample_rate_hz: int, *, level_db: float, seed: int = 0
) -> np.ndarray:
    """Makes pink noise [time] between 100 Hz and 0.9 Nyquist, at the level of the test sounds."""
    size = round(duration_s * sample_rate_hz)
    frequency_hz = np.fft.rfftfreq(size, 1 / sample_rate_hz)
    band = (frequency_hz >= 100) & (frequency_hz <= 0.45 * sample_rate_hz)
    random = np.random.default_rng([seed, 0])
    phase = np.exp(2j * np.pi * random.random(frequency_hz.size))
    spectrum = np.where(band, phase / np.sqrt(np.maximum(frequency_hz, 1.0)), 0)
    noise = apply_ramps(np.fft.irfft(spectrum, size), min(0.1, duration_s / 4), sample_rate_hz)
    return noise / np.sqrt(np.mean(noise**2)) * 10 ** (level_db / 20)


def antiphase_check(
    sample_rate_hz: int, *, level_db: float, seed: int = 0, tone_s: float = 1.0
) -> HeadphoneTrials:
    """Makes the check of Woods et al. (2017): which of three tones is the quietest?

    Tones of 200 Hz and 1 s with 100 ms ramps. One is 6 dB quieter, and that is the answer; another
    is in opposite phase at the two ears, so that over loudspeakers it cancels in the air and seems
    the quietest. Six trials, one of each order; at least five right is passing.

    Args:
        sample_rate_hz: Sample rate.
        level_db: RMS of the two louder tones, dB re full scale.
        seed: Seed of the trials' order.
        tone_s: Length of a tone; anything but 1 s is for tests.

    Returns:
        Six trials.
    """
    time = np.arange(round(tone_s * sample_rate_hz)) / sample_rate_hz
    tone = np.sqrt(2) * 10 ** (level_db / 20) * np.sin(2 * np.pi * 200 * time)
    tone = apply_ramps(tone, min(_CHECK_RAMP_S, tone_s / 4), sample_rate_hz)
    same = np.stack([tone, tone], axis=-1)
    kinds = (same * 10 ** (-6 / 20), same * [1, -1], same)
    orders = [(a, b, 3 - a - b) for a in range(3) for b in range(3) if a != b]
    orders = [orders[i] for i in np.random.default_rng([seed, 1]).permutation(len(orders))]
    sounds = [_three([kinds[kind] for kind in order], sample_rate_hz) for order in orders]
    return HeadphoneTrials(np.stack(sounds), np.array([order.index(0) for order in orders]))


def huggins_check(
    sample_rate_hz: int, *, level_db: float, seed: int = 0, noise_s: float = 1.0
) -> HeadphoneTrials:
    """Makes the check of Milne et al. (2021): which of three noises holds a faint tone?

    White noises of 1 s with 100 ms ramps, the same at both ears but for one, where the band
    600 Hz +-6 % is phase-inverted at one ear. Only with the ears apart is a pitch heard in it
    (Cramer and Huggins, 1958). Six trials, every position twice; all six right is passing.

    Args:
        sample_rate_hz: Sample rate.
        level_db: RMS of the noises, dB re full scale.
        seed: Seed of the noises and the trials' order.
        noise_s: Length of a noise; anything but 1 s is for tests.

    Returns:
        Six trials.
    """
    random = np.random.default_rng([seed, 2])
    size = round(noise_s * sample_rate_hz)
    frequency_hz = np.fft.rfftfreq(size, 1 / sample_rate_hz)
    inverted = np.where(np.abs(frequency_hz - 600) <= 0.06 * 600, -1, 1)
    correct = random.permutation([0, 0, 1, 1, 2, 2])
    sounds = []
    for position in correct:
        parts = []
        for i in range(3):
            noise = random.standard_normal(size)
            right = np.fft.irfft(np.fft.rfft(noise) * inverted, size) if i == position else noise
            # One gain for both ears: what differs between them is the phase of the band alone.
            pair = np.stack([noise, right]) / noise.std() * 10 ** (level_db / 20)
            ramped = apply_ramps(pair, min(_CHECK_RAMP_S, noise_s / 4), sample_rate_hz)
            parts.append(ramped.T)
        sounds.append(_three(parts, sample_rate_hz))
    return HeadphoneTrials(np.stack(sounds), correct)


def _three(sounds: Sequence[np.ndarray], sample_rate_hz: int) -> np.ndarray:
    pause = np.zeros((round(_PAUSE_S * sample_rate_hz), 2))
    return np.concatenate([sounds[0], pause, sounds[1], pause, sounds[2]])


def batch_marker(sample_rate_hz: int, *, level_db: float) -> np.ndarray:
    """Makes the chime [time] that announces a batch: three rising notes, unlike any word."""
    parts = []
    for frequency_hz in (523.25, 659.25, 783.99):  # C5, E5, G5.
        time = np.arange(round(0.25 * sample_rate_hz)) / sample_rate_hz
        parts.append(apply_ramps(np.sin(2 * np.pi * frequency_hz * time), 0.05, sample_rate_hz))
    chime = np.concatenate(parts)
    return chime / np.sqrt(np.mean(chime**2)) * 10 ** (level_db / 20)


def condition_recording(
    sounds: Sequence[np.ndarray],
    batches: Sequence[int],
    *,
    marker: np.ndarray,
    silence_s: float,
    sample_rate_hz: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Joins a condition's sounds into one: a marker before each batch, silence after everything.

    Args:
        sounds: Each [time] int16, in order.
        batches: [sound] which batch each belongs to.
        marker: [time] int16.
        silence_s: Length of each silence.
        sample_rate_hz: Sample rate.

    Returns:
        [time] int16, and [sound] the sample at which each begins.
    """
    silence = np.zeros(round(silence_s * sample_rate_hz), np.int16)
    parts, onsets, length, before = [], [], 0, None
    for sound, batch in zip(sounds, batches, strict=True):
        if batch != before:
            parts += [marker, silence]
            length += len(marker) + len(silence)
        before = batch
        onsets.append(length)
        parts += [sound, silence]
        length += len(sound) + len(silence)
    return np.concatenate(parts).astype(np.int16), np.array(onsets, int)
