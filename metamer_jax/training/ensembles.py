"""Several networks of one design, each from its own key, trained at once on shared clips.

    results = ensembles.train(keys, model, training, validation, config, feature_fn=..., grid=...)

Members share what an epoch is trained on, the changed clips and their cochleagrams; each has its
own first weights, order of clips, dropped units, attacks and best epoch. A member is what
`training.train` makes of its key with the ensemble's `clip_key`, to rounding.
"""

import functools
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from metamer_jax.configs import TrainingConfig
from metamer_jax.models import Grid, Network
from metamer_jax.runtime import progress as progress_bars
from metamer_jax.training import clips, epochs, loop, step
from metamer_jax.training import state as training_state

METHODS = ("vmap", "loop")
State = tuple[
    training_state.TrainState, ...
]  # One of each member; `checkpoints.save` takes it whole.


def init_state(
    keys: Sequence[jax.Array] | jax.Array,
    model: Network,
    features: np.ndarray,
    config: TrainingConfig,
    *,
    grid: Grid | None = None,
) -> State:
    """The state before the first epoch: `training.init_state` of every member.

    Args:
        keys: One of each member's first weights.
        model: The network.
        features: [clip, channel, frame] of the training clips, to fit the normalisation on.
        config: How to train.
        grid: What `features` hold, if not everything.
    """
    first = training_state.init_state(keys[0], model, features, config, grid=grid)
    # The normalisation is of the clips, so one of few clips costs the other members nothing.
    others = [
        training_state.init_state(k, model, features[:1], config, grid=grid) for k in keys[1:]
    ]
    return (first, *(state._replace(normalization=first.normalization) for state in others))


def train(
    keys: Sequence[jax.Array] | jax.Array,
    model: Network,
    examples: loop.Examples,
    validation: loop.Examples,
    config: TrainingConfig,
    *,
    feature_fn: clips.FeatureFn | None = None,
    grid: Grid | None = None,
    noise: np.ndarray | None = None,
    clip_key: jax.Array | None = None,
    keep: loop.Keep | None = None,
    mesh: Mesh | None = None,
    method: str | None = None,
    state: State | None = None,
    on_epoch: Callable[[State, list[dict[str, float]]], None] | None = None,
    progress: bool = False,
) -> tuple[training_state.TrainResult, ...]:
    """Trains the members of an ensemble.

    Args:
        keys: One key a member; everything of its own follows from it.
        model: The network.
        examples: The training clips, as for `training.train`.
        validation: Clips whose loss picks each member's epoch and stops it early.
        config: How to train.
        feature_fn: As for `training.train`.
        grid: What the cochleagrams hold, if not everything.
        noise: As for `training.train`.
        clip_key: What the changes to waveforms follow from; None: the first member's key.
        keep: As for `training.train`.
        mesh: As for `training.train`.
        method: "vmap": one program whose weights have an axis more. "loop": one member's epoch
            after the other's, on the same clips. None: "loop" on a CPU, where "vmap" takes as
            long or a little longer and needs the memory of all at once; else "vmap".
        state: Where to continue, with the other arguments as they were; None: from the start.
        on_epoch: Called after every epoch with the state, to be saved, and the record of each
            member that was trained in it.
        progress: Show a bar with the time left.

    Returns:
        What `training.train` returns, for each member; a record's seconds are the member's part
        of the epoch's.

    Raises:
        ValueError: As `training.train`; or there are no keys, or `state` has another number of
            members, or there is no such method.
        FloatingPointError: A member had no epoch with a finite validation loss.
    """
    method = _checked_method(method, keys, state)
    loop.check_mesh(mesh, config)
    clip_key = keys[0] if clip_key is None else clip_key
    material = loop.prepare(
        model, examples, validation, config, feature_fn=feature_fn, grid=grid, noise=noise
    )
    if state is None:
        first_keys = [jax.random.fold_in(key, 0) for key in keys]
        state = init_state(first_keys, model, material.features, config, grid=grid)
    train_epochs = _epochs_at_once if method == "vmap" else _epochs_in_turn
    with progress_bars.bar(
        config.epochs,
        f"training {len(keys)} x {type(model).__name__}",
        unit="epoch",
        initial=max(int(member.epoch) for member in state),
        style=None if progress else "none",
    ) as bar:
        while left := _unfinished(state, config):
            started = time.perf_counter()
            epoch = int(state[left[0]].epoch) + 1
            changes_key, _ = loop.epoch_keys(clip_key, epoch)
            normalization = state[0].normalization
            clips = loop.clips_of_epoch(
                changes_key, material, normalization, config, epoch=epoch, keep=keep, mesh=mesh
            )
            trained = train_epochs(
                [loop.epoch_keys(keys[i], epoch)[1] for i in left],
                [training_state.weights_of(state[i]) for i in left],
                clips,
                epoch,
                model=model,
                config=config,
                grid=grid,
                mesh=mesh,
            )
            shared_s = (time.perf_counter() - started) / len(left)
            members = list(state)
            for i, one in zip(left, trained, strict=True):
                began = time.perf_counter() - shared_s
                members[i] = loop.after_epoch(state[i], one, material, began, model, config, grid)
            state = tuple(members)
            records = [state[i].records()[-1] for i in left]
            losses = [record["validation_loss"] for record in records]
            bar.update(best=min(losses), worst=max(losses))
            if on_epoch is not None:
                on_epoch(state, records)
    return tuple(training_state.result(member, config) for member in state)


def _checked_method(method, keys, state):
    if len(keys) == 0:
        raise ValueError("keys must hold one key for each member, got none")
    if state is not None and len(state) != len(keys):
        raise ValueError(f"state must hold {len(keys)} members, one a key, got {len(state)}")
    if method is None:
        return "loop" if jax.default_backend() == "cpu" else "vmap"
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS} or None, got {method!r}")
    return method


def _unfinished(state: State, config: TrainingConfig) -> list[int]:
    """Members that go on; all of them have as many epochs behind them."""
    return [i for i, member in enumerate(state) if not training_state.finished(member, config)]


def _epochs_in_turn(keys, weights, clips, epoch, **settings):
    """One epoch of each member: [(weights, loss, accuracy)], waited for."""
    trained = [
        loop.train_epoch(key, each, clips, epoch, **settings)
        for key, each in zip(keys, weights, strict=True)
    ]
    return jax.block_until_ready(trained)


def _epochs_at_once(keys, weights, clips, epoch, **settings):
    return jax.block_until_ready(_mapped(jnp.stack(keys), weights, clips, epoch, **settings))


@functools.partial(jax.jit, static_argnames=("model", "config", "grid", "mesh"))
def _mapped(keys, weights: list[step.Weights], clips, epoch, **settings):
    one = functools.partial(epochs.train_epoch, **settings)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *weights)
    trained = jax.vmap(one, in_axes=(0, 0, None, None))(keys, stacked, clips, epoch)
    return [jax.tree.map(lambda x, i=i: x[i], trained) for i in range(len(weights))]
