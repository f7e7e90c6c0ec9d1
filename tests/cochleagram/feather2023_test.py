"""The cochleagram of Feather et al. (2023) held to what their code computes (tests/reference)."""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metamer_jax import cochleagram as cochleagrams
from metamer_jax import metamers
from metamer_jax.configs import COCHLEAGRAMS, SYNTHESIS_RECIPES

PATH = pathlib.Path(__file__).parents[1] / "reference" / "chcochleagram_feather2023.npz"
SOUNDS = ("voice", "padded_zeros", "start", "loud")
DENSE = COCHLEAGRAMS["feather2023"]
MULTIRATE = dataclasses.replace(DENSE, method="multirate")


@pytest.fixture(scope="module")
def reference():
    with np.load(PATH) as file:
        return dict(file)


@pytest.fixture(scope="module")
def computed(reference):
    """(method, sound) to cochleagram, and loss and gradient without the clamp."""
    voice = jnp.asarray(reference["cochleagram_voice"])

    def losses(sound, filters, config):
        made = cochleagrams.cochleagram(sound, filters, config=config)
        half_square = 0.5 * jnp.sum(made**2)
        relative = jnp.linalg.norm(made - voice) / jnp.linalg.norm(voice)
        return half_square, relative

    found = {}
    for config in (DENSE, MULTIRATE):
        free = dataclasses.replace(config, waveform_limit=None)
        filters = cochleagrams.design_cochleagram(config)

        @jax.jit
        def measured(sound, filters, config=free):
            return jax.vjp(lambda x: losses(x, filters, config), sound)[0], [
                jax.grad(lambda x, i=i: losses(x, filters, config)[i])(sound) for i in (0, 1)
            ]

        for sound in SOUNDS:
            waveform = reference[f"waveform_{sound}"]
            made = cochleagrams.cochleagram(waveform, filters, config=config)
            values, gradients = measured(waveform, filters)
            which = int(sound != "voice")
            loss, gradient = float(values[which]), np.asarray(gradients[which])
            found[config.method, sound] = np.asarray(made), loss, gradient
    return found


def cosine(a, b):
    return float(np.vdot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


# Largest relative error of the output. The multirate method's is not the original's rounding but
# its own; at the start noise, whose magnitudes the floor flattens, it is a tenth of elsewhere.
BOUNDS = {
    "dense": dict(voice=3e-5, padded_zeros=3e-5, start=3e-5, loud=3e-5),
    "multirate": dict(voice=7e-4, padded_zeros=1.5e-3, start=1e-4, loud=7e-4),
}


@pytest.mark.parametrize("method", BOUNDS)
@pytest.mark.parametrize("sound", SOUNDS)
def test_output_and_gradient_are_the_originals(reference, computed, method, sound):
    made, loss, gradient = computed[method, sound]
    expected = reference[f"cochleagram_{sound}"]
    if sound != "voice":  # Of the others every third channel and frame is kept,
        made = made[::3, ::3]
    error = np.linalg.norm(made - expected) / np.linalg.norm(expected)
    assert error < BOUNDS[method][sound]
    np.testing.assert_allclose(loss, reference[f"loss_{sound}"], rtol=1e-4)
    gradient, expected = gradient[::8], reference[f"gradient_{sound}"]  # and every eighth sample.
    sounding = reference[f"waveform_{sound}"][::8] != 0
    smallest = 0.999 if method == "dense" else 0.998
    assert cosine(gradient[sounding], expected[sounding]) > smallest
    # In digital silence the subbands are as small as the rounding of a float32 FFT, the original's
    # too: to the gradient in float64 its own has a cosine of .995 there.
    assert cosine(gradient, expected) > (0.97 if sound == "padded_zeros" else smallest)


def stage(filters, waveform, *, config):
    return cochleagrams.cochleagram(waveform, filters, config=config)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(DENSE, id="dense"),
        pytest.param(MULTIRATE, id="multirate", marks=pytest.mark.slow),
    ],
)
def test_twelve_steps_of_the_synthesis_are_the_originals(reference, config):
    state = metamers.init(
        jax.random.key(0),
        reference["waveform_voice"][None],
        [0],
        stage_fn=functools.partial(stage, config=config),
        variables=cochleagrams.design_cochleagram(config),
        config=dataclasses.replace(SYNTHESIS_RECIPES["feather2023"], chunk_steps=13),
    )
    start = jnp.asarray(reference["waveform_start"])[None, None]
    # Two buffers: each is donated to the next state.
    begun = state.metamer._replace(waveform=start, best_waveform=jnp.array(start))
    _, info = metamers.advance(dataclasses.replace(state, metamer=begun), 13)
    # Roundings grow with every step of so rough a path: to 0.6 % (dense), 0.8 % (multirate).
    np.testing.assert_allclose(info.loss[:, 0, 0], reference["step_loss"], rtol=0.01)


def test_without_floor_and_clamp_it_would_be_another(reference):
    plain = dataclasses.replace(DENSE, envelope_floor=0.0, waveform_limit=None)
    filters = cochleagrams.design_cochleagram(plain)
    for sound, least in (("start", 0.05), ("loud", 0.1)):
        made = cochleagrams.cochleagram(reference[f"waveform_{sound}"], filters, config=plain)
        expected = reference[f"cochleagram_{sound}"]
        assert np.linalg.norm(made[::3, ::3] - expected) > least * np.linalg.norm(expected)
