"""One update of a network's weights: its batch, the loss, the optimiser, the moving averages."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from metamer_jax.configs import TrainingConfig
from metamer_jax.models import Grid, Network
from metamer_jax.training import augmentation
from metamer_jax.training.attacks import perturbed
from metamer_jax.training.clips import Clips, augmented, constrained, divided

_ADAM_EPSILON = 1e-7  # Keras's; optax's is 1e-8.


class Weights(NamedTuple):
    """What a step changes; `training.TrainState` says what they are."""

    params: Any
    average: Any
    opt_state: Any
    batch_stats: Any
    average_stats: Any


class Batch(NamedTuple):
    """Which clips a step is taken on, and when.

    Attributes:
        chosen: [batch] int, indices of the clips.
        counted: [batch] float32, 1 for a clip that counts, 0 for one that fills the batch up.
        epoch: [] epoch, counted from 1.
        step: [] int32, step of the epoch, counted from 0.
        steps: Steps of an epoch.
    """

    chosen: jax.Array
    counted: jax.Array
    epoch: int | jax.Array
    step: jax.Array
    steps: int


def variables_of(params: Any, normalization: Any, batch_stats: Any) -> dict[str, Any]:
    """A network's variables; a network without batch norm has no "batch_stats"."""
    variables = {"params": params, "normalization": normalization}
    return {**variables, "batch_stats": batch_stats} if batch_stats else variables


def optimizer(config: TrainingConfig, steps_per_epoch: int) -> optax.GradientTransformation:
    """Makes Adam or AdamW with the recipe's schedule.

    Args:
        config: Training recipe.
        steps_per_epoch: Updates in an epoch, by which the schedule counts.

    Returns:
        A transformation of gradients with respect to a network's parameters.
    """
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


def train_step(
    key: jax.Array,
    weights: Weights,
    clips: Clips,
    batch: Batch,
    *,
    model: Network,
    config: TrainingConfig,
    grid: Grid | None,
    mesh: Mesh | None,
) -> tuple[Weights, list[jax.Array]]:
    """Changes the weights by one step on one batch.

    Args:
        key: PRNG key for the changes to features, dropout and attacks.
        weights: Weights before.
        clips: Clips of the epoch.
        batch: Which of them the step is taken on.
        model: Network to be trained.
        config: Training recipe.
        grid: Channels and frames that the features hold, if not all.
        mesh: Devices among which the batch is divided.

    Returns:
        The weights after, and over the clips that count the summed loss and how many were
        recognised, by the weights before.
    """
    settings = {"model": model, "config": config, "grid": grid, "mesh": mesh}
    augment_key, dropout_key, attack_key = jax.random.split(key, 3)
    features, targets = augmentation.augment_features(
        augment_key,
        _batch_features(attack_key, weights, clips, batch, **settings),
        jax.nn.one_hot(clips.labels[batch.chosen], model.num_words),
        config.augment,
        fill=clips.normalization["mean"],
    )
    features, targets, counted = divided((features, targets, batch.counted), mesh)
    loss_fn = functools.partial(_loss, model=model, config=config, grid=grid)
    gradients, (*sums, batch_stats) = jax.grad(loss_fn, has_aux=True)(
        weights.params, weights, clips, features, targets, counted, dropout_key
    )
    update = optimizer(config, batch.steps).update
    updates, opt_state = update(gradients, weights.opt_state, weights.params)
    params = optax.apply_updates(weights.params, updates)
    averages = _averages(weights, params, batch_stats, batch, config)
    weights = Weights(params, averages[0], opt_state, batch_stats, averages[1])
    return constrained(weights, mesh, P()), sums


def _batch_features(key, weights, clips, batch, *, model, config, grid, mesh):
    """The cochleagrams of the chosen clips, perturbed for the weights of the moment."""
    attack = config.adversarial
    strength = 1.0
    if attack.warmup_epochs:
        done_epochs = batch.epoch - 1 + (batch.step + 1) / batch.steps
        strength = jnp.minimum(1.0, done_epochs / attack.warmup_epochs)
    inputs = divided(clips.inputs[batch.chosen], mesh)
    if attack.of_waveforms and config.augment.of_waveforms:
        # By clip, so that it is changed alike wherever in the order it comes.
        keys = jax.vmap(functools.partial(jax.random.fold_in, clips.key))(batch.chosen)
        inputs = augmented(keys, inputs, clips.noise, config.augment)
    return perturbed(
        key,
        variables_of(weights.params, clips.normalization, weights.batch_stats),
        inputs,
        clips.labels[batch.chosen],
        clips.feature_fn if attack.of_waveforms else None,
        strength,
        model=model,
        config=attack,
        grid=grid,
    )


def _loss(params, weights, clips, features, targets, counted, dropout_key, *, model, config, grid):
    """Mean cross-entropy; beside it the sum, the number recognised, and the batch statistics."""
    (logits, _), changed = model.apply(
        variables_of(params, clips.normalization, weights.batch_stats),
        features,
        train=True,
        grid=grid,
        rngs={"dropout": dropout_key},
        mutable=["batch_stats"],
    )
    smooth = optax.smooth_labels(targets, config.label_smoothing)
    loss = jnp.sum(counted * optax.softmax_cross_entropy(logits, smooth))
    right = jnp.sum(counted * (logits.argmax(-1) == targets.argmax(-1)))
    return loss / counted.sum(), (loss, right, changed.get("batch_stats", {}))


def _averages(weights, params, batch_stats, batch, config):
    """The moving averages of the parameters and of the batch statistics."""
    if not config.ema_decay:
        return params, batch_stats
    # A young average forgets faster, so that the first weights do not linger.
    done = ((batch.epoch - 1) * batch.steps + batch.step).astype(jnp.float32)
    decay = jnp.minimum(config.ema_decay, (1 + done) / (10 + done))
    return (
        optax.incremental_update(params, weights.average, 1 - decay),
        optax.incremental_update(batch_stats, weights.average_stats, 1 - decay),
    )
