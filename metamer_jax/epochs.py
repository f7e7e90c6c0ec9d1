"""One epoch of training as one compiled program: batches, changed or attacked, and steps."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from metamer_jax import adversarial, augmentation, programs, scoring
from metamer_jax.configs import AdversarialConfig, AugmentConfig, TrainingConfig
from metamer_jax.models import Grid, Network, WordNetwork

FeatureFn = Callable[[jax.Array], jax.Array]  # [batch, time] -> [batch, channel, frame]
_ADAM_EPSILON = 1e-7  # Keras's; optax's is 1e-8.


class Weights(NamedTuple):
    """What a step changes: `training.TrainState` says what they are."""

    params: Any
    average: Any
    opt_state: Any
    batch_stats: Any
    average_stats: Any


class Clips(NamedTuple):
    """What an epoch is trained on, shared by all networks that are trained together.

    Attributes:
        inputs: Cochleagrams [clip, channel, frame]; images [clip, *input_shape] where
            `takes_images`; waveforms [clip, time] where waveforms are attacked.
        labels: [clip] int32.
        normalization: The collection fitted on the training inputs.
        key: Of the changes to waveforms, where they are made within the epoch.
        feature_fn: A `jax.tree_util.Partial`, where the inputs are waveforms; else None.
        noise: [piece, time] recorded noise to mix into waveforms; None: there is none.
    """

    inputs: jax.Array
    labels: jax.Array
    normalization: dict[str, jax.Array]
    key: jax.Array
    feature_fn: FeatureFn | None
    noise: jax.Array | None = None


def variables_of(params: Any, normalization: Any, batch_stats: Any) -> dict[str, Any]:
    """A network's variables; a network without batch norm has no "batch_stats"."""
    variables = {"params": params, "normalization": normalization}
    return {**variables, "batch_stats": batch_stats} if batch_stats else variables


class Resize(NamedTuple):
    """From cochleagrams to the images that a network standardises; hashable."""

    model: WordNetwork
    grid: Grid | None


def takes_images(model: nn.Module, config: TrainingConfig) -> bool:
    """Whether changed clips are resized as they are made: nothing changes cochleagrams after.

    An image is a small part of a cochleagram, so that those of an epoch can be kept.
    """
    augment = config.augment
    if augment.time_mask or augment.frequency_mask or augment.mixup or config.adversarial.epsilon:
        return False
    return augment.of_waveforms and isinstance(model, WordNetwork)  # Others do not resize.


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


def augmented_features(
    key: jax.Array,
    waveforms: np.ndarray,
    feature_fn: FeatureFn,
    config: AugmentConfig,
    batch_size: int = 64,
    *,
    noise: jax.Array | None = None,
    resize: Resize | None = None,
    mesh: Mesh | None = None,
) -> jax.Array:
    """Cochleagrams [clip, channel, frame], or images, of changed waveforms [clip, time]."""
    settings = {"config": config, "resize": resize, "mesh": mesh}
    features = [
        _augmented_batch(
            jax.random.fold_in(key, i), jnp.asarray(batch), feature_fn, noise, **settings
        )[:size]
        for i, (batch, size) in enumerate(scoring.padded_batches(waveforms, batch_size))
    ]
    return jnp.concatenate(features)


@functools.partial(programs.jit, static_argnames=("config", "resize", "mesh"))
def _augmented_batch(key, waveforms, feature_fn, noise, *, config, resize, mesh):
    keys, waveforms = _divided((jax.random.split(key, len(waveforms)), waveforms), mesh)
    features = feature_fn(_augmented(keys, waveforms, noise, config))
    return features if resize is None else resize.model.resized(features, resize.grid)


def _augmented(keys, waveforms, noise, config: AugmentConfig):
    augment = functools.partial(augmentation.augment_waveform, config=config, noise=noise)
    return jax.vmap(augment)(keys, waveforms)


def train_epoch(
    key: jax.Array,
    weights: Weights,
    clips: Clips,
    epoch: int | jax.Array,
    *,
    model: Network,
    config: TrainingConfig,
    grid: Grid | None,
    mesh: Mesh | None = None,
) -> tuple[Weights, jax.Array, jax.Array]:
    """Passes over the clips once, in random order.

    Args:
        key: Of the order, the changes to features, dropout and attacks; used once.
        weights: Before.
        clips: What to train on.
        epoch: Which epoch this is, counted from 1.
        model: The network.
        config: How to train.
        grid: What the cochleagrams hold, if not everything.
        mesh: Its devices each take as many of a batch's clips, and all have the weights. Sums
            over a batch, those of batch norms too, are over all devices.

    Returns:
        The weights after, and the loss and accuracy: means over the clips as they were met, that is
        changed or attacked, with units dropped, by the weights of the moment.
    """
    grid = None if takes_images(model, config) else grid  # An image holds everything of itself.
    num_clips = len(clips.labels)
    steps = -(-num_clips // config.batch_size)
    update = optimizer(config, steps).update
    settings = {"model": model, "config": config, "grid": grid, "mesh": mesh}
    features_of = functools.partial(_features, **settings)
    order_key, step_key = jax.random.split(key)
    order = jax.random.permutation(order_key, num_clips)
    # The last batch is smaller: filled up with clips that weigh nothing. In the statistics of a
    # batch norm they count as any other, so there they are the first ones, each once.
    filled = {"mode": "wrap"} if weights.batch_stats else {"constant_values": -1}
    order = jnp.pad(order, (0, steps * config.batch_size - num_clips), **filled)
    counts = (jnp.arange(len(order)) < num_clips).astype(jnp.float32)

    def loss_fn(params, batch_stats, batch, targets, counted, dropout_key):
        (logits, _), changed = model.apply(
            variables_of(params, clips.normalization, batch_stats),
            batch,
            train=True,
            grid=grid,
            rngs={"dropout": dropout_key},
            mutable=["batch_stats"],
        )
        smooth = optax.smooth_labels(targets, config.label_smoothing)
        loss = jnp.sum(counted * optax.softmax_cross_entropy(logits, smooth))
        right = jnp.sum(counted * (logits.argmax(-1) == targets.argmax(-1)))
        return loss / counted.sum(), (loss, right, changed.get("batch_stats", {}))

    def step(weights, now):
        params, average, opt_state, batch_stats, average_stats = weights
        chosen, counted, i = now
        keys = jax.random.split(jax.random.fold_in(step_key, i), 3)
        augment_key, dropout_key, attack_key = keys
        strength = 1.0
        if config.adversarial.warmup_epochs:
            done_epochs = epoch - 1 + (i + 1) / steps
            strength = jnp.minimum(1.0, done_epochs / config.adversarial.warmup_epochs)
        batch, targets = augmentation.augment_features(
            augment_key,
            features_of(attack_key, params, batch_stats, clips, chosen, strength),
            jax.nn.one_hot(clips.labels[chosen], model.num_words),
            config.augment,
            fill=clips.normalization["mean"],
        )
        batch, targets, counted = _divided((batch, targets, counted), mesh)
        gradients, (*sums, batch_stats) = jax.grad(loss_fn, has_aux=True)(
            params, batch_stats, batch, targets, counted, dropout_key
        )
        updates, opt_state = update(gradients, opt_state, params)
        params = optax.apply_updates(params, updates)
        if config.ema_decay:
            # A young average forgets faster, so that the first weights do not linger.
            done = ((epoch - 1) * steps + i).astype(jnp.float32)
            decay = jnp.minimum(config.ema_decay, (1 + done) / (10 + done))
            average = optax.incremental_update(params, average, 1 - decay)
            average_stats = optax.incremental_update(batch_stats, average_stats, 1 - decay)
        else:
            average, average_stats = params, batch_stats
        weights = Weights(params, average, opt_state, batch_stats, average_stats)
        return _constrained(weights, mesh, P()), sums

    shape = (steps, config.batch_size)
    batches = (order.reshape(shape), counts.reshape(shape), jnp.arange(steps))
    weights, sums = jax.lax.scan(step, weights, batches)
    loss, right = (each.sum() for each in sums)
    return weights, loss / num_clips, right / num_clips


def _divided(batch, mesh):
    """Gives each device of the mesh, if there is one, its part of arrays [clip, ...]."""
    return batch if mesh is None else _constrained(batch, mesh, P(*mesh.axis_names))


def _constrained(tree, mesh, spec):
    if mesh is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, spec))


def _features(
    key, params, batch_stats, clips: Clips, chosen, strength, *, model, config, grid, mesh
):
    """The cochleagrams of the chosen clips, perturbed for the weights of the moment."""
    inputs = _divided(clips.inputs[chosen], mesh)
    if config.adversarial.of_waveforms and config.augment.of_waveforms:
        # By clip, so that it is changed alike wherever in the order it comes.
        keys = jax.vmap(functools.partial(jax.random.fold_in, clips.key))(chosen)
        inputs = _augmented(keys, inputs, clips.noise, config.augment)
    variables = variables_of(params, clips.normalization, batch_stats)
    return _perturbed(
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


def _perturbed(key, variables, inputs, labels, feature_fn, strength, *, model, config, grid):
    """Cochleagrams [batch, channel, frame] of perturbed inputs.

    The network that is attacked drops no units, and is given neither masks nor mixtures: these
    come after.
    """
    loss_fn = adversarial.cross_entropy(model, variables, labels, feature_fn=feature_fn, grid=grid)
    inputs = adversarial.perturb(key, loss_fn, inputs, config=config, strength=strength)
    return inputs if feature_fn is None else feature_fn(inputs)


def perturbed_features(
    key: jax.Array,
    model: Network,
    variables: dict[str, Any],
    inputs: np.ndarray,
    labels: np.ndarray,
    config: AdversarialConfig,
    *,
    feature_fn: FeatureFn | None = None,
    grid: Grid | None = None,
    batch_size: int = 64,
) -> np.ndarray:
    """Cochleagrams of clips that are perturbed as training ones are, at full strength.

    Args:
        key: Used once.
        model: The network that is attacked.
        variables: The network's.
        inputs: Waveforms [clip, time] where they are perturbed, else cochleagrams.
        labels: [clip] int.
        config: Which perturbation.
        feature_fn: Waveforms to cochleagrams; None: the inputs are cochleagrams.
        grid: What the cochleagrams hold, if not everything.
        batch_size: Clips at a time.

    Returns:
        [clip, channel, frame].
    """
    batches = zip(
        scoring.padded_batches(inputs, batch_size),
        scoring.padded_batches(np.asarray(labels, np.int32), batch_size),
        strict=True,
    )
    perturbed = [
        _perturbed_batch(
            jax.random.fold_in(key, i),
            variables,
            jnp.asarray(batch),
            jnp.asarray(words),
            feature_fn,
            1.0,
            model=model,
            config=config,
            grid=grid,
        )[:size]
        for i, ((batch, size), (words, _)) in enumerate(batches)
    ]
    return np.concatenate([np.asarray(each) for each in perturbed])


_perturbed_batch = jax.jit(_perturbed, static_argnames=("model", "config", "grid"))
