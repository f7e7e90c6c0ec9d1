"""The parts networks are made of, written so that they are fast on a CPU too.

XLA's CPU convolution is slow where metamers need it most: inside loops, for gradients, and in
groups. Here a convolution is made of matrix products over shifted copies of its input, and a
maximum is a chain of selections; parameters keep the names and layouts of `flax.linen.Conv` and
`flax.linen.Dense` and start as Keras's do, so that weights can be carried over from either.
"""

import collections
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from metamer_jax import gradients

# From so many inputs on, a product for each shift is quicker than one over all, which has to be
# laid out first; set by measurement on a CPU, for the gradient of metamers.
_INPUTS_OF_A_PRODUCT = 8

Activations = collections.OrderedDict[str, jax.Array]
# (input, stage) to output: an ordinary ReLU, or a straight-through one at the stage that asks.
Relu = Callable[[jax.Array, str], jax.Array]


@dataclasses.dataclass(frozen=True)
class Grid:
    """The part of a cochleagram that a network reads, and the size of the whole.

    Attributes:
        num_channels: Channels of the whole cochleagram.
        num_frames: Frames of the whole cochleagram.
        channels: Indices of the channels kept, ascending.
        frames: Indices of the frames kept, ascending.
    """

    num_channels: int
    num_frames: int
    channels: tuple[int, ...]
    frames: tuple[int, ...]

    def __post_init__(self):
        for name, size in (("channels", self.num_channels), ("frames", self.num_frames)):
            kept = getattr(self, name)
            ascending = all(a < b for a, b in zip(kept, kept[1:], strict=False))
            if not (kept and ascending and kept[0] >= 0 and kept[-1] < size):
                raise ValueError(
                    f"{name} must be ascending indices below {size}, at least one, got {kept}"
                )

    def cut(self, cochleagram: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
        """Returns the kept part [..., kept channel, kept frame] of [..., channel, frame]."""
        if cochleagram.shape[-2:] != (self.num_channels, self.num_frames):
            raise ValueError(
                f"cochleagram must end in [channel {self.num_channels}, frame {self.num_frames}], "
                f"got shape {cochleagram.shape}"
            )
        return cochleagram[..., np.asarray(self.channels)[:, None], np.asarray(self.frames)]


@functools.lru_cache(maxsize=64)
def resize_weights(num_inputs: int, num_outputs: int, antialias: bool = False) -> np.ndarray:
    """Linear interpolation of a line of `num_inputs` points to `num_outputs`, as a matrix.

    Pixel centres lie at half-integers and the ends are extended, as in TensorFlow's and Keras's
    `Resizing`; with `antialias` the triangle is widened to the stride of a reduction
    (`tf.image.resize(antialias=True)`, `jax.image.resize`).

    Args:
        num_inputs: Points of the line.
        num_outputs: Points that it is resized to.
        antialias: Low-pass before sampling where there are fewer outputs than inputs.

    Returns:
        [num_outputs, num_inputs] float64, rows sum to 1; not writable (it is cached).
    """
    stride = num_inputs / num_outputs
    width = max(stride, 1.0) if antialias else 1.0
    centers = (np.arange(num_outputs) + 0.5) * stride - 0.5
    distance = np.abs(np.arange(num_inputs) - centers[:, None]) / width
    weights = np.maximum(0.0, 1.0 - distance)
    # Rounding of a centre that falls on a pixel must not make its neighbour "read".
    weights[weights < 1e-9] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    weights.setflags(write=False)
    return weights


def resize_reads(
    num_channels: int, num_frames: int, shape: tuple[int, int], antialias: bool = False
) -> Grid | None:
    """The channels and frames that `resize` to `shape` reads; None where it reads them all."""
    channels, frames = (
        tuple(int(i) for i in np.flatnonzero(resize_weights(n, m, antialias).any(axis=0)))
        for n, m in zip((num_channels, num_frames), shape, strict=True)
    )
    if (len(channels), len(frames)) == (num_channels, num_frames):
        return None
    return Grid(num_channels, num_frames, channels, frames)


def resize(
    cochleagram: jax.Array,
    shape: tuple[int, int],
    *,
    antialias: bool = False,
    grid: Grid | None = None,
) -> jax.Array:
    """Resizes [..., channel, frame] bilinearly to [..., *shape].

    Args:
        cochleagram: Whole cochleagram or, with `grid`, the part that `grid` keeps.
        shape: Channels and frames of the result.
        antialias: Low-pass before sampling where `shape` is smaller (the paper does not).
        grid: Channels and frames that `cochleagram` holds, if not all; the result may read no
            others.

    Returns:
        [..., *shape].

    Raises:
        ValueError: `cochleagram` is not of the grid's size, or `grid` lacks points that are read.
    """
    sizes = cochleagram.shape[-2:]
    if grid is None:
        kept = tuple(np.arange(n) for n in sizes)
        whole = sizes
    else:
        kept = (np.asarray(grid.channels), np.asarray(grid.frames))
        whole = (grid.num_channels, grid.num_frames)
    if sizes != tuple(len(k) for k in kept):
        raise ValueError(
            f"cochleagram must end in [channel {len(kept[0])}, frame {len(kept[1])}] "
            f"(the grid's), got shape {cochleagram.shape}"
        )
    matrices = []
    for size, points, keep in zip(whole, shape, kept, strict=True):
        weights = resize_weights(size, points, antialias)
        if np.any(np.delete(weights, keep, axis=1)):
            raise ValueError(f"grid lacks points that a resize of {size} to {points} reads")
        matrices.append(jnp.asarray(weights[:, keep], cochleagram.dtype))
    by_channel, by_frame = matrices
    return by_channel @ (cochleagram @ by_frame.T)


def standardize(x: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
    """Subtracts the mean and divides by the deviation, as Keras's `Normalization`."""
    return (x - mean) / jnp.maximum(jnp.sqrt(variance), 1e-7)


def relu(x: jax.Array, *, straight_through: bool = False) -> jax.Array:
    """An ordinary ReLU, or one whose derivative is 1 everywhere."""
    return gradients.relu_straight_through(x) if straight_through else nn.relu(x)


def max_pool(x: jax.Array, window: Sequence[int]) -> jax.Array:
    """Takes the maximum of adjoining windows.

    Of equal largest elements the first, in row-major order, receives the gradient, as in XLA and
    TensorFlow; `jnp.max` would share it out. A NaN in a window is its maximum.

    Args:
        x: [batch, *axes, ...] with at least as many axes as `window`.
        window: Size of the window, and stride, along the axes after the first. What is left over
            at the end of an axis is dropped.

    Returns:
        [batch, *pooled axes, ...].
    """
    for axis, size in reversed(list(enumerate(window, start=1))):
        # Pairwise, last axis first: winners meet in row-major order.
        limit = x.shape[axis] // size * size
        parts = [jax.lax.slice_in_dim(x, i, limit, size, axis) for i in range(size)]
        x = functools.reduce(lambda a, b: jnp.where((b > a) | (b != b), b, a), parts)
    return x


@functools.lru_cache(maxsize=64)
def hann_pool_weights(num_inputs: int, stride: int) -> np.ndarray:
    """A low-pass and a reduction by `stride` of a line of `num_inputs` points, as a matrix.

    The pooling of Feather et al. (2019; its code, `hanning_pooling` with padding "SAME" and
    `normalize`): a symmetric Hann window of four times the stride, its end points zero, whose
    weights sum to 1. It attenuates the new Nyquist frequency by 24.3 dB at stride 2 and 28.7 dB
    at stride 3. At the ends the original pads with zeros; here the weights inside the line are
    normalised, so that a constant passes unchanged.

    Args:
        num_inputs: Points of the line.
        stride: Points for each one of the result.

    Returns:
        [num_inputs // stride, num_inputs] float64, rows sum to 1; not writable (it is cached).
    """
    if stride == 1:
        weights = np.eye(num_inputs)
    else:
        window = np.hanning(4 * stride)
        weights = np.zeros((num_inputs // stride, num_inputs))
        for i, row in enumerate(weights):
            # As "SAME" pads where `stride` divides the line: half the surplus, rounded down.
            points = i * stride - 3 * stride // 2 + np.arange(4 * stride)
            inside = (points >= 0) & (points < num_inputs)
            row[points[inside]] = window[inside] / window[inside].sum()
    weights.setflags(write=False)
    return weights


def hann_pool(x: jax.Array, strides: Sequence[int]) -> jax.Array:
    """Low-passes and reduces axes by Hann windows of four times the strides.

    Args:
        x: [batch, *axes, ...] with at least as many axes as `strides`.
        strides: Along the axes after the first; 1 leaves an axis as it is. See
            `hann_pool_weights`.

    Returns:
        As large as that of `max_pool` with windows of the strides' size.
    """
    for axis, stride in enumerate(strides, start=1):
        if stride > 1:
            weights = jnp.asarray(hann_pool_weights(x.shape[axis], stride), x.dtype)
            x = jnp.moveaxis(jnp.tensordot(weights, x, (1, axis)), 0, axis)
    return x


def dense(features: int, name: str) -> nn.Dense:
    """A dense layer that starts as Keras's do."""
    return nn.Dense(features, kernel_init=nn.initializers.glorot_uniform(), name=name)


class Convolution(nn.Module):
    """A convolution (cross-correlation, VALID) over one or two axes, last axis features.

    Where `groups` divides inputs and features there is one "kernel", in the layout of
    `flax.linen.Conv`; otherwise "kernel0", "kernel1", ... hold the runs of equal groups.

    Attributes:
        features: Output features.
        kernel_size: Extent over each convolved axis.
        groups: Input and output features are cut into this many runs of neighbours, which are
            connected each to its own; see `grouped_runs`.
    """

    features: int
    kernel_size: tuple[int, ...]
    groups: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Convolves [batch, *axes, feature] over its axes, VALID, each group by itself."""
        runs = grouped_runs(x.shape[-1], self.features, self.groups)
        parts = []
        first_input = first_feature = 0
        for i, (groups, inputs, features) in enumerate(runs):
            last_feature = first_feature + groups * features

            def init(key, inputs=inputs, span=slice(first_feature, last_feature)):
                # Drawn for all features and cut: the limit is then the same in every run.
                shape = (*self.kernel_size, inputs, self.features)
                return nn.initializers.glorot_uniform()(key, shape)[..., span]

            kernel = self.param("kernel" if len(runs) == 1 else f"kernel{i}", init)
            heard = x[..., first_input : first_input + groups * inputs]
            parts.append(convolve(heard, kernel, groups=groups))
            first_input += groups * inputs
            first_feature = last_feature
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return (parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)) + bias


def grouped_runs(inputs: int, features: int, groups: int) -> list[tuple[int, int, int]]:
    """Shares inputs and features out among groups of neighbours.

    As `numpy.array_split` would: sizes differ by one at most, larger groups first.

    Args:
        inputs: Number of inputs.
        features: Number of features.
        groups: Number of groups.

    Returns:
        Runs of equal groups, (groups, inputs of each, features of each); one run where `groups`
        divides both.

    Raises:
        ValueError: There are more groups than inputs or features.
    """
    for name, size in (("inputs", inputs), ("features", features)):
        if not 1 <= groups <= size:
            raise ValueError(f"groups must lie in [1, {name}={size}], got {groups}")
    sizes = (
        (inputs // groups + (i < inputs % groups), features // groups + (i < features % groups))
        for i in range(groups)
    )
    return [(len(list(run)), *size) for size, run in itertools.groupby(sizes)]


def convolve(x: jax.Array, kernel: jax.Array, *, groups: int = 1) -> jax.Array:
    """Convolves [batch, *axes, input] with [*extents, input / groups, output], VALID.

    As matrix products over shifted copies of `x`, one for each or one for all of them (im2col), in
    place of `jax.lax.conv_general_dilated`: see this module's note.

    Args:
        x: [batch, *axes, input].
        kernel: [*extents, input / groups, output].
        groups: Groups of inputs, each with outputs of its own.

    Returns:
        [batch, *axes less extents plus 1, output].

    Raises:
        ValueError: `x` is smaller than the kernel.
    """
    *extents, inputs, features = kernel.shape
    lengths = [n - k + 1 for n, k in zip(x.shape[1:-1], extents, strict=True)]
    if min(lengths) < 1:
        raise ValueError(f"x must be at least {tuple(extents)} large, got shape {x.shape}")
    if groups > 1:
        # Groups lead from here on: each is then one contiguous matrix product.
        x = jnp.moveaxis(x.reshape(*x.shape[:-1], groups, inputs), -2, 0)
    starts = np.ndindex(*extents)
    first = x.ndim - 1 - len(extents)
    shifted = []
    for start in starts:
        part = x
        for axis, (begin, length) in enumerate(zip(start, lengths, strict=True), start=first):
            part = jax.lax.slice_in_dim(part, begin, begin + length, axis=axis)
        shifted.append(part)
    if groups == 1 and inputs >= _INPUTS_OF_A_PRODUCT:
        parts = zip(shifted, kernel.reshape(-1, inputs, features), strict=True)
        return functools.reduce(jnp.add, (part @ matrix for part, matrix in parts))
    columns = jnp.concatenate(shifted, axis=-1)
    size = math.prod(extents) * inputs
    if groups == 1:
        return columns @ kernel.reshape(size, features)
    matrices = jnp.moveaxis(kernel.reshape(size, groups, features // groups), 1, 0)
    product = jnp.einsum("g...k,gkf->g...f", columns, matrices)
    return jnp.moveaxis(product, 0, -2).reshape(*product.shape[1:-1], features)


class LocallyConnected(nn.Module):
    """Convolved (cross-correlation, VALID) over time, locally connected over frequency.

    As a convolution over both, but each frequency of the output has weights of its own: "kernel"
    [frequency, extent over frequencies, extent over frames, input, feature] and "bias"
    [frequency, feature]. Kernels start as a convolution of that extent does.

    Attributes:
        features: Output features.
        kernel_size: Extent over frequencies and frames.
    """

    features: int
    kernel_size: tuple[int, int]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Convolves [batch, frequency, frame, feature] over frames, VALID."""
        frequencies = x.shape[1] - self.kernel_size[0] + 1
        shape = (frequencies, *self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.glorot_uniform(batch_axis=(0,)), shape)
        bias = self.param("bias", nn.initializers.zeros, (frequencies, self.features))
        return locally_connect(x, kernel) + bias[:, None]


def locally_connect(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves over frames, with other weights at each frequency, VALID.

    One matrix product over shifted copies for each frequency, in one batched product.

    Args:
        x: [batch, frequency, frame, input].
        kernel: [output frequency, extent over frequencies, extent over frames, input, output],
            where output frequency f reads the input's frequencies from f on.

    Returns:
        [batch, output frequency, output frame, output].

    Raises:
        ValueError: `kernel` is not for as many frequencies, or `x` is smaller than it.
    """
    frequencies, high, wide, inputs, features = kernel.shape
    if frequencies != x.shape[1] - high + 1 or x.shape[2] < wide:
        raise ValueError(
            f"x must be [batch, {frequencies + high - 1} frequencies, {wide} frames or more, "
            f"{inputs} inputs], got shape {x.shape}"
        )
    # Frequency leads: the products of a batched one are then contiguous.
    x = jnp.moveaxis(x, 1, 0)
    frames = x.shape[2] - wide + 1
    shifted = [x[i : i + frequencies, :, j : j + frames] for i, j in np.ndindex(high, wide)]
    columns = jnp.concatenate(shifted, axis=-1)
    matrices = kernel.reshape(frequencies, high * wide * inputs, features)
    return jnp.moveaxis(jnp.einsum("fbtk,fko->fbto", columns, matrices), 0, 1)
