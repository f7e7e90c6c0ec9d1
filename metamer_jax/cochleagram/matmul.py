"""The multirate cochleagram's Fourier transforms as matrix products, for matrix units (TPUs).

A TPU has no fast Fourier transform of its own: XLA spells one out in many passes over memory and
takes minutes to compile them. Its matrix unit multiplies faster than memory can feed it, so here
every transform is a product with cosines and sines, real and imaginary parts apart:

* the clip's spectrum in two steps (Cooley and Tukey 1965). With N = a b, n = b i + j and
  k = u + a v the exponent n k / N is i u / a + j u / N + j v / b and a whole number, so, with
  e(t) = exp(2 pi i t),

      X[u + a v] = sum_j e(-j v / b) e(-j u / N) sum_i e(-i u / a) x[b i + j]:

  a product with the matrix of length a, a rotation, and one with that of length b;
* a subband's analytic signal likewise, from the bins 128 i + l to the points u + s j of a grid of
  M = 128 s: the exponent is (128 i + l) u / M + l j / 128 and a whole number, so the sum over the
  rows i comes first, rotated, and then one product over the lanes l. (In a single product the
  matrices of wide subbands would be moved about more than all the sounds together.)
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from metamer_jax import gradients
from metamer_jax.cochleagram import filters
from metamer_jax.cochleagram.partition import plan_groups

TRANSFORMS = ("auto", "fft", "matmul")
_LANES = 128  # The matrix unit's width: grids are multiples of it, so that no lane is idle.
_GROUP_COST = 3.0  # Channels whose data are as many bytes as the matrices of one more grid.
_HIGHEST = jax.lax.Precision.HIGHEST  # float32 throughout, in several passes of bfloat16.


def resolve(transform: str, platform: str | None = None) -> str:
    """Chooses how Fourier transforms are computed.

    Args:
        transform: One of `TRANSFORMS`.
        platform: Platform that "auto" is resolved for; None: that at hand.

    Returns:
        "fft" or "matmul".

    Raises:
        ValueError: There is no such transform.
    """
    if transform not in TRANSFORMS:
        raise ValueError(f"transform must be one of {TRANSFORMS}, got {transform!r}")
    if transform != "auto":
        return transform
    platform = jax.default_backend() if platform is None else platform
    return "matmul" if platform == "tpu" else "fft"


# The spectrum of a whole clip.


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SpectrumMatrices:
    """For `spectrum`: sample b * i + j meets bin u + a * v."""

    first: jax.Array  # [part, u, i] over the a samples b apart; parts are real and imaginary.
    rotation: jax.Array  # [part, u, j]
    second: jax.Array  # [part, j, v], of the bins up to half the sample rate.
    num_samples: int = dataclasses.field(metadata={"static": True})


def design_spectrum(num_samples: int, dtype: np.dtype | type = np.float32) -> SpectrumMatrices:
    """Designs the two steps of a spectrum, for the most even factors a <= b.

    Args:
        num_samples: Samples of a clip.
        dtype: Floating type of the arrays.

    Returns:
        What `spectrum` needs.
    """
    a = max(n for n in range(1, int(num_samples**0.5) + 1) if num_samples % n == 0)
    b = num_samples // a
    kept = -(-(num_samples // 2 + 1) // a)
    first = _rotations(np.arange(a)[:, None] * np.arange(a), a, -1)
    rotation = _rotations(np.arange(a)[:, None] * np.arange(b), num_samples, -1)
    second = _rotations(np.arange(b)[:, None] * np.arange(kept), b, -1)
    return SpectrumMatrices(
        *(jnp.asarray(part, dtype) for part in (first, rotation, second)), num_samples=num_samples
    )


def _rotations(turns: np.ndarray, period: int, sign: int) -> np.ndarray:
    """[part, ...] exp(sign 2 pi i turns / period), exact to the last bit of float64."""
    angle = 2 * np.pi * (turns % period) / period
    return np.stack([np.cos(angle), sign * np.sin(angle)])


def spectrum(waveform: jax.Array, matrices: SpectrumMatrices) -> tuple[jax.Array, jax.Array]:
    """Computes the real DFT.

    Args:
        waveform: [..., time].
        matrices: From `design_spectrum`.

    Returns:
        Real and imaginary parts, each [..., bin].
    """
    a = matrices.first.shape[1]
    samples = waveform.reshape(*waveform.shape[:-1], a, -1)
    real, imaginary = (jnp.matmul(part, samples, precision=_HIGHEST) for part in matrices.first)
    real, imaginary = _times(real, imaginary, *matrices.rotation)
    cos, sin = matrices.second
    product = functools.partial(jnp.matmul, precision=_HIGHEST)
    parts = (
        product(real, cos) - product(imaginary, sin),
        product(real, sin) + product(imaginary, cos),
    )  # [..., u, v]
    num_bins = matrices.num_samples // 2 + 1
    real, imaginary = (
        jnp.swapaxes(part, -1, -2).reshape(*part.shape[:-2], -1)[..., :num_bins] for part in parts
    )
    return real, imaginary


def _times(a, b, c, d):
    """(a + ib) (c + id), as real and imaginary part."""
    return a * c - b * d, a * d + b * c


# Subbands.


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MatmulGroup:
    """Channels that share one coarse grid.

    A channel reads whole rows of 128 bins: that shifts its subband in frequency by what is left
    before its first bin, and its envelope not at all. Parts are real and imaginary; a complex
    product is a sum over the parts that come in, for each that goes out. Point u + steps * j of
    the grid meets bin 128 * i + lane.
    """

    rows: jax.Array  # [channel and i, row] one where a channel reads a row.
    response: jax.Array  # [channel, i, 1, lane]
    rotation: jax.Array  # [i, part in, u, part out, lane]
    second: jax.Array  # [part in, lane, part out, j]
    lowpass: jax.Array  # [u, j, frame]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MatmulFilters:
    """What `envelope` needs; the counterpart of the multirate filters for FFTs."""

    spectrum: SpectrumMatrices
    groups: tuple[MatmulGroup, ...]
    order: jax.Array  # [channel, channel of the groups] one where they are the same.


def design(
    response: np.ndarray,
    first: np.ndarray,
    width: np.ndarray,
    needed: np.ndarray,
    lowpass: np.ndarray,
    dtype: np.dtype | type = np.float32,
) -> MatmulFilters:
    """Designs the matrices.

    Args:
        response: [channel, bin] float64 gains.
        first: [channel] the first bin that each passes.
        width: [channel] how many bins it passes from there.
        needed: [channel] points of the coarse grid that it needs at least.
        lowpass: [frame, time] float64, the low-pass at the full rate.
        dtype: Floating type of the arrays.

    Returns:
        What `envelope` needs.
    """
    num_samples, num_rows = lowpass.shape[1], -(-response.shape[1] // _LANES)
    # An inverse transform divides by the clip's length, whatever its own.
    gains = np.pad(response / num_samples, [(0, 0), (0, num_rows * _LANES - response.shape[1])])
    gains = gains.reshape(len(response), num_rows, _LANES)
    lowpass_spectrum = np.fft.rfft(lowpass, axis=1)
    first_row, last_row = first // _LANES, (first + width - 1) // _LANES
    groups, order = [], []
    # Whole lanes: for wide filters a grid a little finer than the clip, if need be.
    lengths = range(_LANES, num_samples + _LANES, _LANES)
    for points, members in plan_groups(needed, lengths, lambda points: _GROUP_COST * points):
        steps = points // _LANES
        count = int((last_row - first_row)[members].max()) + 1
        row = np.minimum(first_row[members, None], num_rows - count) + np.arange(count)
        gain = gains[members[:, None], row]  # [channel, i, k]
        coarse = lowpass
        if points < num_samples:
            coarse = filters.on_coarse_grid(lowpass, points, spectrum=lowpass_spectrum)
        elif points > num_samples:
            coarse = filters.on_fine_grid(lowpass, points)
        bins, u = np.arange(count * _LANES).reshape(-1, 1, _LANES), np.arange(steps)[:, None]
        cos, sin = _rotations(bins * u, points, 1)
        lane, j = np.arange(_LANES)[:, None], np.arange(_LANES)
        c, s = _rotations(lane * j, _LANES, 1)
        groups.append(
            MatmulGroup(
                rows=jnp.asarray(row.reshape(-1, 1) == np.arange(num_rows), dtype),
                response=jnp.asarray(gain[:, :, None], dtype),
                rotation=jnp.asarray(_complex_product(cos, sin, axes=(1, 3)), dtype),
                second=jnp.asarray(_complex_product(c, s, axes=(0, 2)), dtype),
                lowpass=jnp.asarray(
                    coarse.T.reshape(-1, steps, len(lowpass)).swapaxes(0, 1), dtype
                ),
            )
        )
        order.extend(members)
    return MatmulFilters(
        spectrum=design_spectrum(num_samples, dtype),
        groups=tuple(groups),
        order=jnp.asarray(np.arange(len(order))[:, None] == np.asarray(order), dtype),
    )


def _complex_product(real: np.ndarray, imaginary: np.ndarray, axes: tuple[int, int]) -> np.ndarray:
    """Multiplication by a complex array as a linear map of parts, in and out, at these axes."""
    maps = np.stack([np.stack([real, -imaginary]), np.stack([imaginary, real])], 1)
    return np.moveaxis(maps, (0, 1), axes)


def envelope(waveform: jax.Array, matrices: MatmulFilters, floor: float = 0.0) -> jax.Array:
    """Computes low-passed envelopes.

    Args:
        waveform: [..., time].
        matrices: From `design`.
        floor: Least magnitude of a subband (`CochleagramConfig.envelope_floor`).

    Returns:
        [..., channel, frame].
    """
    real, imaginary = spectrum(waveform, matrices.spectrum)
    missing = -real.shape[-1] % _LANES
    real, imaginary = (
        jnp.pad(part, [(0, 0)] * (part.ndim - 1) + [(0, missing)]).reshape(
            *part.shape[:-1], -1, _LANES
        )
        for part in (real, imaginary)
    )
    rows = jnp.stack([real, imaginary], -2)  # [..., row, part, lane]
    made = [_group_envelope(rows, group, floor) for group in matrices.groups]
    # Products with ones and zeros select: exactly, and transposed they do not scatter.
    return jnp.matmul(matrices.order, jnp.concatenate(made, axis=-2), precision=_HIGHEST)


def _group_envelope(rows, group, floor):
    """[..., row, part, lane] -> [..., channel, frame]."""
    product = functools.partial(jnp.einsum, precision=_HIGHEST)
    # A gather by a product, whose transpose is one too and not a scatter.
    read = product("er,...rpl->...epl", group.rows, rows)
    channels, count = group.response.shape[:2]
    subband = read.reshape(*read.shape[:-3], channels, count, *read.shape[-2:]) * group.response
    # Few terms, each with a factor of its own: a sum of products, not a matrix product.
    terms = subband[..., None, None, :] * group.rotation
    rotated = jnp.sum(terms, axis=(-5, -4))  # [..., u, part, lane]
    parts = product("...ql,qlpj->...pj", rotated, group.second)
    magnitude = gradients.root_of_power(jnp.sum(parts**2, axis=-2), floor)
    return product("...cuj,ujf->...cf", magnitude, group.lowpass)
