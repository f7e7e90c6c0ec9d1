"""Settings: one frozen dataclass per concern, and the presets that name published ones.

A config holds plain values only, so that it can be compared, hashed, passed to `jit` as a
static argument and saved as JSON beside what it made.
"""

from metamer_jax.configs.checks import Field, fields_of, from_text
from metamer_jax.configs.cochleagram import COCHLEAGRAMS, CochleagramConfig
from metamer_jax.configs.conversion import (
    differences,
    field_at,
    from_dict,
    paths_of,
    replace_all,
    replace_dotted,
    replace_given,
    to_json,
)
from metamer_jax.configs.data import DATASETS, SPEECH_COMMANDS_WORDS, WORDS, DataConfig
from metamer_jax.configs.experiment import PRESETS, STAGES, ExperimentConfig, with_published_ears
from metamer_jax.configs.playback import PlaybackConfig
from metamer_jax.configs.sharing import SharingConfig
from metamer_jax.configs.spectrogram import SPECTROGRAMS, SpectrogramConfig
from metamer_jax.configs.synthesis import (
    OPTIMIZERS,
    SCHEDULES,
    SYNTHESIS_RECIPES,
    SynthesisConfig,
    VerificationConfig,
)
from metamer_jax.configs.training import (
    TRAINING_RECIPES,
    AdversarialConfig,
    AugmentConfig,
    RobustnessConfig,
    TrainingConfig,
)

__all__ = [
    "AdversarialConfig",
    "AugmentConfig",
    "COCHLEAGRAMS",
    "CochleagramConfig",
    "DATASETS",
    "DataConfig",
    "ExperimentConfig",
    "Field",
    "OPTIMIZERS",
    "PRESETS",
    "PlaybackConfig",
    "RobustnessConfig",
    "SCHEDULES",
    "SPEECH_COMMANDS_WORDS",
    "SPECTROGRAMS",
    "STAGES",
    "SharingConfig",
    "SYNTHESIS_RECIPES",
    "SpectrogramConfig",
    "SynthesisConfig",
    "TRAINING_RECIPES",
    "TrainingConfig",
    "VerificationConfig",
    "WORDS",
    "differences",
    "field_at",
    "fields_of",
    "from_dict",
    "from_text",
    "paths_of",
    "replace_all",
    "replace_dotted",
    "replace_given",
    "to_json",
    "with_published_ears",
]
