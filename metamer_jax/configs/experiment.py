"""Settings: one frozen dataclass per concern, and the presets that name published ones.

A config holds plain values only, so that it can be compared, hashed, passed to `jit` as a
static argument and saved as JSON beside what it made.
"""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any

from metamer_jax.configs.checks import require, require_positive
from metamer_jax.configs.cochleagram import CochleagramConfig
from metamer_jax.configs.data import DataConfig
from metamer_jax.configs.playback import PlaybackConfig
from metamer_jax.configs.synthesis import SYNTHESIS_RECIPES, SynthesisConfig, VerificationConfig
from metamer_jax.configs.training import TrainingConfig

STAGES = ("cochleagram", "conv1", "conv2", "dense", "logits")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """One run, from recordings to report. `PRESETS` holds the named ones."""

    preset: str = "quick"
    seed: int = 0
    # Of the choice of targets and of the null distribution's recordings; None: `seed`. Runs that
    # are compared share it, whatever their seeds.
    target_seed: int | None = None
    networks: tuple[str, ...] = ("conv2d", "frequency_grouped")
    stages: tuple[str, ...] = STAGES  # Each network's are those of them that it has.
    targets_per_word: int = 2
    data: DataConfig = DataConfig()
    cochleagram: CochleagramConfig = CochleagramConfig(method="multirate")
    training: TrainingConfig = TrainingConfig()
    synthesis: SynthesisConfig = SynthesisConfig()
    verification: VerificationConfig = VerificationConfig()
    playback: PlaybackConfig = PlaybackConfig()

    def __post_init__(self):
        require_positive(targets_per_word=self.targets_per_word)
        for name in ("sample_rate_hz", "duration_s"):
            data, cochleagram = getattr(self.data, name), getattr(self.cochleagram, name)
            require(
                data == cochleagram,
                f"data.{name}={data} and cochleagram.{name}={cochleagram} must agree",
            )
        for name in ("networks", "stages"):
            values = getattr(self, name)
            require(len(values) > 0, f"{name} must not be empty")
            require(len(set(values)) == len(values), f"{name} repeat: {values}")

    @staticmethod
    def from_older(values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Translates settings of a run that was made before it had `playback`.

        Args:
            values: Fields as a run's config.json has them.

        Returns:
            The fields as they are called now: such a run's sounds are played without ramps.
        """
        verification = dict(values.get("verification", {}))
        if "playback_level_db" not in verification:
            return values
        level_db = verification.pop("playback_level_db")
        playback = {"level_db": level_db, "ramp_s": 0.0}
        return {**values, "verification": verification, "playback": playback}

    @property
    def resolved_target_seed(self) -> int:
        """The seed that `target_seed` stands for."""
        return self.seed if self.target_seed is None else self.target_seed


PRESETS: Mapping[str, ExperimentConfig] = types.MappingProxyType(
    {
        # Minutes on a laptop: every part of a run, at a size that still shows something.
        "quick": ExperimentConfig(
            data=DataConfig(num_speakers=50),
            synthesis=SYNTHESIS_RECIPES["fast"],
            verification=VerificationConfig(null_recordings=500),
        ),
        # The paper: 13 targets a word, of which at least 10 should pass in every condition.
        "paper": ExperimentConfig(
            preset="paper",
            targets_per_word=13,
            data=DataConfig(dataset="mini_speech_commands"),
        ),
        # Proves that every part runs, in continuous integration; its metamers are poor.
        "smoke": ExperimentConfig(
            preset="smoke",
            targets_per_word=1,
            data=DataConfig(num_speakers=20, tokens_per_word=2),
            training=TrainingConfig(epochs=3),
            synthesis=dataclasses.replace(SYNTHESIS_RECIPES["fast"], steps=40, batch_size=8),
            verification=VerificationConfig(null_recordings=60),
        ),
    }
)
