"""What a sound is made of: functions from the array that is optimised to the sound itself.

The array need not be a sound that can be played: it may have any level and mean, and end anywhere.
Where the stage is given what a parametrisation makes of it, the match holds for that sound.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metamer_jax import audio
from metamer_jax.configs import PlaybackConfig
from metamer_jax.gradients import square_root
from metamer_jax.metamers.objective import TINY
from metamer_jax.metamers.state import StageFn
from metamer_jax.runtime import compilation

Parametrisation = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class AsPlayed:
    """Maps an array [time] to the sound that is played, at the level at which a model takes it.

    With the window w of the ramps, and the weighted mean m = sum w x / sum w,

        sound = level * f / rms(f),   f = w (x - m),

    whose mean is zero and whose ends are silent. Level and mean of x make no difference, so
    gradients have no part along x or along a constant.

    Attributes:
        sample_rate_hz: Sample rate of the sound, Hz.
        playback: Ramps, and the level and largest peak of the file.
        level: RMS at which the model was trained to take sounds; None for a model that does not
            mind, which is given the faded sound as it is.
    """

    sample_rate_hz: int
    playback: PlaybackConfig = PlaybackConfig()
    level: float | None = audio.RMS

    def __call__(self, x: jax.Array) -> jax.Array:
        """The sound [time] that is played of an array [time]."""
        return _as_played(self, x)

    def of_recordings(self, recordings: np.ndarray) -> np.ndarray:
        """Makes the sounds that are heard of recordings, whose files have 16 bits.

        Rounding fills the silence of a recording with noise, which compression lifts: of clips of
        speech it moves logits by 1e-3, more than a metamer misses its target by. What is optimised
        is not rounded: it has no such silence (3e-5), and a rounded sound has no gradient. In NumPy
        as the file itself is: what falls on either side of a half must not depend on a batch.

        Args:
            recordings: Natural sounds [..., time], any scale.

        Returns:
            [..., time] float32, at the level of the sounds that are optimised; silence of silence.
        """
        recordings = np.asarray(recordings)
        sounds = np.zeros(recordings.shape, np.float32)
        sounding = np.std(recordings, axis=-1) >= audio.SILENCE_RMS  # Of silence no file is made.
        played = audio.to_playback(recordings[sounding], self.sample_rate_hz, self.playback)
        sounds[sounding] = audio.heard(*played, self.level)
        return sounds


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _as_played(how: AsPlayed, x: jax.Array) -> jax.Array:
    return _played_and_gain(how, x)[0]


def _played_and_gain(how, x):
    window = audio.ramp_window(x.shape[0], how.playback.ramp_s, how.sample_rate_hz)
    total, window = window.sum(), jnp.asarray(window, x.dtype)
    faded = window * (x - jnp.vdot(window, x) / total)
    if how.level is None:
        return faded, (faded, jnp.ones((), x.dtype))
    gain = how.level * x.shape[0] ** 0.5 / jnp.maximum(square_root(jnp.vdot(faded, faded)), TINY)
    return faded * gain, (faded * gain, gain)


def _pull_back(how, residuals, slope):
    # y = g f, g = level / rms(f), f = w (x - m). With n samples and the slope s at y, that at f
    # is g t, t = s - y <y, s> / (n level^2), that at x g w (t - <w, t> / sum w). A third of
    # what JAX derives by itself costs, which at networks' stages was a tenth of a step. Products of
    # vectors use a CPU's wide registers, where XLA's sums, whose order is fixed, do not.
    sound, gain = residuals
    window = audio.ramp_window(sound.shape[0], how.playback.ramp_s, how.sample_rate_hz)
    total, window = window.sum(), jnp.asarray(window, sound.dtype)
    if how.level is not None:
        slope = slope - sound * (jnp.vdot(sound, slope) / (sound.shape[0] * how.level**2))
    return (window * (gain * (slope - jnp.vdot(window, slope) / total)),)


_as_played.defvjp(_played_and_gain, _pull_back)


@dataclasses.dataclass(frozen=True)
class ParametrisedStageFn:
    """A stage as a function of what its sound is made of; equal parts make equal functions."""

    stage_fn: StageFn
    parametrisation: Parametrisation

    @property
    def coarse_levels(self) -> np.ndarray | None:
        """The stage's, for a synthesis from coarse to fine; None where it has none."""
        return getattr(self.stage_fn, "coarse_levels", None)

    def __call__(self, variables: Any, x: jax.Array) -> jax.Array:
        """The activation that the stage gives to the sound made of `x`."""
        return self.stage_fn(variables, self.parametrisation(x))

    def of_recordings(self, recordings: np.ndarray) -> np.ndarray:
        """Makes the sounds [target, time] whose activations are matched of recordings."""
        own = getattr(self.parametrisation, "of_recordings", None)
        if own is not None:
            return own(recordings)
        return np.asarray(jax.vmap(self.parametrisation)(jnp.asarray(recordings)))


def parametrised(stage_fn: StageFn, parametrisation: Parametrisation | None) -> StageFn:
    """Returns the stage as a function of what its sound is made of.

    Args:
        stage_fn: Function (variables, waveform [time]) -> activation.
        parametrisation: Function from the array that is optimised to the sound, hashable; None:
            the array is the sound.

    Returns:
        Function (variables, array) -> activation.
    """
    return stage_fn if parametrisation is None else ParametrisedStageFn(stage_fn, parametrisation)


def sounds_of(stage_fn: StageFn, arrays: jax.Array) -> np.ndarray:
    """Makes the sounds that a stage was given.

    Args:
        stage_fn: Function from `parametrised`, or any other stage function.
        arrays: What was optimised, [target, seed, ...].

    Returns:
        [target, seed, time]; of an ordinary stage function the arrays themselves.
    """
    if not isinstance(stage_fn, ParametrisedStageFn):
        return np.asarray(arrays)
    return np.asarray(_sounds(np.asarray(arrays), parametrisation=stage_fn.parametrisation))


@functools.partial(compilation.jit, static_argnames="parametrisation")
def _sounds(arrays, *, parametrisation):
    return jax.vmap(jax.vmap(parametrisation))(arrays)
