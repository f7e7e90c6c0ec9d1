"""The multirate cochleagram: every band's envelope at a rate of its own.

A clip of N samples has the spectrum X[k]; a band-pass filter with gains H[k] passes n bins from k0
on. The band's analytic signal, and its envelope |z|, are

    z(t) = 1/N sum_{j < n} H[k0 + j] X[k0 + j] exp(2 pi i (k0 + j) t / N)
         = exp(2 pi i k0 t / N) y(t),    y(t) = 1/N sum_{j < n} H[k0 + j] X[k0 + j]
                                                          exp(2 pi i j t / N).

The factor before y shifts it by k0 bins and has magnitude one: |z| = |y|, and the shift need never
be made. As y holds the frequencies 0 to n - 1 alone, its samples at M >= n instants t = N m / M say
all about it, and they are M / N times an inverse FFT of length M of its n numbers.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from metamer_jax import gradients
from metamer_jax.cochleagram import banded, matmul
from metamer_jax.cochleagram import filters as filter_design
from metamer_jax.cochleagram.partition import fast_fft_lengths, plan_groups
from metamer_jax.configs import CochleagramConfig

# Overheads of one more group of subbands, in grid points of work; set by measurement on a CPU.
_GROUP_COST = 3000


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SubbandGroup:
    """Channels that share one coarse grid."""

    index: jax.Array  # [channel, bin] int32: the DFT bins that the channel's filter passes.
    response: jax.Array  # [channel, bin], zero where `index` only fills up.
    lowpass: banded.BandedMatrix  # [point, frame]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MultirateFilters:
    """The groups, and the way back from their order to that of the channels."""

    groups: tuple[SubbandGroup, ...]
    order: jax.Array  # [channel] int32: where each channel stands among the groups' rows.


def design(
    response: np.ndarray, frames: np.ndarray, config: CochleagramConfig, dtype: np.dtype | type
) -> MultirateFilters | matmul.MatmulFilters:
    """Designs the filters of the multirate method.

    Args:
        response: [channel, bin] float64 gains.
        frames: [frame] int, frames to compute.
        config: The cochleagram's settings.
        dtype: Floating type of the arrays.

    Returns:
        What `envelope` needs, or `matmul.envelope` where transforms are matrix products.
    """
    num_samples = config.num_samples
    passed = [np.flatnonzero(row) for row in response]
    first = np.array([p[0] if p.size else 0 for p in passed])
    width = np.array([p[-1] - p[0] + 1 if p.size else 1 for p in passed])
    matrix = filter_design.envelope_matrix(
        num_samples, config.lowpass_taps, config.stride, config.lowpass_padding, frames
    )
    needed = _needed_points(width, config)
    if matmul.resolve(config.transform) == "matmul":
        return matmul.design(response, first, width, needed, matrix, dtype)
    spectrum = np.fft.rfft(matrix, axis=1)
    groups, order = [], []
    lengths = [*fast_fft_lengths(num_samples), num_samples]
    for points, members in plan_groups(needed, lengths, lambda _: _GROUP_COST):
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
    """Points of the coarse grid for filters of `width` bins: oversampling * n + R.

    |y|^2 is made of differences of the n frequencies, so it lies within n of zero; its root |y|,
    the envelope, has most of its power there and a rest that falls off beyond. On a grid of M
    points what lies at M - f is mistaken for f. The low-pass reads f up to R / 2: half the frame
    rate and half its transition (of a Kaiser window of beta 5 that is 3.2 sample rates over the
    taps). With M = 3 n + R only what the envelope holds beyond M - R / 2 > 3 n is misread. At
    16 kHz, 200 Hz and 1001 taps R is 1.25 times 200 Hz, which is its least.

    Returns:
        Points [channel] int.
    """
    transition_hz = 1.5 * config.sample_rate_hz / config.lowpass_taps
    rate_hz = config.envelope_rate_hz
    read = max(1.25 * rate_hz, rate_hz + 2 * transition_hz) * config.duration_s
    return np.ceil(config.oversampling * width + read).astype(int)


def envelope(spectrum: jax.Array, bands: MultirateFilters, config: CochleagramConfig) -> jax.Array:
    """Computes low-passed envelopes.

    Args:
        spectrum: [..., bin] the clip's real DFT.
        bands: From `design`.
        config: The cochleagram's settings.

    Returns:
        [..., channel, frame].
    """
    rows = []
    for group in bands.groups:
        subband = group.response * jnp.take(spectrum, group.index, axis=-1)
        band = jnp.fft.ifft(subband, n=group.lowpass.shape[0])
        magnitude = gradients.magnitude(band, config.envelope_floor)
        rows.append(banded.multiply(magnitude, group.lowpass))
    return jnp.take(jnp.concatenate(rows, axis=-2), bands.order, axis=-2)
