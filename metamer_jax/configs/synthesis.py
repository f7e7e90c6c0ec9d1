"""How metamers are synthesised and verified, and the recipes by name."""

import dataclasses
import types
from collections.abc import Mapping

from metamer_jax.configs.checks import require, require_choice, require_positive

OPTIMIZERS = ("adam", "relative_adam", "normalized_gradient", "lbfgs")
SCHEDULES = ("exponential", "staircase", "cosine", "linear")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SynthesisConfig:
    """How a waveform is moved towards a target's activation; the defaults are recipe `paper`."""

    recipe: str = "paper"
    steps: int = 1500
    # "adam", "relative_adam" (its steps are in proportion to the sound's level there and then),
    # "normalized_gradient" (step / norm of the gradient) or "lbfgs".
    optimizer: str = "adam"
    # "relative_adam": a part of the level; "lbfgs": rms of the first step only.
    learning_rate: float = 1e-3
    cochleagram_learning_rate: float | None = None  # At that stage; None: as at the others.
    conv1_learning_rate: float | None = None  # Likewise.
    beta1: float = 0.9
    beta2: float = 0.999
    level_window: int = 40  # "relative_adam": samples whose level counts as one.
    memory_size: int = 10  # "lbfgs": pairs of differences that stand for the curvature.
    schedule: str = "exponential"  # "exponential", "staircase", "cosine" or "linear".
    decay_rate: float = 0.95  # Per `decay_steps`; the last two fall to zero over `steps` instead.
    decay_steps: int = 1000
    loss: str = "half_sum_of_squares"  # or "relative_l2", "correlation".
    start: str = "pink"  # "pink" or "gaussian".
    start_rms: float = 0.01
    # Whether the stage is given the sound that will be played (`PlaybackConfig`) instead of the
    # waveform as the optimiser has it.
    as_played: bool = False
    relu_override: bool = True  # At the matched stage: forward ReLU, backward identity.
    tolerance: float = 0.0  # Stop a target at this relative error; 0 runs every step.
    seeds: tuple[int, ...] = (0,)  # One metamer of each target per seed.
    batch_size: int | None = None  # Metamers at once, on all devices; None: by their memory.
    chunk_steps: int = 50  # Steps between progress reports and early stops.
    matmul_precision: str = "highest"  # "default", "high" (TF32 where there is one), "highest".

    def __post_init__(self):
        require_choice("optimizer", self.optimizer, OPTIMIZERS)
        require_choice("schedule", self.schedule, SCHEDULES)
        require_choice("loss", self.loss, ("half_sum_of_squares", "relative_l2", "correlation"))
        require_choice("start", self.start, ("pink", "gaussian"))
        require_choice("matmul_precision", self.matmul_precision, ("default", "high", "highest"))
        require_positive(
            steps=self.steps,
            learning_rate=self.learning_rate,
            decay_rate=self.decay_rate,
            decay_steps=self.decay_steps,
            level_window=self.level_window,
            start_rms=self.start_rms,
            chunk_steps=self.chunk_steps,
        )
        if self.batch_size is not None:
            require_positive(batch_size=self.batch_size)
        for name in ("cochleagram_learning_rate", "conv1_learning_rate"):
            if getattr(self, name) is not None:
                require_positive(**{name: getattr(self, name)})
        require(len(self.seeds) > 0, "seeds must hold at least one seed")
        require(len(set(self.seeds)) == len(self.seeds), f"seeds repeat: {self.seeds}")

    def for_stage(self, stage: str) -> "SynthesisConfig":
        """Returns the settings for one stage: with that stage's own learning rate."""
        own = {"cochleagram": self.cochleagram_learning_rate, "conv1": self.conv1_learning_rate}
        return dataclasses.replace(
            self,
            learning_rate=own.get(stage) or self.learning_rate,
            cochleagram_learning_rate=None,
            conv1_learning_rate=None,
        )


SYNTHESIS_RECIPES: Mapping[str, SynthesisConfig] = types.MappingProxyType(
    {
        # Feather et al. (2019) with the paper's 1,500 steps; the decay then hardly acts.
        "paper": SynthesisConfig(),
        "feather2019": SynthesisConfig(recipe="feather2019", steps=15000),
        "feather2023": SynthesisConfig(
            recipe="feather2023",
            steps=24000,
            optimizer="normalized_gradient",
            learning_rate=1.0,
            schedule="staircase",
            decay_rate=0.5,
            decay_steps=3000,
            loss="relative_l2",
            start="gaussian",
            start_rms=1e-7,
        ),
        # A fifth of the evaluations: with that of the last iterate they are 300.
        "fast": SynthesisConfig(
            recipe="fast",
            steps=299,
            optimizer="relative_adam",
            learning_rate=0.15,
            cochleagram_learning_rate=0.28,  # Which would be too long a step for a network.
            conv1_learning_rate=0.1,
            beta1=0.95,
            beta2=0.96,
            schedule="linear",
            as_played=True,
            tolerance=1e-4,  # Below what the multirate cochleagram is exact to.
        ),
    }
)


# The largest of a few chance matches says little about chance: of fewer pairs no null is made.
MIN_NULL_PAIRS = 1000
MIN_NULL_RECORDINGS = 46  # n (n - 1) / 2 pairs of n recordings: 1,035.


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerificationConfig:
    """What counts as a metamer."""

    null_recordings: int = 1500  # Natural recordings whose pairs make the null distribution.
    # At stages with fewer features a rank correlation decides nothing (ties; eight logits):
    # there the relative error does.
    min_rank_features: int = 1000
    max_relative_error: float = 0.05
    batch_size: int = 8

    def __post_init__(self):
        require(
            self.null_recordings >= MIN_NULL_RECORDINGS,
            f"null_recordings must be at least {MIN_NULL_RECORDINGS}, which make the "
            f"{MIN_NULL_PAIRS} pairs of a null distribution, got {self.null_recordings}",
        )
        require_positive(max_relative_error=self.max_relative_error, batch_size=self.batch_size)
