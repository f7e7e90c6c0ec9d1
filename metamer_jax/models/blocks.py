"""What the networks of Feather et al. (2023) have in common, and the layers that they are made of.

They hear the whole cochleagram, as it is. Layers are called what the published PyTorch code calls
them, and start as there, so that `torch_import` can carry weights over by name.
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from metamer_jax.models.base import Network

Padding = str | tuple[tuple[int, int], ...]

# PyTorch's default start: uniform within 1 / sqrt(inputs of a unit).
torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class CochleagramNetwork(Network):
    """A network on the whole cochleagram; stages are called as Feather et al. (2023) call them.

    Its first stage, their `input_after_preproc`, is called `cochleagram` as in every network here;
    the last, `final`, are the logits.

    Variables: besides those of every network "batch_stats", the running means and variances of its
    batch norms, if it has any, which evaluation and synthesis use.

    Attributes:
        standardize: Begin with the scalars of "normalization". The originals do not.
    """

    standardize: bool = False

    @nn.nowrap
    def _standardized(self, x: jax.Array) -> jax.Array:
        standardized = super()._standardized(x)  # Its scalars are there in any case.
        return standardized if self.standardize else x


class Convolution(nn.Module):
    """A convolution over channels and frames, without a bias; parameters as of `flax.linen.Conv`.

    Attributes:
        features: Output features.
        kernel_size: Extent over channels and frames.
        strides: Likewise.
        padding: "SAME" as TensorFlow pads, or points before and after each axis.
        kernel_init: Initial distribution of the kernel.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: Padding = "SAME"
    kernel_init: nn.initializers.Initializer = torch_uniform

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Convolves [batch, *axes, feature] over its axes."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        # XLA's convolution takes seven times as long within a compiled loop on a CPU, where
        # training and synthesis have it.
        convolve = convolve_by_product if jax.default_backend() == "cpu" else convolve_by_xla
        return convolve(x, kernel, self.strides, self.padding)


def convolve_by_product(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding
) -> jax.Array:
    """Convolves as one matrix product over all windows laid out (im2col).

    Args:
        x: [batch, channel, frame, input].
        kernel: [*extents, input, output].
        strides: Strides over channels and frames.
        padding: "SAME" as TensorFlow pads, or points before and after each axis.

    Returns:
        [batch, channel, frame, output].
    """
    *extents, _, features = kernel.shape
    lay_out = functools.partial(jnp.concatenate, axis=-1)
    columns = _over_windows(x, extents, strides, padding, lay_out, 0.0)
    # The axis laid out last varies slowest.
    return columns @ jnp.swapaxes(kernel, 0, 1).reshape(-1, features)


def convolve_by_xla(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Padding
) -> jax.Array:
    """The same as XLA's own convolution."""
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=dimensions)


def dense(features: int, name: str) -> nn.Dense:
    """A dense layer that starts as PyTorch's do, but for the biases, which start at zero."""
    return nn.Dense(features, kernel_init=torch_uniform, name=name)


def batch_norm(train: bool, name: str) -> nn.BatchNorm:
    """Makes PyTorch's `BatchNorm2d` with its default rates.

    A difference: its running variances are those of samples (n - 1), these of batches (n).

    Args:
        train: Whether to use a batch's own statistics, and to update the running ones.
        name: Name of the module.

    Returns:
        A module [batch, ..., feature] -> the same shape.
    """
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,  # PyTorch's 0.1, which weighs the new and not the old.
        epsilon=1e-5,
        use_fast_variance=False,  # A cochleagram's mean is several deviations from zero.
        name=name,
    )


def max_pool(
    x: jax.Array, window: Sequence[int], strides: Sequence[int], padding: Padding = "SAME"
) -> jax.Array:
    """Takes the maximum of windows that may overlap, axis by axis.

    Args:
        x: [batch, *axes, ...] with at least as many axes as `window`.
        window: Extent along the axes after the first.
        strides: Likewise.
        padding: "SAME" as TensorFlow pads, or points before and after each axis: of minus
            infinity, so that they never count.

    Returns:
        [batch, *pooled axes, ...].
    """

    def largest(parts):
        return functools.reduce(jnp.maximum, parts)

    return _over_windows(x, window, strides, padding, largest, -jnp.inf)


def average_pool(
    x: jax.Array, window: Sequence[int], strides: Sequence[int], padding: Padding = "SAME"
) -> jax.Array:
    """Averages windows that may overlap; zeros beyond the edges count, as in the original.

    Args:
        x: [batch, *axes, ...] with at least as many axes as `window`.
        window: Extent along the axes after the first.
        strides: Likewise.
        padding: "SAME" as TensorFlow pads, or points before and after each axis: zeros.

    Returns:
        [batch, *pooled axes, ...].
    """

    def mean(parts):
        return sum(parts) / len(parts)

    return _over_windows(x, window, strides, padding, mean, 0.0)


def _over_windows(x, window, strides, padding, join, fill):
    """Joins the points of each window, axis by axis."""
    # Slices and not `lax.reduce_window`, whose gradient is slow on a CPU.
    sizes = x.shape[1 : 1 + len(window)]
    if padding == "SAME":
        padding = [same_padding(*each) for each in zip(sizes, window, strides, strict=True)]
    axes = enumerate(zip(window, strides, padding, strict=True), start=1)
    for axis, (extent, stride, (before, after)) in axes:
        pads = [(0, 0)] * x.ndim
        pads[axis] = (before, after)
        x = jnp.pad(x, pads, constant_values=fill)
        last = (x.shape[axis] - extent) // stride * stride + 1
        x = join([jax.lax.slice_in_dim(x, i, i + last, stride, axis=axis) for i in range(extent)])
    return x


def same_padding(size: int, extent: int, stride: int) -> tuple[int, int]:
    """Points that TensorFlow's "SAME" puts before and after an axis."""
    total = max((-(-size // stride) - 1) * stride + extent - size, 0)
    return total // 2, total - total // 2
