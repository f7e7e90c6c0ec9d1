"""A network under attack: its clips perturbed for training, its accuracy measured."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metamer_jax.configs import AdversarialConfig
from metamer_jax.models import Grid, Network
from metamer_jax.runtime.batches import padded_batches
from metamer_jax.training import adversarial, scoring
from metamer_jax.training.adversarial import radii, random_perturbation, strongest
from metamer_jax.training.clips import FeatureFn, check_shapes
from metamer_jax.training.features import compute_features
from metamer_jax.training.scoring import margin


def perturbed(
    key: jax.Array,
    variables: dict[str, Any],
    inputs: jax.Array,
    labels: jax.Array,
    feature_fn: FeatureFn | None,
    strength: float | jax.Array,
    *,
    model: Network,
    config: AdversarialConfig,
    grid: Grid | None,
) -> jax.Array:
    """Perturbs a batch and computes its cochleagrams.

    The network that is attacked drops no units, and is given neither masks nor mixtures: these
    come after.

    Args:
        key: PRNG key, used once.
        variables: The network's own variables.
        inputs: Waveforms [batch, time] with a `feature_fn`, else cochleagrams.
        labels: [batch] int.
        feature_fn: Waveforms to cochleagrams; None: the inputs are cochleagrams.
        strength: [] part of epsilon that the perturbations have.
        model: Network that is attacked.
        config: Perturbation.
        grid: Channels and frames that the cochleagrams hold, if not all.

    Returns:
        [batch, channel, frame].
    """
    loss_fn = scoring.cross_entropy(model, variables, labels, feature_fn=feature_fn, grid=grid)
    inputs = adversarial.perturb(key, loss_fn, inputs, config=config, strength=strength)
    return inputs if feature_fn is None else feature_fn(inputs)


def perturbed_features(
    key: jax.Array,
    model: Network,
    variables: dict[str, Any],
    inputs: np.ndarray | jax.Array,
    labels: np.ndarray | jax.Array,
    config: AdversarialConfig,
    *,
    feature_fn: FeatureFn | None = None,
    grid: Grid | None = None,
    batch_size: int = 64,
) -> np.ndarray:
    """Computes cochleagrams of clips perturbed as in training, at full strength, in batches.

    Args:
        key: PRNG key, used once.
        model: Network that is attacked.
        variables: The network's own variables.
        inputs: Waveforms [clip, time] with a `feature_fn`, else cochleagrams.
        labels: [clip] int.
        config: Perturbation.
        feature_fn: Waveforms to cochleagrams; None: the inputs are cochleagrams.
        grid: Channels and frames that the cochleagrams hold, if not all.
        batch_size: Clips at a time.

    Returns:
        [clip, channel, frame].
    """
    settings = {"model": model, "config": config, "grid": grid}
    parts = []
    for i, (batch, words, count) in enumerate(_batches(inputs, labels, batch_size)):
        own_key = jax.random.fold_in(key, i)
        made = _perturbed_batch(own_key, variables, batch, words, feature_fn, 1.0, **settings)
        parts.append(np.asarray(made)[:count])
    return np.concatenate(parts)


def _batches(inputs, labels, batch_size):
    """Yields batches of clips, their labels, and how many of them count."""
    labels = np.asarray(labels, np.int32)
    both = zip(*(padded_batches(x, batch_size) for x in (inputs, labels)), strict=True)
    for (batch, count), (words, _) in both:
        yield jnp.asarray(batch), jnp.asarray(words), count


_perturbed_batch = jax.jit(perturbed, static_argnames=("model", "config", "grid"))


class Robustness(NamedTuple):
    """Which clips a network recognises under perturbations of several sizes.

    Attributes:
        epsilons: [epsilon] relative, ascending.
        clean: [clip] bool, whether the word is recognised in the clip as it is.
        adversarial: [epsilon, clip] bool, whether it is under every perturbation that was tried, of
            that size and of the smaller ones, which lie in the same ball.
        random: [epsilon, restart, clip] bool, whether it is under random ones of that size.
    """

    epsilons: np.ndarray
    clean: np.ndarray
    adversarial: np.ndarray
    random: np.ndarray


def evaluate(
    key: jax.Array,
    model: Network,
    variables: dict[str, Any],
    inputs: np.ndarray,
    labels: np.ndarray,
    epsilons: Sequence[float],
    *,
    config: AdversarialConfig,
    feature_fn: Callable[[jax.Array], jax.Array] | None = None,
    grid: Grid | None = None,
    batch_size: int = 64,
    on_batch: Callable[[int], None] = lambda clips: None,
) -> Robustness:
    """Attacks a network, and perturbs its input at random, at every size.

    An attack climbs the `margin` from each of `config.restarts` starts; a clip counts as recognised
    if no step of any of them changes the answer.

    Args:
        key: PRNG key that everything random follows from.
        model: Network that is attacked.
        variables: The network's own variables, without a cochleagram's filters.
        inputs: Waveforms [clip, time] with `feature_fn`, else cochleagrams [clip, channel, frame].
        labels: [clip] int.
        epsilons: Relative sizes, ascending.
        config: Norm, domain, steps and restarts; its epsilon does not count.
        feature_fn: Waveforms [batch, time] to cochleagrams [batch, channel, frame].
        grid: Channels and frames that the cochleagrams hold, if not all.
        batch_size: Clips at a time.
        on_batch: Called after each batch and size with the number of clips.

    Returns:
        Which clips are recognised as they are, attacked and perturbed at random.

    Raises:
        ValueError: `epsilons` are not positive and ascending, the labels do not fit, or waveforms
            are to be attacked and there are none.
    """
    _check_evaluation(inputs, labels, epsilons, config, feature_fn)
    if config.domain == "cochleagram" and feature_fn is not None:
        inputs, feature_fn = compute_features(feature_fn, inputs), None
    if feature_fn is not None:
        feature_fn = jax.tree_util.Partial(feature_fn)
    config = dataclasses.replace(config, epsilon=0.0, random=False)
    settings = {"model": model, "config": config, "grid": grid}
    found = [[] for _ in epsilons]
    for i, (batch, words, count) in enumerate(_batches(inputs, labels, batch_size)):
        for j, epsilon in enumerate(epsilons):
            own_key = jax.random.fold_in(jax.random.fold_in(key, i), j)
            margins = _margins(own_key, variables, feature_fn, batch, words, epsilon, **settings)
            found[j].append(np.asarray(margins)[:, :count] <= 0)
            on_batch(count)
    right = np.stack([np.concatenate(parts, axis=1) for parts in found])  # [epsilon, 2 +, clip]
    return Robustness(
        np.asarray(epsilons, np.float64),
        right[0, 0],
        np.logical_and.accumulate(right[:, 1]),
        right[:, 2:],
    )


def _check_evaluation(inputs, labels, epsilons, config, feature_fn):
    check_shapes("", inputs, labels, feature_fn)
    if len(epsilons) == 0 or any(b <= a for a, b in itertools.pairwise([0.0, *epsilons])):
        raise ValueError(f"epsilons must be positive and ascending, got {list(epsilons)}")
    if config.domain == "waveform" and feature_fn is None:
        raise ValueError("feature_fn must be given where waveforms are attacked")


@functools.partial(jax.jit, static_argnames=("model", "config", "grid"))
def _margins(key, variables, feature_fn, inputs, labels, epsilon, *, model, config, grid):
    """Margins [2 + restart, clip]: as they are, attacked, perturbed at random."""
    loss_fn = margin(model, variables, labels, feature_fn=feature_fn, grid=grid)
    radius = radii(inputs, config.norm, epsilon)
    attack_key, random_key = jax.random.split(key)

    def at_random(key):
        return loss_fn(inputs + random_perturbation(key, inputs.shape, radius, config.norm))

    attacked = strongest(attack_key, loss_fn, inputs, radius, config=config).loss
    randoms = jax.lax.map(at_random, jax.random.split(random_key, config.restarts))
    return jnp.concatenate([jnp.stack([loss_fn(inputs), attacked]), randoms])
