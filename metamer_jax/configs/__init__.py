"""Settings: one frozen dataclass per concern, and the presets that name published ones.

A config holds plain values only, so that it can be compared, hashed, passed to `jit` as a
static argument and saved as JSON beside what it made.
"""

from metamer_jax.configs.cochleagram import COCHLEAGRAMS, CochleagramConfig
from metamer_jax.configs.conversion import (
    differences,
    from_dict,
    replace_dotted,
    replace_given,
    to_json,
)
from metamer_jax.configs.data import DATASETS, SPEECH_COMMANDS_WORDS, WORDS, DataConfig
from metamer_jax.configs.experiment import PRESETS, STAGES, ExperimentConfig
from metamer_jax.configs.playback import PlaybackConfig
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
    "OPTIMIZERS",
    "PRESETS",
    "PlaybackConfig",
    "RobustnessConfig",
    "SCHEDULES",
    "SPEECH_COMMANDS_WORDS",
    "STAGES",
    "SYNTHESIS_RECIPES",
    "SynthesisConfig",
    "TRAINING_RECIPES",
    "TrainingConfig",
    "VerificationConfig",
    "WORDS",
    "differences",
    "from_dict",
    "replace_dotted",
    "replace_given",
    "to_json",
]
