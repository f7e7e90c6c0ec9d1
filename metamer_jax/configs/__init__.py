"""Settings: one frozen dataclass per concern, and the presets that name published ones.

A config holds plain values only, so that it can be compared, hashed, passed to `jit` as a
static argument and saved as JSON beside what it made.
"""

from metamer_jax.configs.checks import Field as Field
from metamer_jax.configs.checks import fields_of as fields_of
from metamer_jax.configs.checks import from_text as from_text
from metamer_jax.configs.cochleagram import COCHLEAGRAMS as COCHLEAGRAMS
from metamer_jax.configs.cochleagram import CochleagramConfig as CochleagramConfig
from metamer_jax.configs.conversion import differences as differences
from metamer_jax.configs.conversion import field_at as field_at
from metamer_jax.configs.conversion import from_dict as from_dict
from metamer_jax.configs.conversion import paths_of as paths_of
from metamer_jax.configs.conversion import replace_all as replace_all
from metamer_jax.configs.conversion import replace_dotted as replace_dotted
from metamer_jax.configs.conversion import replace_given as replace_given
from metamer_jax.configs.conversion import to_json as to_json
from metamer_jax.configs.conversion import value_at as value_at
from metamer_jax.configs.data import DATASETS as DATASETS
from metamer_jax.configs.data import SPEECH_COMMANDS_WORDS as SPEECH_COMMANDS_WORDS
from metamer_jax.configs.data import WORDS as WORDS
from metamer_jax.configs.data import DataConfig as DataConfig
from metamer_jax.configs.experiment import PRESETS as PRESETS
from metamer_jax.configs.experiment import STAGES as STAGES
from metamer_jax.configs.experiment import ExperimentConfig as ExperimentConfig
from metamer_jax.configs.experiment import with_published_ears as with_published_ears
from metamer_jax.configs.playback import PlaybackConfig as PlaybackConfig
from metamer_jax.configs.sharing import SharingConfig as SharingConfig
from metamer_jax.configs.spectrogram import SPECTROGRAMS as SPECTROGRAMS
from metamer_jax.configs.spectrogram import SpectrogramConfig as SpectrogramConfig
from metamer_jax.configs.synthesis import OPTIMIZERS as OPTIMIZERS
from metamer_jax.configs.synthesis import SCHEDULES as SCHEDULES
from metamer_jax.configs.synthesis import SYNTHESIS_RECIPES as SYNTHESIS_RECIPES
from metamer_jax.configs.synthesis import SynthesisConfig as SynthesisConfig
from metamer_jax.configs.synthesis import VerificationConfig as VerificationConfig
from metamer_jax.configs.training import TRAINING_RECIPES as TRAINING_RECIPES
from metamer_jax.configs.training import AdversarialConfig as AdversarialConfig
from metamer_jax.configs.training import AugmentConfig as AugmentConfig
from metamer_jax.configs.training import RobustnessConfig as RobustnessConfig
from metamer_jax.configs.training import TrainingConfig as TrainingConfig
