"""Networks learn to recognise words: arrays in, variables out.

features      cochleagrams of clips in batches, and the statistics that standardise them
clips         the task (network, examples, input), and the clips of an epoch, changed anew
augmentation  random changes to waveforms and cochleagrams
adversarial   perturbations of a given size that raise a loss
attacks       a network under attack, in training and afterwards
scoring       accuracy, and the losses that attacks climb
step          one update of the weights
epochs        one pass over the clips, compiled
state         what training carries from epoch to epoch
loop          training, of one network or of several at once
"""

from metamer_jax.training.clips import (
    ClipCache,
    Examples,
    Task,
    clips_of_epoch,
    prepare,
)
from metamer_jax.training.epochs import METHODS, train_epoch
from metamer_jax.training.features import compute_features, fit_normalization
from metamer_jax.training.loop import (
    EnsembleState,
    check_mesh,
    epoch_keys,
    init_ensemble,
    train,
    train_ensemble,
)
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
    "ClipCache",
    "EnsembleState",
    "Evaluation",
    "Examples",
    "METHODS",
    "RECORD_FIELDS",
    "Task",
    "TrainResult",
    "TrainState",
    "check_mesh",
    "clips_of_epoch",
    "compute_features",
    "epoch_keys",
    "evaluate",
    "finished",
    "fit_normalization",
    "init_ensemble",
    "init_state",
    "prepare",
    "train",
    "train_ensemble",
    "train_epoch",
    "weights_of",
]
