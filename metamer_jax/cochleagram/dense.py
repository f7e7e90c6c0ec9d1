"""The dense cochleagram: every band's envelope at the clip's own rate, exact."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from metamer_jax import gradients
from metamer_jax.cochleagram import filters as filter_design
from metamer_jax.configs import CochleagramConfig


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DenseFilters:
    """What `envelope` needs."""

    response: jax.Array  # [channel, bin]
    kernel: jax.Array  # [sample of a block, row x frame of a block]: the folded low-pass.
    frames: jax.Array | None  # [frame] int32, which frames to keep; None: all.
    # Zeros before and after the envelope.
    padding: tuple[int, int] = dataclasses.field(metadata={"static": True})


def design(
    response: np.ndarray,
    frames: np.ndarray | None,
    config: CochleagramConfig,
    dtype: np.dtype | type,
) -> DenseFilters:
    """Designs the filters of the dense method.

    Args:
        response: [channel, bin] float64 gains.
        frames: [frame] int, frames to keep; None: all.
        config: The cochleagram's settings.
        dtype: Floating type of the arrays.

    Returns:
        What `envelope` needs.
    """
    taps, stride, num_samples = config.lowpass_taps, config.stride, config.num_samples
    count = _frames_per_block(config)
    rows = -(-(taps + (count - 1) * stride) // (count * stride))
    # [frame of a block, tap]: `rows` blocks of samples reach to the end of the last frame's kernel.
    kernel = np.zeros((count, rows * count * stride))
    for frame, row in enumerate(kernel):
        row[frame * stride : frame * stride + taps] = filter_design.envelope_kernel(taps, stride)
    # [sample of a block, row and frame]: for one product with the blocks, see `_strided_lowpass`.
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


def envelope(spectrum: jax.Array, bands: DenseFilters, config: CochleagramConfig) -> jax.Array:
    """Computes low-passed envelopes.

    Args:
        spectrum: [..., bin] the clip's real DFT.
        bands: From `design`.
        config: The cochleagram's settings.

    Returns:
        [..., channel, frame].
    """
    num_samples = config.num_samples
    analytic = bands.response * spectrum[..., None, :]
    missing = num_samples - analytic.shape[-1]  # Negative frequencies: zero, hence analytic.
    analytic = jnp.pad(analytic, [(0, 0)] * (analytic.ndim - 1) + [(0, missing)])
    magnitude = gradients.magnitude(jnp.fft.ifft(analytic), config.envelope_floor)
    low_passed = _strided_lowpass(magnitude, bands, config)
    return low_passed if bands.frames is None else jnp.take(low_passed, bands.frames, axis=-1)


def _frames_per_block(config):
    """Frames computed from one block of samples: enough that a kernel spans about 16 blocks."""
    return -(-config.lowpass_taps // (16 * config.stride))


def _strided_lowpass(envelope, bands, config):
    """Correlates with the kernel every `stride` samples, as one matrix product.

    The samples are cut into blocks and the kernel, as it stands at each frame of a block, into
    rows of a block's length. The frames of block b are the sum over rows j of row j times the
    samples of block b + j, so each block of samples meets each row of taps once.

    Returns:
        Low-passed envelopes [..., channel, frame].
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
    parts = (products[..., j : j + blocks, j, :] for j in range(rows))
    frames = functools.reduce(jnp.add, parts)
    return frames.reshape(*frames.shape[:-2], -1)[..., : config.num_frames]
