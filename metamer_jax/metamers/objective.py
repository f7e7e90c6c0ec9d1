"""Where a synthesis starts, and how far it is from its target."""

import jax
import jax.numpy as jnp

from metamer_jax.configs import SynthesisConfig
from metamer_jax.gradients import norm

TINY = 1e-30  # Smallest norm to divide by: of a silent activation.


def start_waveform(key: jax.Array, num_samples: int, config: SynthesisConfig) -> jax.Array:
    """Draws the noise a synthesis starts from: [num_samples] float32 of rms `config.start_rms`.

    "pink" noise has mean zero and an amplitude spectrum falling as one over the square root of
    frequency (Feather et al., 2019); "gaussian" is white (Feather et al., 2023).

    Returns:
        The noise.
    """
    noise = jax.random.normal(key, (num_samples,))
    if config.start == "pink":
        spectrum = jnp.fft.rfft(noise)
        index = jnp.arange(spectrum.shape[0])
        weight = jnp.where(index > 0, 1 / jnp.sqrt(jnp.maximum(index, 1)), 0.0)
        noise = jnp.fft.irfft(weight * spectrum, num_samples)
    return noise * (config.start_rms / jnp.sqrt(jnp.mean(noise**2)))


def matching_loss(activation: jax.Array, target: jax.Array, kind: str) -> jax.Array:
    """Distance between two activations of one stage, a scalar.

    "half_sum_of_squares" is TensorFlow's `l2_loss` of the difference (Feather et al., 2019);
    "relative_l2" the norm of the difference over the target's (2023); "correlation" is one
    minus Pearson's, which ignores level.

    Returns:
        The distance.

    Raises:
        ValueError: There is no such kind.
    """
    difference = activation - target
    if kind == "half_sum_of_squares":
        return 0.5 * jnp.sum(difference**2)
    if kind == "relative_l2":
        return norm(difference) / jnp.maximum(norm(target), TINY)
    if kind == "correlation":
        a, b = activation - jnp.mean(activation), target - jnp.mean(target)
        return 1 - jnp.sum(a * b) / jnp.maximum(norm(a) * norm(b), TINY)
    raise ValueError(
        f"kind must be 'half_sum_of_squares', 'relative_l2' or 'correlation', got {kind!r}"
    )
