"""Convolutions and maxima of any traced model as a CPU computes them faster: without XLA's windows.

XLA's CPU convolution is slow inside loops, for gradients and in groups. Here a convolution (in the
jaxpr: `conv_general_dilated`) is a few products of shifted copies of its input, laid side by side.
Long kernels do so in two steps, so that 512 points cost some forty copies and not 512: point
i = b + B j of the kernel meets copies shifted by b = 0 ... B - 1, laid side by side, of which
copies shifted by B j are laid side by side again.

A stride becomes features, [time, feature] being [time / s, s * feature] at stride 1 (space to
depth); a transposed convolution computes its outputs' phases as features (depth to space).

A maximum of windows (max pooling) is a chain of selections, since XLA's derivative is a scatter.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

# What one product sums over at most: longer rows of copies leave a core's cache. Measured.
_LONGEST_ROW = 2048
# Longer kernels are laid side by side in two steps.
_SHORT_KERNEL = 16
# So many points of a convolution of single features are sums of products of numbers.
_DEPTHWISE_POINTS = 32
# Larger windows keep XLA's maximum.
_LARGEST_WINDOW = 16
# By how much zeros may lengthen a kernel so that it divides evenly.
_MOST_ZEROS = 1.25


class _Tap(NamedTuple):
    """Equally spaced shifts along an axis of [group, batch, *axes, feature]."""

    axis: int
    count: int
    step: int  # Between shifts.
    length: int  # Of the axis afterwards.
    stride: int = 1
    inner: bool = False  # The narrow ones of a long kernel's.


def instead(eqn: Any) -> Callable[..., jax.Array] | None:
    """Returns what computes an equation in XLA's place.

    Args:
        eqn: Of a jaxpr.

    Returns:
        A function of the equation's operands; None where it is no convolution or maximum of
        windows, or one that is left to XLA.
    """
    if eqn.primitive.name == "conv_general_dilated" and _is_convolved(eqn):
        return functools.partial(convolve, **eqn.params)
    if eqn.primitive.name == "reduce_window_max" and _is_maximum(eqn):
        return functools.partial(maximum, **eqn.params)
    return None


def _is_maximum(eqn):
    (x,) = (atom.aval for atom in eqn.invars)
    params = eqn.params
    return (
        jnp.issubdtype(x.dtype, jnp.floating)
        and set(params["base_dilation"]) == {1}
        and sum(n for n in params["window_dimensions"] if n > 1) <= _LARGEST_WINDOW
        and 0 not in (*x.shape, *eqn.outvars[0].aval.shape)
    )


def maximum(
    x: jax.Array,
    *,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    window_dilation: Sequence[int],
    **_: Any,
) -> jax.Array:
    """Takes maxima of windows, as `lax.reduce_window` does with `lax.max`.

    Of equal largest elements the first, in row-major order, receives the gradient, as in XLA and
    PyTorch. A NaN in a window is its maximum.

    Args:
        x: Any shape.
        window_dimensions: Per axis of `x`, as the next.
        window_strides: Between windows.
        padding: Points before and after, which are never the maximum.
        window_dilation: Between a window's points.

    Returns:
        A maximum for each window.
    """
    # Pairwise, last axis first: winners meet in row-major order.
    for axis in reversed(range(x.ndim)):
        x = _padded(x, axis, *padding[axis], value=-jnp.inf)
        count, step, stride = (
            sizes[axis] for sizes in (window_dimensions, window_dilation, window_strides)
        )
        length = (x.shape[axis] - (count - 1) * step - 1) // stride + 1
        parts = _copies(x, _Tap(axis, count, step, length, stride))
        x = functools.reduce(lambda a, b: jnp.where((b > a) | (b != b), b, a), parts)
    return x


def _is_convolved(eqn):
    """Whether a convolution is one that this module computes."""
    # Not those of a transposed convolution's kernel that is also strided or dilated, of gradients
    # of kernels (`batch_group_count`), and of other numbers than float32 and float64.
    params = eqn.params
    x, kernel = (atom.aval for atom in eqn.invars)
    others = zip(params["window_strides"], params["rhs_dilation"], strict=True)
    transposed = zip(params["lhs_dilation"], others, strict=True)
    return (
        params["batch_group_count"] == 1
        and x.dtype == kernel.dtype
        and x.dtype in (jnp.float32, jnp.float64)
        and params["preferred_element_type"] in (None, x.dtype)
        and all(dilation == 1 or other == (1, 1) for dilation, other in transposed)
        and 0 not in (*x.shape, *kernel.shape, *eqn.outvars[0].aval.shape)
    )


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    *,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    dimension_numbers: lax.ConvDimensionNumbers,
    feature_group_count: int,
    precision: Any = None,
    **_: Any,
) -> jax.Array:
    """Convolves as `lax.conv_general_dilated` does, whose parameters these are.

    Args:
        x: In the layout that `dimension_numbers` says, as the next.
        kernel: Likewise.
        window_strides: Per convolved axis, as the next three.
        padding: Points before and after; negative ones are cut off.
        lhs_dilation: Of the input; larger than 1 in a transposed convolution.
        rhs_dilation: Of the kernel.
        dimension_numbers: Layouts of input, kernel and output.
        feature_group_count: Groups of features, each convolved with kernels of its own.
        precision: Of the matrix products.

    Returns:
        The output, in its layout.
    """
    batch, inputs, *places = dimension_numbers.lhs_spec
    x = lax.transpose(x, (batch, *places, inputs))
    outputs, inputs, *places = dimension_numbers.rhs_spec
    kernel = lax.transpose(kernel, (*places, inputs, outputs))
    x, kernel = (_groups_first(a, feature_group_count) for a in (x, kernel))
    taps, phases = [], []
    for axis, (stride, pads, up, dilation) in enumerate(
        zip(window_strides, padding, lhs_dilation, rhs_dilation, strict=True)
    ):
        place = 1 + len(taps)  # The kernel's axis.
        points = kernel.shape[place]
        size = (x.shape[2 + axis] - 1) * up + 1 + sum(pads)
        length = (size - (points - 1) * dilation - 1) // stride + 1
        if up > 1:
            x, kernel, phase = _phases(x, kernel, axis + 2, place, up, pads[0], length)
            phases.append((axis + 2, up, phase, length))
            length = x.shape[axis + 2] - kernel.shape[place] + 1
        else:
            x = _padded(x, axis + 2, *pads)
        if stride > 1 and dilation == 1 and _ceil(points, stride) <= _MOST_ZEROS * points:
            x, kernel = _space_to_depth(x, kernel, axis + 2, place, stride, length)
            stride = 1
        found, x, kernel = _taps(x, kernel, axis + 2, place, stride, dilation, length)
        taps += found
    multiply = functools.partial(_multiply, precision=precision)
    if kernel.shape[-2:] == (1, 1) and kernel[0].size <= _DEPTHWISE_POINTS:
        y = _weighted_sum(x, kernel, taps)
    else:
        y = _products(x, kernel, taps, multiply)
    for axis, up, phase, length in reversed(phases):
        y = y.reshape(*y.shape[:-1], up, -1)
        y = jnp.moveaxis(y, -2, axis + 1)
        y = y.reshape(*y.shape[:axis], -1, *y.shape[axis + 2 :])
        y = lax.slice_in_dim(y, phase, phase + length, axis=axis)
    y = jnp.moveaxis(y, 0, -2)
    y = y.reshape(*y.shape[:-2], -1)  # [batch, *axes, output]
    batch, outputs, *places = dimension_numbers.out_spec
    order = sorted(range(y.ndim), key=(batch, *places, outputs).__getitem__)
    return lax.transpose(y, order)


def _groups_first(x, groups):
    """[..., group * feature] to [group, ..., feature]."""
    return jnp.moveaxis(x.reshape(*x.shape[:-1], groups, -1), -2, 0)


def _ceil(points, size):
    return -(-points // size) * size


def _padded(x, axis, before, after, value=0.0):
    """Pads an axis; cuts it where a number is negative."""
    config = [(0, 0, 0)] * x.ndim
    config[axis] = (before, after, 0)
    return lax.pad(x, jnp.asarray(value, x.dtype), config) if (before, after) != (0, 0) else x


def _split(x, axis, size):
    """Splits an axis into runs of `size`: one more axis behind it."""
    return x.reshape(*x.shape[:axis], -1, size, *x.shape[axis + 1 :])


def _phases(x, kernel, axis, place, up, before, length):
    """Makes every `up`-th output a feature, of an input with `up` - 1 zeros after each point."""
    # Output t, counted without the padding, is up * q + r and meets input q + m at the kernel's
    # point up * m - r.
    first, last = (-before) // up, (length - 1 - before) // up
    points = kernel.shape[place]
    count = -(-(points + up - 1) // up)
    kernel = _padded(kernel, place, up - 1, count * up - points - up + 1)
    kernel = jnp.flip(_split(kernel, place, up), place + 1)
    kernel = jnp.moveaxis(kernel, place + 1, -2)
    kernel = kernel.reshape(*kernel.shape[:-2], -1)
    x = _padded(x, axis, -first, last + count - x.shape[axis])
    return x, kernel, -before - first * up


def _space_to_depth(x, kernel, axis, place, stride, length):
    """Makes neighbouring points features, so that the stride is 1."""
    points = kernel.shape[place]
    count = -(-points // stride)
    kernel = _split(_padded(kernel, place, 0, count * stride - points), place, stride)
    kernel = jnp.moveaxis(kernel, place + 1, -3)
    kernel = kernel.reshape(*kernel.shape[:-3], -1, kernel.shape[-1])
    x = _padded(x, axis, 0, (length - 1 + count) * stride - x.shape[axis])
    x = jnp.moveaxis(_split(x, axis, stride), axis + 1, -2)
    return x.reshape(*x.shape[:-2], -1), kernel


def _taps(x, kernel, axis, place, stride, dilation, length):
    """The shifts along an axis, outer ones first; a long kernel's axis is split in two."""
    points = kernel.shape[place]
    if stride > 1 or points <= _SHORT_KERNEL:
        return [_Tap(axis, points, dilation, length, stride)], x, kernel
    # Fewest copies; of those that are as few, fewest zeros.
    inner = min(
        (size for size in range(2, points) if _ceil(points, size) <= _MOST_ZEROS * points),
        key=lambda size: (size + _ceil(points, size) // size, _ceil(points, size)),
    )
    outer = -(-points // inner)
    kernel = _split(_padded(kernel, place, 0, outer * inner - points), place, inner)
    needed = length + (outer * inner - 1) * dilation
    x = _padded(x, axis, 0, max(0, needed - x.shape[axis]))
    step = inner * dilation
    return (
        [
            _Tap(axis, outer, step, length),
            _Tap(axis, inner, dilation, length + (outer - 1) * step, inner=True),
        ],
        x,
        kernel,
    )


def _copies(x, tap):
    """The shifted copies of an input."""
    reach = (tap.length - 1) * tap.stride + 1
    starts = (i * tap.step for i in range(tap.count))
    return [lax.slice_in_dim(x, s, s + reach, tap.stride, tap.axis) for s in starts]


def _side_by_side(x, tap):
    """The copies as features [..., copy * feature]."""
    return jnp.concatenate(_copies(x, tap), axis=-1)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _inner_side_by_side(x, tap):
    """The same of a long kernel's inner shifts."""
    return _side_by_side(x, tap)


@_inner_side_by_side.defjvp
def _inner_side_by_side_jvp(tap, primals, tangents):
    """The same by few operations, whose transposed ones are few as well."""
    # A gradient through slices is a sum of as many padded arrays, which XLA compiles for longer
    # and runs slower; of fewer or wider copies it is the faster one. Measured.
    (x,), (y,) = primals, tangents
    # Inputs laid end to end, once per copy, and cut into rows that are `step` points longer: each
    # row begins so much later in its input than the one before.
    axis, count = tap.axis, tap.count
    width = tap.length + (count - 1) * tap.step
    y = lax.slice_in_dim(y, 0, width, axis=axis)
    y = jnp.broadcast_to(jnp.expand_dims(y, axis), (*y.shape[:axis], count, *y.shape[axis:]))
    y = y.reshape(*y.shape[:axis], count * width, *y.shape[axis + 2 :])
    y = _split(_padded(y, axis, 0, count * tap.step), axis, width + tap.step)
    y = jnp.moveaxis(lax.slice_in_dim(y, 0, tap.length, axis=axis + 1), axis, -2)
    return _inner_side_by_side(x, tap), y.reshape(*y.shape[:-2], -1)


def _products(x, kernel, taps, multiply):
    """Sums products of copies [group, ..., feature] and kernels [group, *taps, feature, output]."""
    if not taps:
        return multiply(x, kernel)
    *outer, tap = taps
    joined = max(1, _LONGEST_ROW // x.shape[-1])
    parts = []
    for start in range(0, tap.count, joined):
        these = tap._replace(count=min(joined, tap.count - start))
        shifted = lax.slice_in_dim(x, start * tap.step, None, axis=tap.axis)
        row = (_inner_side_by_side if tap.inner else _side_by_side)(shifted, these)
        part = lax.slice_in_dim(kernel, start, start + these.count, axis=-3)
        part = part.reshape(*part.shape[:-3], -1, part.shape[-1])
        parts.append(_products(row, part, outer, multiply))
    return functools.reduce(operator.add, parts)


def _multiply(x, kernel, *, precision):
    groups = kernel.shape[0]
    if groups == 1:
        return lax.dot_general(x, kernel[0], (((x.ndim - 1,), (0,)), ((), ())), precision=precision)
    numbers = (((x.ndim - 1,), (1,)), ((0,), (0,)))
    return lax.dot_general(x, kernel, numbers, precision=precision)


def _weighted_sum(x, kernel, taps):
    """The same of single features, number by number."""
    copies = [x]
    for tap in reversed(taps):
        copies = [c for row in zip(*(_copies(c, tap) for c in copies), strict=True) for c in row]
    weights = kernel.reshape(kernel.shape[0], -1)
    each = (
        copy * lax.expand_dims(weights[:, i], range(1, copy.ndim)) for i, copy in enumerate(copies)
    )
    return functools.reduce(operator.add, each)
