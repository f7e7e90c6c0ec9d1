"""Training a network to recognise words: arrays in, variables out.

An epoch is one compiled loop over batches. Everything random in epoch n follows from
`fold_in(key, n)` alone and `TrainState` holds the rest, so that training which was interrupted
between epochs continues as if it had not been.
"""

import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from metamer_jax.configs import AdversarialConfig, TrainingConfig
from metamer_jax.models import Grid, Network
from metamer_jax.runtime import progress as progress_bars
from metamer_jax.training import attacks, clips, epochs, step
from metamer_jax.training.clips import Examples, Keep, Material, clips_of_epoch, prepare
from metamer_jax.training.features import compute_features, fit_normalization
from metamer_jax.training.scoring import Evaluation, evaluate
from metamer_jax.training.state import (
    RECORD_FIELDS,
    TrainResult,
    TrainState,
    finished,
    init_state,
    result,
    weights_of,
)

__all__ = [
    "RECORD_FIELDS",
    "Evaluation",
    "Examples",
    "Keep",
    "TrainResult",
    "TrainState",
    "clips_of_epoch",
    "compute_features",
    "evaluate",
    "finished",
    "fit_normalization",
    "init_state",
    "prepare",
    "train",
]


def train(
    key: jax.Array,
    model: Network,
    training: Examples,
    validation: Examples,
    config: TrainingConfig,
    *,
    feature_fn: clips.FeatureFn | None = None,
    grid: Grid | None = None,
    noise: np.ndarray | None = None,
    clip_key: jax.Array | None = None,
    keep: Keep | None = None,
    mesh: Mesh | None = None,
    state: TrainState | None = None,
    on_epoch: Callable[[TrainState, dict[str, float]], None] | None = None,
    progress: bool = False,
) -> TrainResult:
    """Trains a network.

    Args:
        key: Everything random follows from it.
        model: The network.
        training: Its clips; waveforms where `config` changes or attacks waveforms.
        validation: Clips whose loss picks the epoch and stops early: as they are, or perturbed
            as `config.adversarial` says (at its full epsilon), since what is to be learnt then is
            to withstand that.
        config: How to train.
        feature_fn: Waveforms [batch, time] to cochleagrams [batch, channel, frame], where the
            inputs are waveforms. Arrays that it needs are best bound with
            `jax.tree_util.Partial(function, arrays)`, which makes them arguments of the
            compiled program and not constants in it.
        grid: What the cochleagrams hold, if not everything.
        noise: [piece, time] background noise, where `config.augment` mixes it into the clips.
        clip_key: What the changes to waveforms follow from in place of `key`, so that networks
            with keys of their own can meet the same clips (as in `ensembles.train`).
        keep: As for `training_clips.clips_of_epoch`; it changes no result.
        mesh: Of one axis: its devices divide every batch, which changes no result but for
            rounding. `metamers.device_mesh()` is one of all devices.
        state: Where to continue, with the other arguments as they were; None: from the start.
        on_epoch: Called after every epoch with the state, to be saved, and the epoch's record.
        progress: Show a bar with the time left.

    Returns:
        The weights of the best epoch, and how it went; with no epochs, the first weights.

    Raises:
        ValueError: The examples do not fit the network or each other, or `config` changes or
            attacks waveforms and there are none, or the mesh's devices do not divide a batch.
        FloatingPointError: No epoch had a finite validation loss.
    """
    check_mesh(mesh, config)
    material = prepare(
        model, training, validation, config, feature_fn=feature_fn, grid=grid, noise=noise
    )
    if state is None:
        features = material.features
        state = init_state(jax.random.fold_in(key, 0), model, features, config, grid=grid)
    with progress_bars.bar(
        config.epochs,
        f"training {type(model).__name__}",
        unit="epoch",
        initial=int(state.epoch),
        style=None if progress else "none",
    ) as bar:
        while not finished(state, config):
            started = time.perf_counter()
            epoch = int(state.epoch) + 1
            changes_key, epoch_key = epoch_keys(key, epoch, clip_key)
            clips = clips_of_epoch(
                changes_key,
                material,
                state.normalization,
                config,
                epoch=epoch,
                keep=keep,
                mesh=mesh,
            )
            trained = train_epoch(
                epoch_key,
                weights_of(state),
                clips,
                epoch,
                model=model,
                config=config,
                grid=grid,
                mesh=mesh,
            )
            state = after_epoch(state, trained, material, started, model, config, grid)
            record = state.records()[-1]
            bar.update(loss=record["validation_loss"], accuracy=record["validation_accuracy"])
            if on_epoch is not None:
                on_epoch(state, record)
    return result(state, config)


train_epoch = functools.partial(jax.jit, static_argnames=("model", "config", "grid", "mesh"))(
    epochs.train_epoch
)


def check_mesh(mesh: Mesh | None, config: TrainingConfig) -> None:
    """Raises a ValueError where the devices of a mesh do not divide a batch."""
    if mesh is not None and config.batch_size % mesh.size:
        raise ValueError(
            f"batch_size must be a multiple of the mesh's {mesh.size} devices, got "
            f"{config.batch_size}"
        )


def epoch_keys(
    key: jax.Array, epoch: int, clip_key: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Keys of an epoch's changes to waveforms, and of everything else in it."""
    changes_key, epoch_key = jax.random.split(jax.random.fold_in(key, epoch))
    if clip_key is not None:
        changes_key, _ = jax.random.split(jax.random.fold_in(clip_key, epoch))
    return changes_key, epoch_key


def after_epoch(
    state: TrainState,
    trained: tuple[step.Weights, jax.Array, jax.Array],
    material: Material,
    started: float,
    model: Network,
    config: TrainingConfig,
    grid: Grid | None,
) -> TrainState:
    """Enters what an epoch made: its weights, its record, and whether they are the best.

    Args:
        state: Before the epoch.
        trained: What `epochs.train_epoch` returned.
        material: Has the validation clips.
        started: `time.perf_counter()` when the epoch began.
        model: The network.
        config: How it is trained.
        grid: What the cochleagrams hold, if not everything.
    """
    weights, loss, accuracy = trained
    variables = step.variables_of(weights.average, state.normalization, weights.average_stats)
    scores = _validate(model, variables, material, config.adversarial, grid)
    row = [int(state.epoch) + 1, float(loss), float(accuracy), scores.loss, scores.accuracy]
    history = np.array(state.history)
    history[int(state.epoch)] = [*row, time.perf_counter() - started]
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


def _validate(model, variables, material: Material, config: AdversarialConfig, grid):
    inputs, labels = material.validation
    if config.epsilon:
        inputs = attacks.perturbed_features(
            jax.random.key(0),  # Every epoch is judged from the same starts.
            model,
            variables,
            inputs,
            labels,
            config,
            feature_fn=material.feature_fn if config.of_waveforms else None,
            grid=grid,
        )
    return evaluate(model, variables, inputs, labels, grid=grid)
