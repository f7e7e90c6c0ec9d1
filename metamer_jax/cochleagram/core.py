"""Cochleagrams: designed on the host in float64, computed on the device as pure functions.

`design_cochleagram(config)` makes the arrays, `cochleagram(waveform, filters, config=config)` uses
them. Two methods compute the same quantity:

* `dense`: an inverse FFT of every band at the full sample rate. Exact; used for verification.
* `multirate`: a band-pass filter is nonzero on few DFT bins. Those bins alone, inverse-transformed
  on a coarse grid, are the band's analytic signal moved to baseband and decimated, whose magnitude
  *is* the envelope at those instants. The low-pass reads the coarse samples through band-limited
  interpolation. Tens of times faster; its only error is what the envelope (a magnitude, so not
  quite band-limited) holds beyond the coarse grid.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from metamer_jax import gradients
from metamer_jax.cochleagram import dense, matmul, multirate
from metamer_jax.cochleagram import filters as filter_design
from metamer_jax.cochleagram.dense import DenseFilters
from metamer_jax.cochleagram.multirate import MultirateFilters
from metamer_jax.configs import CochleagramConfig


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CochleagramFilters:
    """What `cochleagram` needs besides the waveform: a pytree, so that jit takes it as argument.

    Captured as constants, the arrays would be folded by XLA at compile time, megabytes of them.
    """

    bands: DenseFilters | MultirateFilters | matmul.MatmulFilters
    center_hz: jax.Array  # [channel]
    low_hz: jax.Array  # [channel] lower band edges.
    high_hz: jax.Array  # [channel] upper band edges.

    @property
    def num_channels(self) -> int:
        """Channels that the filters make."""
        return self.center_hz.shape[0]


def design_cochleagram(
    config: CochleagramConfig,
    *,
    bank: filter_design.FilterBank | None = None,
    channels: Sequence[int] | None = None,
    frames: Sequence[int] | None = None,
    dtype: np.dtype | type = np.float32,
) -> CochleagramFilters:
    """Designs the filters in float64 and casts them once.

    Args:
        config: The cochleagram's settings.
        bank: A filter bank of one's own, [channel, num_samples // 2 + 1]; by default the config's
            half-cosines.
        channels: Keep only these channels, in this order; by default all.
        frames: Keep only these frames, in this order; by default all.
        dtype: Floating type of the arrays, and so of the computation.

    Returns:
        A pytree of arrays for `cochleagram`.

    Raises:
        ValueError: The bank, channels or frames do not fit the config.
    """
    if bank is None:
        bank = default_bank(config)
    num_bins = config.num_samples // 2 + 1
    if bank.response.shape[1] != num_bins:
        raise ValueError(
            f"bank must have {num_bins} bins for {config.num_samples} samples, "
            f"got {bank.response.shape[1]}"
        )
    keep = _selection("channels", channels, len(bank.response))
    kept_frames = _selection("frames", frames, config.num_frames)
    response = bank.response[keep]
    if config.method == "dense":
        bands = dense.design(response, None if frames is None else kept_frames, config, dtype)
    else:
        bands = multirate.design(response, kept_frames, config, dtype)
    edges = (jnp.asarray(a[keep], dtype) for a in (bank.center_hz, bank.low_hz, bank.high_hz))
    return CochleagramFilters(bands, *edges)


def default_bank(config: CochleagramConfig) -> filter_design.FilterBank:
    """Returns the config's half-cosine filter bank, float64."""
    return filter_design.half_cosine_bank(
        config.num_samples,
        config.sample_rate_hz,
        low_hz=config.low_hz,
        high_hz=config.high_hz,
        num_filters=config.num_filters,
        sample_factor=config.sample_factor,
        lowpass_filter=config.lowpass_filter,
        highpass_filter=config.highpass_filter,
    )


def cochleagram(
    waveform: jax.Array, filters: CochleagramFilters, *, config: CochleagramConfig
) -> jax.Array:
    """Computes cochleagrams; differentiable, and pure in `waveform` and `filters`.

    Args:
        waveform: [..., time] of `config.num_samples` samples.
        filters: From `design_cochleagram(config)`.
        config: The same config.

    Returns:
        [..., channel, frame], compressed as the config says.

    Raises:
        ValueError: The waveform's length or the filters' kind is not the config's.
    """
    multirate = (MultirateFilters, matmul.MatmulFilters)
    kind = DenseFilters if config.method == "dense" else multirate
    if not isinstance(filters.bands, kind):
        raise ValueError(
            f"filters were designed with another method than config.method={config.method!r}: "
            f"got {type(filters.bands).__name__}"
        )
    shape = jnp.shape(waveform)
    if not shape or shape[-1] != config.num_samples:
        raise ValueError(
            f"waveform must be [..., time] with {config.num_samples} samples "
            f"({config.duration_s} s at {config.sample_rate_hz} Hz), got shape {shape}"
        )
    return _cochleagram(waveform, filters, config)


@functools.partial(jax.jit, static_argnames="config")
def _cochleagram(waveform, filters, config):
    waveform = jnp.asarray(waveform, filters.center_hz.dtype)
    if config.waveform_limit is not None:
        waveform = gradients.clamp(waveform, config.waveform_limit)
    if isinstance(filters.bands, matmul.MatmulFilters):
        return compress(matmul.envelope(waveform, filters.bands, config.envelope_floor), config)
    spectrum = jnp.fft.rfft(waveform)
    if config.method == "dense":
        envelope = dense.envelope(spectrum, filters.bands, config)
    else:
        envelope = multirate.envelope(spectrum, filters.bands, config)
    return compress(envelope, config)


def compress(envelope: jax.Array, config: CochleagramConfig) -> jax.Array:
    """Rectifies, scales, shifts and compresses low-passed envelopes.

    Args:
        envelope: Any shape.
        config: The cochleagram's settings.

    Returns:
        The same shape.
    """
    if config.rectification_gradient == "pass":
        rectified = gradients.relu_straight_through(envelope)
    else:
        rectified = jax.nn.relu(envelope)  # Derivative zero at zero, as TensorFlow's.
    scaled = config.scale * rectified + config.offset
    if config.compression == "power":
        return gradients.power(scaled, config.power, config.gradient_limit)
    if config.compression == "decibel":
        return gradients.decibel(scaled, config.gradient_limit)
    return scaled


def _selection(name: str, chosen: Sequence[int] | None, size: int) -> np.ndarray:
    if chosen is None:
        return np.arange(size)
    index = np.asarray(chosen)
    if index.ndim != 1 or not index.size or not np.issubdtype(index.dtype, np.integer):
        raise ValueError(f"{name} must be a non-empty sequence of integers, got {chosen!r}")
    if index.min() < 0 or index.max() >= size:
        raise ValueError(f"{name} must lie in [0, {size}), got {index.min()} to {index.max()}")
    return index
