"""Training a network to recognise words: arrays in, variables out.

An epoch is one compiled loop over batches. Everything random in epoch n follows from
`fold_in(key, n)` alone and `TrainState` holds the rest, so that training which was interrupted
between epochs continues as if it had not been.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metamer_jax import epochs
from metamer_jax import progress as progress_bars
from metamer_jax.configs import AdversarialConfig, TrainingConfig
from metamer_jax.models import Grid, WordNetwork
from metamer_jax.scoring import Evaluation, compute_features, evaluate, fit_normalization

__all__ = [
    "RECORD_FIELDS",
    "Evaluation",
    "Examples",
    "TrainResult",
    "TrainState",
    "compute_features",
    "evaluate",
    "finished",
    "fit_normalization",
    "init_state",
    "train",
]

# One row of `TrainState.history`.
RECORD_FIELDS = (
    "epoch",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "seconds",
)


class Examples(NamedTuple):
    """Clips and what they say.

    Attributes:
        inputs: Cochleagrams [clip, channel, frame], whole or cut to a grid; or waveforms
            [clip, time] where a `feature_fn` makes cochleagrams of them.
        labels: [clip] int, index of the word.
    """

    inputs: jax.Array | np.ndarray
    labels: jax.Array | np.ndarray


class TrainState(NamedTuple):
    """All that training carries from one epoch to the next.

    Attributes:
        epoch: [] int32, epochs done.
        normalization: The collection fitted on the training inputs.
        params: The weights that are being trained.
        average: Their moving average, as are `params` without one.
        opt_state: The optimiser's.
        best_params: The evaluated weights (`average`) at the lowest validation loss.
        best_epoch: [] int32, when that was, counted from 1; 0: not yet.
        best_loss: [] float32, that validation loss.
        history: [epoch, record field] float64, NaN where not reached; see `RECORD_FIELDS`.
    """

    epoch: jax.Array
    normalization: dict[str, jax.Array]
    params: Any
    average: Any
    opt_state: Any
    best_params: Any
    best_epoch: jax.Array
    best_loss: jax.Array
    history: np.ndarray

    def records(self) -> list[dict[str, float]]:
        """One line of the log for each epoch done."""
        rows = np.asarray(self.history)[: int(self.epoch)].tolist()
        records = [dict(zip(RECORD_FIELDS, row, strict=True)) for row in rows]
        return [{**record, "epoch": int(record["epoch"])} for record in records]


class TrainResult(NamedTuple):
    """What training gives.

    Attributes:
        variables: {"params", "normalization"}, of the epoch with the lowest validation loss.
        best_epoch: That epoch, counted from 1.
        records: One dict an epoch, `RECORD_FIELDS`.
        state: The last state.
    """

    variables: dict[str, Any]
    best_epoch: int
    records: list[dict[str, float]]
    state: TrainState


def init_state(
    key: jax.Array,
    model: WordNetwork,
    features: np.ndarray,
    config: TrainingConfig,
    *,
    grid: Grid | None = None,
) -> TrainState:
    """The state before the first epoch; its shapes are those of every later one.

    Args:
        key: Of the first weights; used once.
        model: The network.
        features: [clip, channel, frame] of the training clips, to fit the normalisation on.
        config: How to train.
        grid: What `features` hold, if not everything.
    """
    params = _init_params(key, jnp.asarray(features[:1]), model=model, grid=grid)
    # Which schedule it has does not change an optimiser's state.
    opt_state = epochs.optimizer(config, steps_per_epoch=1).init(params)
    return TrainState(
        epoch=jnp.int32(0),
        normalization=fit_normalization(model, features, grid=grid),
        params=params,
        average=params,
        opt_state=opt_state,
        best_params=params,
        best_epoch=jnp.int32(0),
        best_loss=jnp.float32(jnp.inf),
        history=np.full((config.epochs, len(RECORD_FIELDS)), np.nan),
    )


@functools.partial(jax.jit, static_argnames=("model", "grid"))
def _init_params(key, features, *, model, grid):
    return model.init(key, features, grid=grid)["params"]


def finished(state: TrainState, config: TrainingConfig) -> bool:
    """Whether the epochs are used up, or the validation loss has stopped falling."""
    epoch, best = int(state.epoch), int(state.best_epoch)
    return epoch >= config.epochs or 0 < config.patience <= epoch - best


class Material(NamedTuple):
    """What the epochs draw on, made once.

    Attributes:
        features: Cochleagrams [clip, channel, frame] of the training clips as they are.
        waveforms: [clip, time], where epochs change or attack them; else None.
        labels: [clip] int32.
        validation: Cochleagrams and labels; waveforms and labels where waveforms are attacked.
        feature_fn: Waveforms to cochleagrams, where there are waveforms; else None.
        noise: [piece, time] to mix into the waveforms; None: none is.
    """

    features: jax.Array
    waveforms: jax.Array | np.ndarray | None
    labels: jax.Array
    validation: Examples
    feature_fn: epochs.FeatureFn | None
    noise: jax.Array | None = None


def prepare(
    model: WordNetwork,
    training: Examples,
    validation: Examples,
    config: TrainingConfig,
    *,
    feature_fn: epochs.FeatureFn | None = None,
    noise: np.ndarray | None = None,
) -> Material:
    """Checks the examples and computes their cochleagrams; arguments and errors as of `train`."""
    _check_examples("training", training, model, feature_fn, config)
    _check_examples("validation", validation, model, feature_fn)
    if config.augment.background_snr_db is not None:
        _check_noise(noise, np.shape(training.inputs))
    labels = jnp.asarray(training.labels, jnp.int32)
    if feature_fn is None:
        return Material(jnp.asarray(training.inputs), None, labels, validation, None)
    feature_fn = jax.tree_util.Partial(feature_fn)
    features = jnp.asarray(compute_features(feature_fn, training.inputs))
    noise = None if config.augment.background_snr_db is None else jnp.asarray(noise)
    if config.adversarial.of_waveforms:
        waveforms = jnp.asarray(training.inputs)
        return Material(features, waveforms, labels, validation, feature_fn, noise)
    waveforms = training.inputs if config.augment.of_waveforms else None
    heard = validation._replace(inputs=compute_features(feature_fn, validation.inputs))
    return Material(features, waveforms, labels, heard, feature_fn, noise)


def clips_of_epoch(
    key: jax.Array, material: Material, normalization: dict[str, jax.Array], config: TrainingConfig
) -> epochs.Clips:
    """What one epoch is trained on: waveforms are changed anew by `key`."""
    inputs = material.features
    if config.adversarial.of_waveforms:
        inputs = material.waveforms  # They are changed, and then attacked, within the epoch.
    elif config.augment.of_waveforms:
        inputs = epochs.augmented_features(
            key, material.waveforms, material.feature_fn, config.augment, noise=material.noise
        )
    return epochs.Clips(
        inputs, material.labels, normalization, key, material.feature_fn, material.noise
    )


def train(
    key: jax.Array,
    model: WordNetwork,
    training: Examples,
    validation: Examples,
    config: TrainingConfig,
    *,
    feature_fn: epochs.FeatureFn | None = None,
    grid: Grid | None = None,
    noise: np.ndarray | None = None,
    clip_key: jax.Array | None = None,
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
        state: Where to continue, with the other arguments as they were; None: from the start.
        on_epoch: Called after every epoch with the state, to be saved, and the epoch's record.
        progress: Show a bar with the time left.

    Returns:
        The weights of the best epoch, and how it went; with no epochs, the first weights.

    Raises:
        ValueError: The examples do not fit the network or each other, or `config` changes or
            attacks waveforms and there are none.
        FloatingPointError: No epoch had a finite validation loss.
    """
    material = prepare(model, training, validation, config, feature_fn=feature_fn, noise=noise)
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
            clips = clips_of_epoch(changes_key, material, state.normalization, config)
            trained = train_epoch(
                epoch_key, weights_of(state), clips, epoch, model=model, config=config, grid=grid
            )
            state = after_epoch(state, trained, material, started, model, config, grid)
            record = state.records()[-1]
            bar.update(loss=record["validation_loss"], accuracy=record["validation_accuracy"])
            if on_epoch is not None:
                on_epoch(state, record)
    return result(state, config)


train_epoch = functools.partial(jax.jit, static_argnames=("model", "config", "grid"))(
    epochs.train_epoch
)


def epoch_keys(
    key: jax.Array, epoch: int, clip_key: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Keys of an epoch's changes to waveforms, and of everything else in it."""
    changes_key, epoch_key = jax.random.split(jax.random.fold_in(key, epoch))
    if clip_key is not None:
        changes_key, _ = jax.random.split(jax.random.fold_in(clip_key, epoch))
    return changes_key, epoch_key


def weights_of(state: TrainState) -> epochs.Weights:
    """The part of the state that an epoch changes."""
    return epochs.Weights(state.params, state.average, state.opt_state)


def after_epoch(
    state: TrainState,
    trained: tuple[epochs.Weights, jax.Array, jax.Array],
    material: Material,
    started: float,
    model: WordNetwork,
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
    variables = {"params": weights.average, "normalization": state.normalization}
    scores = _validate(model, variables, material, config.adversarial, grid)
    row = [int(state.epoch) + 1, float(loss), float(accuracy), scores.loss, scores.accuracy]
    history = np.array(state.history)
    history[int(state.epoch)] = [*row, time.perf_counter() - started]
    state = state._replace(**weights._asdict(), epoch=state.epoch + 1, history=history)
    best_loss = jnp.float32(scores.loss)
    if best_loss < state.best_loss:
        state = state._replace(
            best_params=state.average, best_epoch=state.epoch, best_loss=best_loss
        )
    return state


def _validate(model, variables, material: Material, config: AdversarialConfig, grid):
    inputs, labels = material.validation
    if config.epsilon:
        inputs = epochs.perturbed_features(
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


def result(state: TrainState, config: TrainingConfig) -> TrainResult:
    """The best weights of training that ended with `state`; errors as of `train`."""
    if int(state.best_epoch) == 0 and config.epochs > 0:
        raise FloatingPointError(
            f"no epoch had a finite validation loss (learning_rate={config.learning_rate})"
        )
    variables = {"params": state.best_params, "normalization": state.normalization}
    return TrainResult(variables, int(state.best_epoch), state.records(), state)


def _check_noise(noise, clips):
    shape = (0,) if noise is None else np.shape(noise)
    if shape[0] == 0 or shape[1:] != clips[1:]:
        raise ValueError(
            "noise must be [piece, time] of the clips' length where config.augment has a "
            f"background_snr_db, got {shape} for clips {clips}: of the data sets speech_commands "
            "has some, in _background_noise_ or _silence_"
        )


def _check_examples(name, examples, model, feature_fn, config: TrainingConfig | None = None):
    inputs, labels = (np.shape(a) for a in examples)
    ndim, axes = (3, "[clip, channel, frame]") if feature_fn is None else (2, "[clip, time]")
    if len(inputs) != ndim or inputs[0] == 0:
        raise ValueError(f"{name}.inputs must be {axes} with a clip or more, got shape {inputs}")
    if labels != inputs[:1]:
        raise ValueError(f"{name}.labels must be one for each of {inputs[0]} clips, got {labels}")
    lowest, highest = int(np.min(examples.labels)), int(np.max(examples.labels))
    if not 0 <= lowest <= highest < model.num_words:
        raise ValueError(
            f"{name}.labels must lie in [0, {model.num_words}), got {lowest} to {highest}"
        )
    if config is None or feature_fn is not None:
        return
    if config.augment.of_waveforms:
        raise ValueError("feature_fn must be given where config.augment changes waveforms")
    if config.adversarial.of_waveforms:
        raise ValueError("feature_fn must be given where config.adversarial attacks waveforms")
