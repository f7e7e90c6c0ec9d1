"""Random changes to training clips: of waveforms, and of batches of cochleagrams."""

import jax
import jax.numpy as jnp

from metamer_jax.configs import AugmentConfig

_RMS = 0.1  # Of a waveform as the networks know it (Feather et al. 2019).


def augment_waveform(
    key: jax.Array,
    waveform: jax.Array,
    config: AugmentConfig,
    *,
    noise: jax.Array | None = None,
) -> jax.Array:
    """Changes one clip's rate, moves it in time and adds noise.

    Args:
        key: PRNG key, used once.
        waveform: [time].
        config: Changes to make.
        noise: [piece, time], rms 0.1, recorded noise of which a piece is mixed in, if asked for.

    Returns:
        [time], mean 0 and rms 0.1.

    Raises:
        ValueError: `config.background_snr_db` is given, and no noise.
    """
    rate_key, shift_key, noise_key, background_key = jax.random.split(key, 4)
    num_samples = waveform.shape[-1]
    if config.shift or config.speed:
        rate = 1.0 + config.speed * jax.random.uniform(rate_key, minval=-1.0)
        shift = config.shift * num_samples * jax.random.uniform(shift_key, minval=-1.0)
        center = num_samples / 2
        waveform = _sample_cubic(
            waveform, center + shift + rate * (jnp.arange(num_samples) - center)
        )
    waveform = _normalized(waveform)
    if config.noise_snr_db is not None:
        color_key, level_key, noise_key = jax.random.split(noise_key, 3)
        colored = _normalized(_colored_noise(noise_key, color_key, num_samples))
        waveform = _mixed(level_key, waveform, colored, config.noise_snr_db)
    if config.background_snr_db is not None:
        if noise is None or not len(noise):
            raise ValueError(
                "background_snr_db needs background noise, and these recordings have none: "
                "dataset speech_commands has, in _background_noise_ or _silence_"
            )
        piece_key, turn_key, level_key = jax.random.split(background_key, 3)
        piece = jnp.asarray(noise)[jax.random.randint(piece_key, (), 0, len(noise))]
        piece = jnp.roll(piece, jax.random.randint(turn_key, (), 0, num_samples))
        waveform = _mixed(level_key, waveform, piece, config.background_snr_db)
    return waveform


def _mixed(key, waveform, noise, snr_db):
    """Adds noise of the same rms at a ratio drawn from the range, in dB of power."""
    lowest, highest = snr_db
    snr_db = jax.random.uniform(key, minval=lowest, maxval=highest)
    return _normalized(waveform + 10.0 ** (-snr_db / 20.0) * noise)


def _normalized(waveform):
    waveform = waveform - waveform.mean()
    return _RMS * waveform / jnp.maximum(jnp.sqrt(jnp.mean(waveform**2)), 1e-12)


def _sample_cubic(waveform, positions):
    """Samples a circular waveform [time] at any positions by Catmull-Rom interpolation."""
    base = jnp.floor(positions)
    t = positions - base
    base = base.astype(jnp.int32)
    a, b, c, d = (waveform[(base + i) % waveform.shape[-1]] for i in (-1, 0, 1, 2))
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))


def _colored_noise(noise_key, color_key, num_samples):
    """Noise whose power falls as f^-exponent, the exponent uniform from 0 (white) to 2 (brown)."""
    exponent = jax.random.uniform(color_key, maxval=2.0)
    spectrum = jnp.fft.rfft(jax.random.normal(noise_key, (num_samples,)))
    bins = jnp.maximum(jnp.arange(spectrum.shape[-1]), 1)
    return jnp.fft.irfft(spectrum * bins ** (-exponent / 2), num_samples)


def augment_features(
    key: jax.Array,
    features: jax.Array,
    targets: jax.Array,
    config: AugmentConfig,
    *,
    fill: jax.Array | float,
) -> tuple[jax.Array, jax.Array]:
    """Masks and mixes a batch of cochleagrams.

    Args:
        key: PRNG key, used once.
        features: [batch, channel, frame].
        targets: [batch, word], the probability of each word.
        config: Changes to make.
        fill: What masked points are set to.

    Returns:
        Features and targets of the same shapes.
    """
    channel_key, frame_key, weight_key, partner_key = jax.random.split(key, 4)
    batch, num_channels, num_frames = features.shape
    if config.frequency_mask:
        mask = _stretches(channel_key, batch, num_channels, config.frequency_mask)
        features = jnp.where(mask[:, :, None], fill, features)
    if config.time_mask:
        mask = _stretches(frame_key, batch, num_frames, config.time_mask)
        features = jnp.where(mask[:, None, :], fill, features)
    if config.mixup:
        weight = jax.random.beta(weight_key, config.mixup, config.mixup, (batch,))
        partner = jax.random.permutation(partner_key, batch)
        by_clip = weight[:, None, None]
        features = by_clip * features + (1 - by_clip) * features[partner]
        targets = weight[:, None] * targets + (1 - weight[:, None]) * targets[partner]
    return features, targets


def _stretches(key, batch, size, widest):
    """One stretch of True in each row of [batch, size], up to `widest` of its length wide."""
    width_key, start_key = jax.random.split(key)
    width = widest * size * jax.random.uniform(width_key, (batch, 1))
    start = (size - width) * jax.random.uniform(start_key, (batch, 1))
    points = jnp.arange(size) + 0.5
    return (points >= start) & (points < start + width)
