"""Convolutions and maxima of windows, held to XLA's and to loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from metamer_jax.own_models import convolutions, relus

RNG = np.random.default_rng(0)


def case(x, kernel, layout, strides=None, padding="VALID", **settings):
    """[batch, feature, *axes] and [output, feature, *extents], in a layout's order."""
    axes = len(x) - 2
    return x, kernel, layout, strides or (1,) * axes, padding, settings


LINE, IMAGE = ("NCH", "OIH", "NCH"), ("NCHW", "OIHW", "NCHW")
CASES = {
    "one axis": case((2, 3, 40), (5, 3, 7), LINE),
    "features last": case((2, 40, 3), (7, 3, 5), ("NHC", "HIO", "NHC"), padding="SAME"),
    "another order out": case((40, 3, 2), (3, 7, 5), ("HCN", "IHO", "CHN")),
    "a stride": case((2, 3, 41), (5, 3, 3), LINE, (2,), [(1, 2)]),
    "a stride that divides": case((1, 1, 300), (4, 1, 10), LINE, (5,)),
    "a stride longer than the kernel": case((1, 3, 41), (5, 3, 2), LINE, (5,)),
    "a wide kernel": case((2, 4, 150), (5, 4, 64), LINE, padding=[(31, 32)]),
    "a wide kernel of many features": case((1, 300, 50), (4, 300, 30), LINE),
    "a very wide one with a stride": case((1, 1, 700), (3, 1, 259), LINE, (4,), [(25, 30)]),
    "a wide dilated one": case((1, 2, 160), (3, 2, 23), LINE, rhs_dilation=(5,)),
    "a wide one with a stride and dilated": case(
        (1, 2, 160), (3, 2, 19), LINE, (3,), rhs_dilation=(2,)
    ),
    "negative padding": case((2, 3, 40), (5, 3, 7), LINE, (2,), [(-3, -4)]),
    "groups": case((2, 6, 40), (9, 2, 7), LINE, (2,), [(3, 3)], feature_group_count=3),
    "wide groups": case((1, 8, 60), (8, 4, 40), LINE, padding="SAME", feature_group_count=2),
    "by depth": case((2, 6, 40), (6, 1, 7), LINE, (2,), "SAME", feature_group_count=6),
    "by depth, wide": case((2, 6, 90), (6, 1, 65), LINE, feature_group_count=6),
    "by depth, two outputs": case((2, 6, 40), (12, 1, 7), LINE, feature_group_count=6),
    "transposed": case((2, 3, 20), (4, 3, 8), LINE, padding=[(5, 6)], lhs_dilation=(4,)),
    "transposed, cropped": case((2, 3, 20), (4, 3, 5), LINE, padding=[(-2, 1)], lhs_dilation=(3,)),
    "transposed, wide": case((1, 2, 9), (4, 2, 71), LINE, padding=[(70, 70)], lhs_dilation=(2,)),
    "transposed in groups": case(
        (2, 6, 20), (4, 3, 7), LINE, padding=[(4, 4)], lhs_dilation=(2,), feature_group_count=2
    ),
    "transposed with gaps": case((2, 3, 9), (4, 3, 2), LINE, padding=[(1, 1)], lhs_dilation=(5,)),
    "an image": case((2, 3, 16, 14), (5, 3, 3, 3), IMAGE, (1, 2), "SAME"),
    "an image, large kernel": case((1, 2, 40, 30), (3, 2, 7, 20), IMAGE, (2, 1), [(3, 3), (9, 9)]),
    "an image of many features": case((1, 800, 9, 8), (4, 800, 3, 3), IMAGE),
    "an image, pointwise": case((2, 3, 16, 14), (5, 3, 1, 1), IMAGE, (2, 2)),
    "an image, by depth": case((2, 4, 16, 14), (4, 1, 3, 5), IMAGE, feature_group_count=4),
    "an image, transposed": case(
        (2, 3, 6, 5), (4, 3, 4, 3), IMAGE, padding=[(3, 2), (1, 2)], lhs_dilation=(2, 3)
    ),
    "an image, transposed along one axis": case(
        (2, 3, 6, 9), (4, 3, 4, 3), IMAGE, (1, 2), [(3, 2), (1, 2)], lhs_dilation=(2, 1)
    ),
    "a volume": case((1, 2, 6, 7, 8), (3, 2, 2, 3, 2), ("NCDHW", "OIDHW", "NCDHW"), (2, 1, 1)),
    "a frame of one column": case((2, 1, 100, 1), (6, 1, 32, 1), IMAGE, (4, 1)),
}


@pytest.mark.parametrize("name", CASES)
def test_products_are_the_convolution(name):
    x, kernel, layout, strides, padding, settings = CASES[name]
    x, kernel = (RNG.standard_normal(shape).astype("f") for shape in (x, kernel))
    numbers = lax.conv_dimension_numbers(x.shape, kernel.shape, layout)
    xla = functools.partial(
        lax.conv_general_dilated, window_strides=strides, padding=padding,
        dimension_numbers=numbers, precision="highest", **settings,
    )  # fmt: skip
    program = relus.trace(lambda x, kernel: [xla(x, kernel)], x, kernel)
    (eqn,) = (e for e in program.closed.jaxpr.eqns if e.primitive.name.startswith("conv"))
    assert convolutions.instead(eqn) is not None

    def ours(x, kernel):
        return relus.evaluate(program, [x, kernel], program.outputs)[0]

    assert "conv_general" not in str(jax.make_jaxpr(ours)(x, kernel))
    weights = RNG.standard_normal(eqn.outvars[0].aval.shape).astype("f")

    @jax.jit
    def everything(x, kernel):
        found = []
        for function in (ours, xla):
            value, back = jax.vjp(function, x, kernel)
            batched = jax.vmap(function, (0, None))(jnp.stack([x, 2 * x]), kernel)
            found += [value, *back(weights), batched]
        return found

    found = everything(x, kernel)
    for got, expected in zip(found[:4], found[4:], strict=True):
        np.testing.assert_allclose(got, expected, atol=3e-6 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("dtype", "settings"),
    [
        (np.float16, {}),
        (np.float32, {"batch_group_count": 2}),
        (np.float32, {"lhs_dilation": (2,), "rhs_dilation": (2,)}),
    ],
)
def test_others_are_left_to_xla(dtype, settings):
    x, kernel = (RNG.standard_normal(shape).astype(dtype) for shape in ((2, 4, 20), (4, 4, 3)))

    def xla(x, kernel):
        return [lax.conv_general_dilated(x, kernel, (1,), [(0, 0)], **settings)]

    program = relus.trace(xla, x, kernel)
    found = relus.evaluate(program, [x, kernel], program.outputs)
    np.testing.assert_array_equal(found[0], xla(x, kernel)[0])


@pytest.mark.parametrize(
    ("window", "strides", "padding", "dilation"),
    [
        ((1, 2, 2), (1, 2, 2), "VALID", (1, 1, 1)),
        ((1, 3, 3), (1, 2, 2), "SAME", (1, 1, 1)),
        ((2, 1, 4), (1, 1, 1), [(1, 0), (0, 0), (2, 2)], (1, 2, 2)),
        ((1, 1, 2), (1, 1, 2), "VALID", (1, 1, 1)),
    ],
)
def test_a_maximum_of_windows(window, strides, padding, dilation):
    x = RNG.integers(-3, 3, (4, 9, 11)).astype("f")  # With ties.

    def xla(x):
        return lax.reduce_window(
            x, -jnp.inf, lax.max, window, strides, padding, window_dilation=dilation
        )

    program = relus.trace(lambda x: [xla(x)], x)

    def ours(x):
        return relus.evaluate(program, [x], program.outputs)[0]

    assert "reduce_window" not in str(jax.make_jaxpr(ours)(x))
    value, back = jax.vjp(ours, x)
    np.testing.assert_array_equal(value, xla(x))
    weights = RNG.standard_normal(value.shape).astype("f")
    expected = np.zeros_like(x)
    starts = np.array(
        [p[0] for p in lax.padtype_to_pads(x.shape, _reach(window, dilation), strides, padding)]
        if isinstance(padding, str)
        else [p[0] for p in padding]
    )
    for place in np.ndindex(value.shape):
        points = np.array(place) * strides - starts
        inside = [tuple(points + np.array(i) * dilation) for i in np.ndindex(window)]
        inside = [p for p in inside if all(0 <= a < n for a, n in zip(p, x.shape, strict=True))]
        first = max(inside, key=lambda p: x[p])  # Of equal ones the first.
        expected[first] += weights[place]
    np.testing.assert_allclose(back(weights)[0], expected, rtol=1e-6, atol=1e-6)


def _reach(window, dilation):
    return [(n - 1) * d + 1 for n, d in zip(window, dilation, strict=True)]


def test_a_kernel_of_512_points_is_forty_copies():
    x, kernel = jnp.zeros((1, 1, 1532)), jnp.zeros((128, 1, 512))
    program = relus.trace(
        lambda x, kernel: [lax.conv_general_dilated(x, kernel, (4,), "VALID")], x, kernel
    )
    ours = jax.make_jaxpr(lambda *args: relus.evaluate(program, args, program.outputs))
    assert len(ours(x, kernel).eqns) < 50
