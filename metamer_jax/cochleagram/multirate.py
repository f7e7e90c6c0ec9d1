"""The multirate cochleagram: every band's envelope at a rate of its own."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from metamer_jax import gradients
from metamer_jax.cochleagram import banded, matmul
from metamer_jax.cochleagram import filters as filter_design
from metamer_jax.cochleagram.partition import plan_groups
from metamer_jax.configs import CochleagramConfig


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


# Multirate: every band at a rate of its own.


def design(response, frames, config, dtype):
    num_samples = config.num_samples
    passed = [np.flatnonzero(row) for row in response]
    first = np.array([p[0] if p.size else 0 for p in passed])
    width = np.array([p[-1] - p[0] + 1 if p.size else 1 for p in passed])
    matrix = filter_design.envelope_matrix(
        num_samples, config.lowpass_taps, config.stride, config.lowpass_padding, frames
    )
    if matmul.resolve(config.transform) == "matmul":
        needed = _needed_points(width, config)
        return matmul.design(response, first, width, needed, matrix, dtype)
    spectrum = np.fft.rfft(matrix, axis=1)
    groups, order = [], []
    for points, members in plan_groups(_needed_points(width, config), num_samples):
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


def envelope(spectrum, bands, config):
    rows = []
    for group in bands.groups:
        subband = group.response * jnp.take(spectrum, group.index, axis=-1)
        magnitude = gradients.magnitude(jnp.fft.ifft(subband, n=group.lowpass.shape[0]))
        rows.append(banded.multiply(magnitude, group.lowpass))
    return jnp.take(jnp.concatenate(rows, axis=-2), bands.order, axis=-2)
