"""The weights that a step changes, and the optimiser that changes them."""

import functools
from typing import Any, NamedTuple

import jax
import optax

from metamer_jax.configs import TrainingConfig
from metamer_jax.training.attacks import perturbed
from metamer_jax.training.clips import Clips, augmented, divided

_ADAM_EPSILON = 1e-7  # Keras's; optax's is 1e-8.


class Weights(NamedTuple):
    """What a step changes: `training.TrainState` says what they are."""

    params: Any
    average: Any
    opt_state: Any
    batch_stats: Any
    average_stats: Any


def variables_of(params: Any, normalization: Any, batch_stats: Any) -> dict[str, Any]:
    """A network's variables; a network without batch norm has no "batch_stats"."""
    variables = {"params": params, "normalization": normalization}
    return {**variables, "batch_stats": batch_stats} if batch_stats else variables


def optimizer(config: TrainingConfig, steps_per_epoch: int) -> optax.GradientTransformation:
    """Adam or AdamW with the config's schedule."""
    rate = config.learning_rate
    if config.schedule == "cosine":
        # A single epoch is all warm-up; the cosine must still be longer than that.
        rate = optax.warmup_cosine_decay_schedule(
            0.0, rate, steps_per_epoch, max(config.epochs, 2) * steps_per_epoch
        )
    if not config.weight_decay:
        return optax.adam(rate, eps=_ADAM_EPSILON)

    def kernels(params):
        # By name, too: the biases of a locally connected layer are one for each frequency.
        return jax.tree_util.tree_map_with_path(
            lambda path, p: p.ndim > 1 and getattr(path[-1], "key", None) != "bias", params
        )

    return optax.adamw(rate, eps=_ADAM_EPSILON, weight_decay=config.weight_decay, mask=kernels)


def batch_features(
    key, params, batch_stats, clips: Clips, chosen, strength, *, model, config, grid, mesh
):
    """The cochleagrams of the chosen clips, perturbed for the weights of the moment."""
    inputs = divided(clips.inputs[chosen], mesh)
    if config.adversarial.of_waveforms and config.augment.of_waveforms:
        # By clip, so that it is changed alike wherever in the order it comes.
        keys = jax.vmap(functools.partial(jax.random.fold_in, clips.key))(chosen)
        inputs = augmented(keys, inputs, clips.noise, config.augment)
    variables = variables_of(params, clips.normalization, batch_stats)
    return perturbed(
        key,
        variables,
        inputs,
        clips.labels[chosen],
        clips.feature_fn if config.adversarial.of_waveforms else None,
        strength,
        model=model,
        config=config.adversarial,
        grid=grid,
    )
