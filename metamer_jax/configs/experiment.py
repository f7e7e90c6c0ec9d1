"""One run's settings, from recordings to report, and the presets by name."""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any

from metamer_jax.configs.checks import check_fields, require, seed_setting, setting
from metamer_jax.configs.cochleagram import COCHLEAGRAMS, CochleagramConfig
from metamer_jax.configs.data import DataConfig
from metamer_jax.configs.playback import PlaybackConfig
from metamer_jax.configs.synthesis import SYNTHESIS_RECIPES, SynthesisConfig, VerificationConfig
from metamer_jax.configs.training import TRAINING_RECIPES, TrainingConfig

STAGES = ("cochleagram", "conv1", "conv2", "dense", "logits")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """One run, from recordings to report. `PRESETS` holds the named ones."""

    preset: str = setting("quick", "Name of the settings that it began with.")
    seed: int = seed_setting(
        0, "Seed of the first weights, the choice of targets and the starting noise."
    )
    target_seed: int | None = seed_setting(
        None,
        "Seed of the choice of targets and of the null distribution's recordings, which runs that "
        "are compared share, whatever their seeds. None: seed.",
    )
    networks: tuple[str, ...] = setting(("conv2d", "frequency_grouped"), "Networks to train.")
    weights: str | None = setting(
        None,
        "File of a published checkpoint (.pt) with the weights of the one network, which then is "
        "not trained.",
    )
    class_names: str | None = setting(
        None,
        "Text file with what the classes of `weights` are called, a name a line; None: by numbers.",
    )
    stages: tuple[str, ...] = setting(
        STAGES, "Stages to match; each network's are those of them that it has."
    )
    targets_per_word: int = setting(2, "Target recordings of each word.", at_least=1)
    data: DataConfig = DataConfig()
    cochleagram: CochleagramConfig = CochleagramConfig(method="multirate")
    training: TrainingConfig = TrainingConfig()
    synthesis: SynthesisConfig = SynthesisConfig()
    verification: VerificationConfig = VerificationConfig()
    playback: PlaybackConfig = PlaybackConfig()

    def __post_init__(self):
        check_fields(self)
        for name in ("sample_rate_hz", "duration_s"):
            data, cochleagram = getattr(self.data, name), getattr(self.cochleagram, name)
            require(
                data == cochleagram,
                f"data.{name}={data} and cochleagram.{name}={cochleagram} must agree: set both "
                f"(the flag --{name} does)",
            )
        for name in ("networks", "stages"):
            require(len(getattr(self, name)) > 0, f"{name} must not be empty")
        require(
            self.weights is None or len(self.networks) == 1,
            f"weights are of one network, got networks={self.networks}",
        )
        require(
            self.class_names is None or self.weights is not None,
            f"class_names needs weights, got class_names={self.class_names!r} alone",
        )

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


def with_published_ears(config: ExperimentConfig) -> ExperimentConfig:
    """Returns settings with the cochleagram of Feather et al. (2023), by its fast method.

    Args:
        config: Settings with any cochleagram.
    """
    ears = dataclasses.replace(COCHLEAGRAMS["feather2023"], method="multirate")
    timing = {name: getattr(ears, name) for name in ("sample_rate_hz", "duration_s")}
    return dataclasses.replace(
        config, cochleagram=ears, data=dataclasses.replace(config.data, **timing)
    )


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
        # Feather et al. (2023): their sounds' length and rate, cochleagram, networks and synthesis.
        # Recordings of less than 2 s or 20 kHz are refused: data.allow_padding and
        # data.allow_upsampling take them as they are.
        "feather2023": ExperimentConfig(
            preset="feather2023",
            networks=("cochcnn9", "cochresnet50", "spectemp"),
            stages=(
                "cochleagram",
                *(f"relu{i}" for i in range(5)),
                *("relufc", "conv1_relu1", "layer1", "layer2", "layer3", "layer4"),
                *("filtered_signal", "spectempfilter_power", "avgpool", "final"),
            ),
            targets_per_word=13,
            data=DataConfig(
                sample_rate_hz=20000, duration_s=2.0, allow_padding=False, allow_upsampling=False
            ),
            cochleagram=COCHLEAGRAMS["feather2023"],
            training=TRAINING_RECIPES["augmented"],
            synthesis=SYNTHESIS_RECIPES["feather2023"],
            verification=VerificationConfig(criterion="feather2023"),
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
