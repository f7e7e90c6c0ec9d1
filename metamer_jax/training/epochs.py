"""One epoch of training as one compiled program: batches, changed or attacked, and steps."""

import functools

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from metamer_jax.configs import TrainingConfig
from metamer_jax.models import Grid, Network
from metamer_jax.training import augmentation
from metamer_jax.training.clips import Clips, constrained, divided, takes_images
from metamer_jax.training.step import Weights, batch_features, optimizer, variables_of


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
    features_of = functools.partial(batch_features, **settings)
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
        batch, targets, counted = divided((batch, targets, counted), mesh)
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
        return constrained(weights, mesh, P()), sums

    shape = (steps, config.batch_size)
    batches = (order.reshape(shape), counts.reshape(shape), jnp.arange(steps))
    weights, sums = jax.lax.scan(step, weights, batches)
    loss, right = (each.sum() for each in sums)
    return weights, loss / num_clips, right / num_clips
