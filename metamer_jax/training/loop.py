"""Training networks to recognise words: arrays in, variables out.

    (result,) = train_ensemble([key], Task(model, training, validation), config)

An epoch is one compiled loop over batches. Everything random in epoch n follows from
`fold_in(key, n)` alone and `TrainState` holds the rest, so that training which was interrupted
between epochs continues as if it had not been.

Several networks of one design, each from its own key, are trained at once on shared clips; one
network is an ensemble of one. Members share what an epoch is trained on, the changed clips and
their cochleagrams; each has its own initial weights, order of clips, dropped units, attacks and
best epoch. A member is what training alone makes of its key with the same `clip_key`, to rounding.
"""

import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from metamer_jax.configs import TrainingConfig
from metamer_jax.models import Grid, Network
from metamer_jax.runtime import progress as progress_bars
from metamer_jax.training import attacks, epochs, step
from metamer_jax.training import state as states
from metamer_jax.training.clips import (
    ClipCache,
    Examples,
    FeatureFn,
    Material,
    Task,
    clips_of_epoch,
    material_of,
)
from metamer_jax.training.scoring import evaluate
from metamer_jax.training.state import TrainResult, TrainState

EnsembleState = tuple[TrainState, ...]  # One a member; `checkpoints.save` takes it whole.


def train(
    key: jax.Array,
    model: Network,
    training: Examples,
    validation: Examples,
    config: TrainingConfig,
    *,
    feature_fn: FeatureFn | None = None,
    grid: Grid | None = None,
    noise: np.ndarray | None = None,
    clip_key: jax.Array | None = None,
    clip_cache: ClipCache | None = None,
    mesh: Mesh | None = None,
    state: TrainState | None = None,
    on_epoch: Callable[[TrainState, dict[str, float]], None] | None = None,
    progress: bool = False,
) -> TrainResult:
    """Trains one network: `train_ensemble` of one key.

    Args:
        key: PRNG key that everything random follows from.
        model: As `Task.model`.
        training: As `Task.training`.
        validation: As `Task.validation`. They are judged as they are, or perturbed as
            `config.adversarial` says (at its full epsilon), since what is to be learnt then is
            to withstand that.
        config: Training recipe.
        feature_fn: As `Task.feature_fn`.
        grid: As `Task.grid`.
        noise: As `Task.noise`.
        clip_key: As of `train_ensemble`.
        clip_cache: As of `train_ensemble`.
        mesh: As of `train_ensemble`.
        state: Where to continue, with the other arguments as they were; None: from the start.
        on_epoch: Called after every epoch with the state, to be saved, and the epoch's record.
        progress: Show a bar with the time left.

    Returns:
        The weights of the best epoch, and how it went; with no epochs, the initial weights.

    Raises:
        ValueError: As of `train_ensemble`.
        FloatingPointError: No epoch had a finite validation loss.
    """

    def on_members(states, records):
        if on_epoch is not None:
            on_epoch(states[0], records[0])

    (trained,) = train_ensemble(
        [key],
        Task(model, training, validation, feature_fn, grid, noise),
        config,
        clip_key=clip_key,
        clip_cache=clip_cache,
        mesh=mesh,
        state=None if state is None else (state,),
        on_epoch=on_members,
        progress=progress,
    )
    return trained


def train_ensemble(
    keys: Sequence[jax.Array] | jax.Array,
    task: Task,
    config: TrainingConfig,
    *,
    clip_key: jax.Array | None = None,
    clip_cache: ClipCache | None = None,
    mesh: Mesh | None = None,
    method: str | None = None,
    state: EnsembleState | None = None,
    on_epoch: Callable[[EnsembleState, list[dict[str, float]]], None] | None = None,
    progress: bool = False,
) -> tuple[TrainResult, ...]:
    """Trains networks of one design, each from its own key, on the same clips.

    Args:
        keys: One PRNG key a member; everything of its own follows from it.
        task: Network, examples and how its input is made.
        config: Training recipe.
        clip_key: PRNG key for the changes to waveforms; None: the first member's. Networks that
            are trained apart meet the same clips where they share it.
        clip_cache: Source of the changed clips' images, as of `clips_of_epoch`; it changes no
            result.
        mesh: Mesh of one axis, whose devices divide every batch, which changes no result but for
            rounding. `metamers.device_mesh()` is one of all devices.
        method: As of `epochs.train_epochs`; None: "loop" on a CPU, where "vmap" takes as long or a
            little longer and needs the memory of all members at once; else "vmap".
        state: Where to continue, with the other arguments as they were; None: from the start.
        on_epoch: Called after every epoch with the state, to be saved, and the record of each
            member that was trained in it.
        progress: Show a bar with the time left.

    Returns:
        For each member the weights of its best epoch, and how it went; a record's seconds are the
        member's part of the epoch's.

    Raises:
        ValueError: There are no keys, `state` has another number of members, there is no such
            method, the examples do not fit the network or each other, `config` changes or attacks
            waveforms and there are none, or the mesh's devices do not divide a batch.
        FloatingPointError: A member had no epoch with a finite validation loss.
    """
    method = _checked_method(method, keys, state)
    check_mesh(mesh, config)
    clip_key = keys[0] if clip_key is None else clip_key
    material = material_of(task, config)
    if state is None:
        first_keys = [jax.random.fold_in(key, 0) for key in keys]
        state = init_ensemble(first_keys, task.model, material.features, config, grid=task.grid)
    count = f"{len(keys)} x " if len(keys) > 1 else ""
    with progress_bars.bar(
        config.epochs,
        f"training {count}{task.name or type(task.model).__name__}",
        unit="epoch",
        initial=max(int(member.epoch) for member in state),
        style=None if progress else "none",
    ) as bar:
        # Members that go on have all as many epochs behind them.
        while left := [i for i, one in enumerate(state) if not states.finished(one, config)]:
            started = time.perf_counter()
            epoch = int(state[left[0]].epoch) + 1
            clips = clips_of_epoch(
                epoch_keys(clip_key, epoch)[0],
                material,
                state[0].normalization,
                config,
                epoch=epoch,
                clip_cache=clip_cache,
                mesh=mesh,
            )
            trained = epochs.train_epochs(
                [epoch_keys(keys[i], epoch)[1] for i in left],
                [states.weights_of(state[i]) for i in left],
                clips,
                epoch,
                method=method,
                model=task.model,
                config=config,
                grid=task.grid,
                mesh=mesh,
            )
            shared_s = (time.perf_counter() - started) / len(left)
            members = list(state)
            for i, one in zip(left, trained, strict=True):
                began = time.perf_counter() - shared_s
                members[i] = _after_epoch(state[i], one, task, material, config, began)
            state = tuple(members)
            records = [state[i].records()[-1] for i in left]
            scores = {name: [r[f"validation_{name}"] for r in records] for name in _SHOWN}
            bar.update(**{name: float(np.mean(values)) for name, values in scores.items()})
            if on_epoch is not None:
                on_epoch(state, records)
    return tuple(states.result(member, config) for member in state)


_SHOWN = ("loss", "accuracy")


def _checked_method(method, keys, state):
    if len(keys) == 0:
        raise ValueError("keys must hold one key for each member, got none")
    if state is not None and len(state) != len(keys):
        raise ValueError(f"state must hold {len(keys)} members, one a key, got {len(state)}")
    if method is None:
        return "loop" if jax.default_backend() == "cpu" else "vmap"
    if method not in epochs.METHODS:
        raise ValueError(f"method must be one of {epochs.METHODS} or None, got {method!r}")
    return method


def init_ensemble(
    keys: Sequence[jax.Array] | jax.Array,
    model: Network,
    features: np.ndarray | jax.Array,
    config: TrainingConfig,
    *,
    grid: Grid | None = None,
) -> EnsembleState:
    """Makes the state before the first epoch: `training.init_state` of every member.

    Args:
        keys: One PRNG key a member, for its initial weights.
        model: Network to be trained.
        features: [clip, channel, frame] of the training clips, to fit the normalisation on.
        config: Training recipe.
        grid: Channels and frames that `features` hold, if not all.

    Returns:
        One state a member.
    """
    first = states.init_state(keys[0], model, features, config, grid=grid)
    # The normalisation is of the clips, so one of few clips costs the other members nothing.
    others = [states.init_state(k, model, features[:1], config, grid=grid) for k in keys[1:]]
    return (first, *(state._replace(normalization=first.normalization) for state in others))


def check_mesh(mesh: Mesh | None, config: TrainingConfig) -> None:
    """Checks that the devices of a mesh can share a batch.

    Args:
        mesh: Devices among which batches are divided; None: one has all.
        config: Training recipe.

    Raises:
        ValueError: The devices do not divide a batch.
    """
    if mesh is not None and config.batch_size % mesh.size:
        raise ValueError(
            f"batch_size must be a multiple of the mesh's {mesh.size} devices, got "
            f"{config.batch_size}"
        )


def epoch_keys(
    key: jax.Array, epoch: int, clip_key: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Derives the PRNG keys of an epoch.

    Args:
        key: PRNG key of the training.
        epoch: Number of the epoch, counted from 1.
        clip_key: PRNG key for the changes to waveforms; None: `key`.

    Returns:
        The keys for the changes to waveforms, and for everything else in the epoch.
    """
    changes_key, epoch_key = jax.random.split(jax.random.fold_in(key, epoch))
    if clip_key is not None:
        changes_key, _ = jax.random.split(jax.random.fold_in(clip_key, epoch))
    return changes_key, epoch_key


def _after_epoch(state, trained: epochs.Epoch, task, material, config, started) -> TrainState:
    """Enters what an epoch made: its weights, its record, and whether they are the best."""
    weights = trained.weights
    variables = step.variables_of(weights.average, state.normalization, weights.average_stats)
    scores = _validate(task, variables, material, config.adversarial)
    history = np.array(state.history)
    history[int(state.epoch)] = [
        *(int(state.epoch) + 1, float(trained.loss), float(trained.accuracy)),
        *(scores.loss, scores.accuracy, time.perf_counter() - started),
    ]
    state = state._replace(**weights._asdict(), epoch=state.epoch + 1, history=history)
    best_loss = jnp.float32(scores.loss)
    if best_loss < state.best_loss:
        state = state._replace(
            best_params=state.average,
            best_stats=state.average_stats,
            best_epoch=state.epoch,
            best_loss=best_loss,
        )
    return state


def _validate(task, variables, material: Material, config):
    inputs, labels = material.validation
    if config.epsilon:
        inputs = attacks.perturbed_features(
            jax.random.key(0),  # Every epoch is judged from the same starts.
            task.model,
            variables,
            inputs,
            labels,
            config,
            feature_fn=material.feature_fn if config.of_waveforms else None,
            grid=task.grid,
        )
    return evaluate(task.model, variables, inputs, labels, grid=task.grid)
