"""Networks learn to recognise words: arrays in, variables out.

An epoch is one compiled loop over batches. Everything random in epoch n follows from
`fold_in(key, n)` alone and `TrainState` holds the rest, so that training which was interrupted
between epochs continues as if it had not been.
"""

from metamer_jax.training.clips import Examples, Keep, clips_of_epoch, prepare
from metamer_jax.training.features import compute_features, fit_normalization
from metamer_jax.training.loop import check_mesh, epoch_keys, train, train_epoch
from metamer_jax.training.scoring import Evaluation, evaluate
from metamer_jax.training.state import (
    RECORD_FIELDS,
    TrainResult,
    TrainState,
    finished,
    init_state,
    weights_of,
)

__all__ = [
    "Evaluation",
    "Examples",
    "Keep",
    "RECORD_FIELDS",
    "TrainResult",
    "TrainState",
    "check_mesh",
    "clips_of_epoch",
    "compute_features",
    "epoch_keys",
    "evaluate",
    "finished",
    "fit_normalization",
    "init_state",
    "prepare",
    "train",
    "train_epoch",
    "weights_of",
]
