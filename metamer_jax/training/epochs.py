"""One epoch of training as one compiled program, for one network or for several."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from metamer_jax.configs import TrainingConfig
from metamer_jax.models import Grid, Network
from metamer_jax.training.clips import Clips, takes_images
from metamer_jax.training.step import Batch, Weights, train_step

METHODS = ("vmap", "loop")


class Epoch(NamedTuple):
    """What an epoch made of one network.

    Attributes:
        weights: Weights after it.
        loss: [] mean over the clips as they were met, that is changed or attacked, with units
            dropped, by the weights of the moment.
        accuracy: [] part of them recognised.
    """

    weights: Weights
    loss: jax.Array
    accuracy: jax.Array


def _train_epoch(
    key: jax.Array,
    weights: Weights,
    clips: Clips,
    epoch: int | jax.Array,
    *,
    model: Network,
    config: TrainingConfig,
    grid: Grid | None,
    mesh: Mesh | None = None,
) -> Epoch:
    """Passes over the clips once, in random order.

    Args:
        key: PRNG key for the order, the changes to features, dropout and attacks.
        weights: Weights before.
        clips: Clips to train on.
        epoch: Number of the epoch, counted from 1.
        model: Network to be trained.
        config: Training recipe.
        grid: Channels and frames that the cochleagrams hold, if not all.
        mesh: Devices that each take as many of a batch's clips, and all have the weights. Sums
            over a batch, those of batch norms too, are over all devices.

    Returns:
        The weights after, and the loss and accuracy on the way.
    """
    grid = None if takes_images(model, config) else grid  # An image holds everything of itself.
    num_clips = len(clips.labels)
    steps = -(-num_clips // config.batch_size)
    order_key, step_key = jax.random.split(key)
    order = jax.random.permutation(order_key, num_clips)
    # The last batch is smaller: filled up with clips that weigh nothing. In the statistics of a
    # batch norm they count as any other, so there they are the first ones, each once.
    filled: dict[str, Any] = {"mode": "wrap"} if weights.batch_stats else {"constant_values": -1}
    order = jnp.pad(order, (0, steps * config.batch_size - num_clips), **filled)
    counts = (jnp.arange(len(order)) < num_clips).astype(jnp.float32)

    def step(weights, now):
        chosen, counted, i = now
        return train_step(
            jax.random.fold_in(step_key, i),
            weights,
            clips,
            Batch(chosen, counted, epoch, i, steps),
            model=model,
            config=config,
            grid=grid,
            mesh=mesh,
        )

    shape = (steps, config.batch_size)
    batches = (order.reshape(shape), counts.reshape(shape), jnp.arange(steps))
    weights, sums = jax.lax.scan(step, weights, batches)
    loss, right = (each.sum() for each in sums)
    return Epoch(weights, loss / num_clips, right / num_clips)


_STATIC = ("model", "config", "grid", "mesh")
train_epoch = functools.partial(jax.jit, static_argnames=_STATIC)(_train_epoch)


def train_epochs(
    keys: Sequence[jax.Array],
    weights: Sequence[Weights],
    clips: Clips,
    epoch: int,
    *,
    method: str,
    **settings,
) -> list[Epoch]:
    """Trains each member of an ensemble for one epoch on the same clips, and waits for it.

    Args:
        keys: One PRNG key a member, as of `train_epoch`.
        weights: One each.
        clips: Clips to train on.
        epoch: Number of the epoch, counted from 1.
        method: One of `METHODS`: "vmap", one program whose weights have an axis more, or "loop",
            one member after the other.
        **settings: model, config, grid and mesh, as of `train_epoch`.

    Returns:
        One each.
    """
    if method == "vmap" and len(keys) > 1:
        return jax.block_until_ready(_mapped(jnp.stack(keys), weights, clips, epoch, **settings))
    members = zip(keys, weights, strict=True)
    return jax.block_until_ready(
        [train_epoch(key, each, clips, epoch, **settings) for key, each in members]
    )


@functools.partial(jax.jit, static_argnames=_STATIC)
def _mapped(keys, weights: list[Weights], clips, epoch, **settings):
    one = functools.partial(_train_epoch, **settings)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *weights)
    trained = jax.vmap(one, in_axes=(0, 0, None, None))(keys, stacked, clips, epoch)
    return [jax.tree.map(lambda x, i=i: x[i], trained) for i in range(len(weights))]
