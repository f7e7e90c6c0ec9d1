"""What training carries from epoch to epoch, and what it gives."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metamer_jax.configs import TrainingConfig
from metamer_jax.models import Grid, Network
from metamer_jax.training import step
from metamer_jax.training.features import fit_normalization

# One row of `TrainState.history`.
RECORD_FIELDS = (
    "epoch",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "seconds",
)


class TrainState(NamedTuple):
    """All that training carries from one epoch to the next.

    Attributes:
        epoch: [] int32, epochs done.
        normalization: The collection fitted on the training inputs.
        params: The weights that are being trained.
        average: Their moving average, as are `params` without one.
        opt_state: The optimiser's.
        batch_stats: Running statistics of the batch norms, {} of a network without.
        average_stats: Their moving average, that goes with `average`.
        best_params: The evaluated weights (`average`) at the lowest validation loss.
        best_stats: The statistics (`average_stats`) that go with them.
        best_epoch: [] int32, when that was, counted from 1; 0: not yet.
        best_loss: [] float32, that validation loss.
        history: [epoch, record field] float64, NaN where not reached; see `RECORD_FIELDS`.
    """

    epoch: jax.Array
    normalization: dict[str, jax.Array]
    params: Any
    average: Any
    opt_state: Any
    batch_stats: Any
    average_stats: Any
    best_params: Any
    best_stats: Any
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
        variables: {"params", "normalization"}, and of a network with batch norms "batch_stats",
            of the epoch with the lowest validation loss.
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
    model: Network,
    features: np.ndarray | jax.Array,
    config: TrainingConfig,
    *,
    grid: Grid | None = None,
) -> TrainState:
    """Makes the state before the first epoch; its shapes are those of every later one.

    Args:
        key: PRNG key for the initial weights.
        model: Network to be trained.
        features: [clip, channel, frame] of the training clips, to fit the normalisation on.
        config: Training recipe.
        grid: Channels and frames that `features` hold, if not all.

    Returns:
        Initial weights, and the normalisation fitted on the features.
    """
    params, batch_stats = _init_weights(key, jnp.asarray(features[:1]), model=model, grid=grid)
    # Which schedule it has does not change an optimiser's state.
    opt_state = step.optimizer(config, steps_per_epoch=1).init(params)
    return TrainState(
        epoch=jnp.int32(0),
        normalization=fit_normalization(model, features, grid=grid),
        params=params,
        average=params,
        opt_state=opt_state,
        batch_stats=batch_stats,
        average_stats=batch_stats,
        best_params=params,
        best_stats=batch_stats,
        best_epoch=jnp.int32(0),
        best_loss=jnp.float32(jnp.inf),
        history=np.full((config.epochs, len(RECORD_FIELDS)), np.nan),
    )


@functools.partial(jax.jit, static_argnames=("model", "grid"))
def _init_weights(key, features, *, model, grid):
    variables = model.init(key, features, grid=grid)
    return variables["params"], variables.get("batch_stats", {})


def finished(state: TrainState, config: TrainingConfig) -> bool:
    """Whether the epochs are used up, or the validation loss has stopped falling."""
    epoch, best = int(state.epoch), int(state.best_epoch)
    return epoch >= config.epochs or 0 < config.patience <= epoch - best


def weights_of(state: TrainState) -> step.Weights:
    """The part of the state that an epoch changes."""
    return step.Weights(*(getattr(state, field) for field in step.Weights._fields))


def result(state: TrainState, config: TrainingConfig) -> TrainResult:
    """Takes the best weights from the state in which training ended.

    Args:
        state: State after the last epoch.
        config: Training recipe.

    Returns:
        The weights of the best epoch, and how it went; with no epochs, the initial weights.

    Raises:
        FloatingPointError: No epoch had a finite validation loss.
    """
    if int(state.best_epoch) == 0 and config.epochs > 0:
        raise FloatingPointError(
            f"no epoch had a finite validation loss (learning_rate={config.learning_rate})"
        )
    variables = step.variables_of(state.best_params, state.normalization, state.best_stats)
    return TrainResult(variables, int(state.best_epoch), state.records(), state)
