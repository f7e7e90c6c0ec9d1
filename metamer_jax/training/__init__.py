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

from metamer_jax.training.clips import ClipCache as ClipCache
from metamer_jax.training.clips import Examples as Examples
from metamer_jax.training.clips import Task as Task
from metamer_jax.training.clips import clips_of_epoch as clips_of_epoch
from metamer_jax.training.clips import prepare as prepare
from metamer_jax.training.epochs import METHODS as METHODS
from metamer_jax.training.epochs import train_epoch as train_epoch
from metamer_jax.training.features import compute_features as compute_features
from metamer_jax.training.features import fit_normalization as fit_normalization
from metamer_jax.training.loop import EnsembleState as EnsembleState
from metamer_jax.training.loop import check_mesh as check_mesh
from metamer_jax.training.loop import epoch_keys as epoch_keys
from metamer_jax.training.loop import init_ensemble as init_ensemble
from metamer_jax.training.loop import train as train
from metamer_jax.training.loop import train_ensemble as train_ensemble
from metamer_jax.training.scoring import Evaluation as Evaluation
from metamer_jax.training.scoring import evaluate as evaluate
from metamer_jax.training.state import RECORD_FIELDS as RECORD_FIELDS
from metamer_jax.training.state import TrainResult as TrainResult
from metamer_jax.training.state import TrainState as TrainState
from metamer_jax.training.state import finished as finished
from metamer_jax.training.state import init_state as init_state
from metamer_jax.training.state import weights_of as weights_of
