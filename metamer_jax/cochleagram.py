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

from metamer_jax import banded, gradients, transforms
from metamer_jax import filters as filter_design
from metamer_jax.configs import CochleagramConfig

# Overheads of one more group of subbands, in grid points of work; set by measurement on a CPU.
_GROUP_COST = 3000


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["response", "kernel", "frames"],
    meta_fields=["padding"],
)
@dataclasses.dataclass(frozen=True)
class DenseFilters:
    response: jax.Array  # [channel, bin]
    kernel: jax.Array  # [sample of a block, row x frame of a block]: the folded low-pass.
    frames: jax.Array | None  # [frame] int32, which frames to keep; None: all.
    padding: tuple[int, int]  # Zeros before and after the envelope.


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["index", "response", "lowpass"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class SubbandGroup:
    """Channels that share one coarse grid."""

    index: jax.Array  # [channel, bin] int32: the DFT bins that the channel's filter passes.
    response: jax.Array  # [channel, bin], zero where `index` only fills up.
    lowpass: banded.BandedMatrix  # [point, frame]


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["groups", "order"], meta_fields=[]
)
@dataclasses.dataclass(frozen=True)
class MultirateFilters:
    groups: tuple[SubbandGroup, ...]
    order: jax.Array  # [channel] int32: where each channel stands among the groups' rows.


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["bands", "center_hz", "low_hz", "high_hz"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class CochleagramFilters:
    """What `cochleagram` needs besides the waveform: a pytree, so that jit takes it as argument.

    Captured as constants, the arrays would be folded by XLA at compile time, megabytes of them.
    """

    bands: DenseFilters | MultirateFilters | transforms.MatmulFilters
    center_hz: jax.Array  # [channel]
    low_hz: jax.Array  # [channel] lower band edges.
    high_hz: jax.Array  # [channel] upper band edges.

    @property
    def num_channels(self) -> int:
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
        bands = _design_dense(response, None if frames is None else kept_frames, config, dtype)
    else:
        bands = _design_multirate(response, kept_frames, config, dtype)
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
        filters: What `design_cochleagram(config)` returned.
        config: The same config.

    Returns:
        [..., channel, frame], compressed as the config says.

    Raises:
        ValueError: The waveform's length or the filters' kind is not the config's.
    """
    multirate = (MultirateFilters, transforms.MatmulFilters)
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
    if isinstance(filters.bands, transforms.MatmulFilters):
        return compress(transforms.envelope(waveform, filters.bands), config)
    spectrum = jnp.fft.rfft(waveform)
    if config.method == "dense":
        envelope = _dense_envelope(spectrum, filters.bands, config)
    else:
        envelope = _multirate_envelope(spectrum, filters.bands, config)
    return compress(envelope, config)


def compress(envelope: jax.Array, config: CochleagramConfig) -> jax.Array:
    """Rectifies, scales, shifts and compresses low-passed envelopes of any shape."""
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
    chosen = np.asarray(chosen)
    if chosen.ndim != 1 or not chosen.size or not np.issubdtype(chosen.dtype, np.integer):
        raise ValueError(f"{name} must be a non-empty sequence of integers, got {chosen!r}")
    if chosen.min() < 0 or chosen.max() >= size:
        raise ValueError(f"{name} must lie in [0, {size}), got {chosen.min()} to {chosen.max()}")
    return chosen


# Dense: every band at the full sample rate.


def _design_dense(response, frames, config, dtype) -> DenseFilters:
    taps, stride, num_samples = config.lowpass_taps, config.stride, config.num_samples
    count = _frames_per_block(config)
    rows = -(-(taps + (count - 1) * stride) // (count * stride))
    kernel = np.zeros((count, rows * count * stride))
    for frame, row in enumerate(kernel):
        row[frame * stride : frame * stride + taps] = filter_design.envelope_kernel(taps, stride)
    kernel = kernel.reshape(count, rows, -1).transpose(2, 1, 0).reshape(count * stride, -1)
    before = -filter_design.envelope_offset(num_samples, taps, stride, config.lowpass_padding)
    blocks = -(-config.num_frames // count)
    after = (blocks - 1 + rows) * count * stride - before - num_samples  # May cut a tail.
    return DenseFilters(
        response=jnp.asarray(response, dtype),
        kernel=jnp.asarray(kernel, dtype),
        frames=None if frames is None else jnp.asarray(frames, jnp.int32),
        padding=(before, after),
    )


def _dense_envelope(spectrum, bands, config):
    num_samples = config.num_samples
    analytic = bands.response * spectrum[..., None, :]
    missing = num_samples - analytic.shape[-1]  # Negative frequencies: zero, hence analytic.
    analytic = jnp.pad(analytic, [(0, 0)] * (analytic.ndim - 1) + [(0, missing)])
    envelope = gradients.magnitude(jnp.fft.ifft(analytic))
    low_passed = _strided_lowpass(envelope, bands, config)
    return low_passed if bands.frames is None else jnp.take(low_passed, bands.frames, axis=-1)


def _frames_per_block(config):
    """Frames computed from one block of samples: enough that a kernel spans about 16 blocks."""
    return -(-config.lowpass_taps // (16 * config.stride))


def _strided_lowpass(envelope, bands, config):
    """Correlates with the kernel every `stride` samples, as one matrix product.

    The samples are cut into blocks and the kernel, as it stands at each frame of a block, into
    rows of a block's length. The frames of block b are the sum over rows j of row j times the
    samples of block b + j, so each block of samples meets each row of taps once.
    """
    before, after = bands.padding
    widths = [(0, 0)] * (envelope.ndim - 1) + [(before, max(after, 0))]
    padded = jnp.pad(envelope, widths)[..., : envelope.shape[-1] + before + after]
    samples = padded.reshape(*padded.shape[:-1], -1, bands.kernel.shape[0])
    products = jnp.matmul(samples, bands.kernel, precision=jax.lax.Precision.HIGHEST)
    count = _frames_per_block(config)
    products = products.reshape(*products.shape[:-1], -1, count)  # [..., block, row, frame]
    rows = products.shape[-2]
    blocks = products.shape[-3] - rows + 1
    frames = sum(products[..., j : j + blocks, j, :] for j in range(rows))
    return frames.reshape(*frames.shape[:-2], -1)[..., : config.num_frames]


# Multirate: every band at a rate of its own.


def _design_multirate(response, frames, config, dtype):
    num_samples = config.num_samples
    passed = [np.flatnonzero(row) for row in response]
    first = np.array([p[0] if p.size else 0 for p in passed])
    width = np.array([p[-1] - p[0] + 1 if p.size else 1 for p in passed])
    matrix = filter_design.envelope_matrix(
        num_samples, config.lowpass_taps, config.stride, config.lowpass_padding, frames
    )
    if transforms.resolve(config.transform) == "matmul":
        needed = _needed_points(width, config)
        return transforms.design(response, first, width, needed, matrix, dtype)
    spectrum = np.fft.rfft(matrix, axis=1)
    groups, order = [], []
    for points, members in _plan_groups(_needed_points(width, config), num_samples):
        bins = first[members, None] + np.arange(width[members].max())
        inside = bins < (first + width)[members, None]
        index = np.minimum(bins, response.shape[1] - 1)
        gain = np.where(inside, np.take_along_axis(response[members], index, axis=1), 0)
        lowpass = matrix
        if points < num_samples:
            lowpass = filter_design.on_coarse_grid(matrix, points, spectrum=spectrum)
        groups.append(
            SubbandGroup(
                index=jnp.asarray(index, jnp.int32),
                # An inverse FFT divides by its own length, the definition by the clip's.
                response=jnp.asarray(gain * (points / num_samples), dtype),
                lowpass=banded.from_dense(lowpass.T, config.lowpass_tolerance, dtype),
            )
        )
        order.extend(members)
    return MultirateFilters(tuple(groups), jnp.asarray(np.argsort(order), jnp.int32))


def _needed_points(width: np.ndarray, config: CochleagramConfig) -> np.ndarray:
    """Points of the coarse grid for filters of `width` bins.

    A magnitude of a subband of n bins is a periodic signal most of whose power lies within n of
    zero; on a grid of m points what lies at m - f is mistaken for f. The low-pass reads f up to
    half the frame rate and, its kernel being short, somewhat beyond: hence the second term.
    """
    transition_hz = 1.5 * config.sample_rate_hz / config.lowpass_taps
    rate_hz = config.envelope_rate_hz
    read = max(1.25 * rate_hz, rate_hz + 2 * transition_hz) * config.duration_s
    return np.ceil(config.oversampling * width + read).astype(int)


def _plan_groups(needed: np.ndarray, num_samples: int) -> list[tuple[int, np.ndarray]]:
    """Groups channels onto few grids, so that the points plus the groups' overheads are fewest.

    Returns:
        (points, channel indices) per group; all channels once. Grids have lengths that FFTs are
        fast at, or the clip's own length where a filter is too wide for a coarser one.
    """
    sizes = _fast_fft_lengths(num_samples)
    by_need = np.argsort(needed, kind="stable")
    grid = np.array([next((s for s in sizes if s >= m), num_samples) for m in needed[by_need]])
    best = [(0, 0)]  # best[j]: least cost of the j least demanding channels, and its last cut.
    for j in range(1, len(grid) + 1):
        best.append(
            min((best[i][0] + (j - i) * int(grid[j - 1]) + _GROUP_COST, i) for i in range(j))
        )
    groups, j = [], len(grid)
    while j:
        i = best[j][1]
        groups.append((int(grid[j - 1]), np.sort(by_need[i:j])))
        j = i
    return groups[::-1]


def _fast_fft_lengths(limit: int) -> list[int]:
    """Even numbers below `limit` with no prime factor above five."""
    products = {
        2**a * 3**b * 5**c for a in range(1, 24) for b in range(15) for c in range(10)
        if 2**a * 3**b * 5**c < limit
    }  # fmt: skip
    return sorted(products)


def _multirate_envelope(spectrum, bands, config):
    rows = []
    for group in bands.groups:
        subband = group.response * jnp.take(spectrum, group.index, axis=-1)
        envelope = gradients.magnitude(jnp.fft.ifft(subband, n=group.lowpass.shape[0]))
        rows.append(banded.multiply(envelope, group.lowpass))
    return jnp.take(jnp.concatenate(rows, axis=-2), bands.order, axis=-2)
