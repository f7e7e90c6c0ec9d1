"""Perturbations of a given size that raise a loss, and random ones of that size beside them.

Projected gradient ascent (Madry et al. 2018, arXiv:1706.06083) within a ball around each input, in
the norms L2 and Linf. The functions take any `loss_fn` of a batch, so that they know nothing of
networks: what is perturbed may be waveforms or cochleagrams.

    radius = adversarial.radii(inputs, "l2", epsilon=0.05)               # relative to each input
    found = adversarial.strongest(key, loss_fn, inputs, radius, config=config)
    loss_fn(inputs + found.perturbation)                                 # found.loss

`attacks.evaluate` says how many clips a network still recognises.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metamer_jax.configs import AdversarialConfig
from metamer_jax.training.scoring import LossFn


class Ascent(NamedTuple):
    """What one or several ascents found.

    Attributes:
        last: [example, ...] the perturbation after the last step.
        perturbation: [example, ...] the one with the highest loss of all that were met.
        loss: [example] that loss.
    """

    last: jax.Array
    perturbation: jax.Array
    loss: jax.Array


def radii(inputs: jax.Array, norm: str, epsilon: float | jax.Array) -> jax.Array:
    """Turns a relative epsilon (see `AdversarialConfig`) into the units of each input.

    Args:
        inputs: [example, ...].
        norm: "l2" or "linf".
        epsilon: Relative.

    Returns:
        [example]: epsilon times the example's L2 norm, or its rms.
    """
    size = inputs[0].size if norm == "linf" else 1
    return epsilon * jnp.sqrt(jnp.sum(inputs**2, axis=_axes(inputs)) / size)


def project(perturbation: jax.Array, radius: jax.Array, norm: str) -> jax.Array:
    """Finds the nearest point of the ball.

    Args:
        perturbation: [example, ...].
        radius: [example].
        norm: "l2" or "linf".

    Returns:
        Of the shape of `perturbation`; one that lies in the ball stays as it is.
    """
    radius = _by_example(radius, perturbation)
    if norm == "linf":
        return jnp.clip(perturbation, -radius, radius)
    length = _length(perturbation)
    return perturbation * jnp.where(length > radius, radius / jnp.maximum(length, _TINY), 1.0)


def bounded(
    perturbation: jax.Array, inputs: jax.Array, bounds: tuple[float, float] | None
) -> jax.Array:
    """Shortens a perturbation where the perturbed input would leave its range.

    Args:
        perturbation: [example, ...].
        inputs: [example, ...] what is perturbed.
        bounds: Lowest and highest value of a perturbed input; None: any.

    Returns:
        Of the shape of `perturbation`.
    """
    return perturbation if bounds is None else jnp.clip(inputs + perturbation, *bounds) - inputs


def steepest(gradient: jax.Array, norm: str) -> jax.Array:
    """Finds the step of length 1 along which a linear loss rises most.

    Args:
        gradient: [example, ...].
        norm: "l2": the gradient's direction. "linf": its sign.

    Returns:
        Of the gradient's shape; zero where the gradient is.
    """
    if norm == "linf":
        return jnp.sign(gradient)
    # First by the largest value, since the square of a small gradient is no float32.
    largest = jnp.max(jnp.abs(gradient), axis=_axes(gradient), keepdims=True)
    scaled = gradient / jnp.maximum(largest, _TINY)
    return scaled / jnp.maximum(_length(scaled), _TINY)


def random_perturbation(
    key: jax.Array, shape: Sequence[int], radius: jax.Array, norm: str
) -> jax.Array:
    """Draws the control: a perturbation as large, that knows nothing of the network.

    Args:
        key: PRNG key, used once.
        shape: (example, ...).
        radius: [example].
        norm: "l2": uniform on the sphere. "linf": a corner of the cube, each as likely.

    Returns:
        Of that shape; every example's norm is its radius.
    """
    if norm == "linf":
        direction = jax.random.rademacher(key, tuple(shape), jnp.float32)
    else:
        direction = jax.random.normal(key, tuple(shape))
        direction /= _length(direction)
    return _by_example(radius, direction) * direction


def pgd(
    key: jax.Array,
    loss_fn: LossFn,
    inputs: jax.Array,
    radius: jax.Array,
    *,
    config: AdversarialConfig,
) -> Ascent:
    """Climbs from one random start in the ball, `num_steps` steps of `step_size` times the radius.

    Starts are uniform in the cube, or on the sphere (by which nearly all of a ball of so many
    dimensions lies).

    Args:
        key: PRNG key, used once.
        loss_fn: Inputs [example, ...] to losses [example], which are to rise.
        inputs: [example, ...].
        radius: [example], in units of the input.
        config: Norm, steps and step size.

    Returns:
        What it found, among the start and what every step led to.
    """
    corner_key, size_key = jax.random.split(key)
    start = random_perturbation(corner_key, inputs.shape, radius, config.norm)
    if config.norm == "linf":
        start *= jax.random.uniform(size_key, inputs.shape)
    start = bounded(start, inputs, config.bounds)
    step_size = _by_example(config.step_size * radius, inputs)

    def losses(perturbation):
        loss = loss_fn(inputs + perturbation)
        return loss.sum(), loss

    def step(_, ascent):
        gradient, loss = jax.grad(losses, has_aux=True)(ascent.last)
        kept = _kept(ascent, ascent.last, loss)
        moved = ascent.last + step_size * steepest(gradient, config.norm)
        moved = project(moved, radius, config.norm)
        return kept._replace(last=bounded(moved, inputs, config.bounds))

    none = Ascent(start, start, jnp.full(len(inputs), -jnp.inf, inputs.dtype))
    ascent = jax.lax.fori_loop(0, config.num_steps, step, none)
    # Compiled away where only `last` is used.
    return _kept(ascent, ascent.last, losses(ascent.last)[1])


def strongest(
    key: jax.Array,
    loss_fn: LossFn,
    inputs: jax.Array,
    radius: jax.Array,
    *,
    config: AdversarialConfig,
) -> Ascent:
    """Finds the best of `config.restarts` ascents and of no perturbation at all.

    Args:
        key: PRNG key, used once.
        loss_fn: Inputs [example, ...] to losses [example], which are to rise.
        inputs: [example, ...].
        radius: [example], in units of the input.
        config: Norm, steps, step size and restarts.

    Returns:
        What the ascents found together; `last` is the last one's.
    """

    def restart(ascent, key):
        found = pgd(key, loss_fn, inputs, radius, config=config)
        return _kept(ascent, found.perturbation, found.loss)._replace(last=found.last), None

    unchanged = jnp.zeros_like(inputs)
    ascent = Ascent(unchanged, unchanged, loss_fn(inputs))
    return jax.lax.scan(restart, ascent, jax.random.split(key, config.restarts))[0]


def perturb(
    key: jax.Array,
    loss_fn: LossFn,
    inputs: jax.Array,
    *,
    config: AdversarialConfig,
    strength: float | jax.Array = 1.0,
) -> jax.Array:
    """Perturbs a batch as `config` says: what a network is trained on.

    One restart gives its last step, as is usual in training, and saves the judging of it.

    Args:
        key: PRNG key, used once.
        loss_fn: Inputs [example, ...] to losses [example] of the network as it is.
        inputs: [example, ...].
        config: Perturbation.
        strength: [] part of its epsilon that it has.

    Returns:
        [example, ...] the perturbed inputs.
    """
    if not config.epsilon:
        return inputs
    radius = radii(inputs, config.norm, strength * config.epsilon)
    if config.random:
        found = random_perturbation(key, inputs.shape, radius, config.norm)
        found = bounded(found, inputs, config.bounds)
    elif config.restarts == 1:
        found = pgd(key, loss_fn, inputs, radius, config=config).last
    else:
        found = strongest(key, loss_fn, inputs, radius, config=config).perturbation
    # Nothing is learnt through the perturbation.
    return inputs + jax.lax.stop_gradient(found)


def _kept(ascent: Ascent, perturbation: jax.Array, loss: jax.Array) -> Ascent:
    better = loss > ascent.loss
    chosen = jnp.where(_by_example(better, perturbation), perturbation, ascent.perturbation)
    return ascent._replace(perturbation=chosen, loss=jnp.where(better, loss, ascent.loss))


_TINY = 1e-30


def _axes(x):
    return tuple(range(1, x.ndim))


def _length(x):
    return jnp.sqrt(jnp.sum(x**2, axis=_axes(x), keepdims=True))


def _by_example(values, like):
    return values.reshape(-1, *[1] * (like.ndim - 1))
