"""Spectrograms and mel spectrograms, differentiable, in the conventions of librosa and torchaudio.

    config = dataclasses.replace(SPECTROGRAMS["librosa"], sample_rate_hz=16000)
    filters = design_spectrogram(config)                       # host, float64, cast once
    features = log_mel(waveform, filters, config=config)       # [..., mel, frame]

As with cochleagrams the filters are a pytree that jit takes as an argument: they go with a
network's weights. In front of a network they are a function around it:

    def network(variables, waveform):
        return net(variables["weights"], log_mel(waveform, variables["filters"], config=config))

    wrap_model(network, {"weights": weights, "filters": filters}, num_samples=16000)
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy.signal

from metamer_jax import gradients
from metamer_jax.configs import SpectrogramConfig


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SpectrogramFilters:
    """What spectrograms need besides the waveform: a pytree, so that jit takes it as argument."""

    window: jax.Array  # [sample of a frame], normalisation included.
    mel: jax.Array  # [mel, bin]


def design_spectrogram(
    config: SpectrogramConfig, *, dtype: np.dtype | type = np.float32
) -> SpectrogramFilters:
    """Designs window and mel bands in float64 (the bands by librosa) and casts them once.

    Args:
        config: The spectrogram's settings.
        dtype: Floating type of the arrays, and so of the computation.

    Returns:
        A pytree of arrays for `stft`, `mel_spectrogram` and `log_mel`.

    Raises:
        ValueError: There is no such window.
    """
    import librosa

    length = config.resolved_window_length
    window = scipy.signal.get_window(config.window, length, fftbins=True)
    if config.normalization == "window":
        window = window / np.sqrt(np.sum(window**2))
    elif config.normalization == "frame_length":
        window = window / np.sqrt(config.num_fft)
    before = (config.num_fft - length) // 2
    window = np.pad(window, (before, config.num_fft - length - before))
    rate_hz, num_fft = config.sample_rate_hz, config.num_fft
    if config.bin_frequencies == "whole":
        rate_hz, num_fft = 2 * (rate_hz // 2), 2 * (num_fft // 2)
    mel = librosa.filters.mel(
        sr=rate_hz,
        n_fft=num_fft,
        n_mels=config.num_mels,
        fmin=config.low_hz,
        fmax=config.resolved_high_hz,
        htk=config.mel_scale == "htk",
        norm="slaney" if config.mel_norm == "slaney" else None,
        dtype=np.float64,
    )
    return SpectrogramFilters(jnp.asarray(window, dtype), jnp.asarray(mel, dtype))


def stft(
    waveform: jax.Array, filters: SpectrogramFilters, *, config: SpectrogramConfig
) -> jax.Array:
    """Computes short-time Fourier transforms.

    Args:
        waveform: [..., time], floating point.
        filters: What `design_spectrogram(config)` returned.
        config: The same config.

    Returns:
        [..., bin, frame] complex.

    Raises:
        ValueError: The waveform is shorter than a frame, or than what is reflected at its edges.
    """
    num_samples, edge = waveform.shape[-1], config.num_fft // 2
    num_frames = config.num_frames(num_samples)
    reflected = config.center and config.pad_mode == "reflect"
    if num_frames < 1 or num_samples < 1 or (reflected and num_samples <= edge):
        needed = edge + 1 if reflected else 1 if config.center else config.num_fft
        raise ValueError(f"waveform must have at least {needed} samples, got {num_samples}")
    if config.center:
        widths = [(0, 0)] * (waveform.ndim - 1) + [(edge, edge)]
        waveform = jnp.pad(waveform, widths, mode=config.pad_mode)
    frames = cut_frames(waveform, config.num_fft, config.resolved_hop_length, num_frames)
    return jnp.swapaxes(jnp.fft.rfft(frames * filters.window), -1, -2)


def cut_frames(waveform: jax.Array, length: int, hop: int, num_frames: int) -> jax.Array:
    """Cuts sounds into frames; of blocks laid side by side, not by a gather.

    A gather's derivative is a scatter, which is slow on CPUs and accelerators alike.

    Args:
        waveform: [..., time].
        length: Samples of a frame.
        hop: Samples from frame to frame.
        num_frames: How many there are.

    Returns:
        [..., frame, sample].
    """
    rows = -(-length // hop)  # Blocks of a hop that a frame reaches into.
    total = (num_frames - 1 + rows) * hop
    missing = max(0, total - waveform.shape[-1])
    waveform = jnp.pad(waveform, [(0, 0)] * (waveform.ndim - 1) + [(0, missing)])[..., :total]
    blocks = waveform.reshape(*waveform.shape[:-1], -1, hop)
    parts = [blocks[..., row : row + num_frames, :] for row in range(rows)]
    return jnp.concatenate(parts, axis=-1)[..., :length]


def mel_spectrogram(
    waveform: jax.Array, filters: SpectrogramFilters, *, config: SpectrogramConfig
) -> jax.Array:
    """Computes mel spectrograms; arguments and errors as of `stft`.

    Returns:
        [..., mel, frame] non-negative: sums over bins of magnitudes to the `config.power`.
    """
    spectrum = stft(waveform, filters, config=config)
    if config.power == 2:
        powers = spectrum.real**2 + spectrum.imag**2
    else:
        powers = gradients.magnitude(spectrum) ** config.power
    return jnp.matmul(filters.mel, powers, precision=jax.lax.Precision.HIGHEST)


def log_mel(
    waveform: jax.Array, filters: SpectrogramFilters, *, config: SpectrogramConfig
) -> jax.Array:
    """Computes logarithms of mel spectrograms; arguments and errors as of `stft`.

    Returns:
        [..., mel, frame]: dB re `config.reference`, and where `config.range_db` is set no less
        than so much below the maximum of each sound; or log(mel spectrogram + `config.floor`).
        The gradient is zero where a floor is reached.
    """
    mel = mel_spectrogram(waveform, filters, config=config)
    if config.log == "offset":
        return jnp.log(mel + config.floor)
    per_decade = 20 / config.power
    reference = per_decade * math.log10(max(config.reference, config.floor))
    level_db = per_decade * jnp.log10(jnp.maximum(mel, config.floor)) - reference
    if config.range_db is not None:
        loudest = jnp.max(level_db, axis=(-2, -1), keepdims=True)
        level_db = jnp.maximum(level_db, loudest - config.range_db)
    return level_db
