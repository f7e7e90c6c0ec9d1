"""How metamers are synthesised and verified, and the recipes by name."""

import dataclasses
import functools
import types
from collections.abc import Mapping
from typing import Any, TypeVar

from metamer_jax.configs.checks import check_fields, require, seed_setting, setting

OPTIMIZERS = ("adam", "relative_adam", "normalized_gradient", "lbfgs")
SCHEDULES = ("exponential", "staircase", "cosine", "linear")

# What each recipe changes of the defaults, which are the paper's: those of Feather et al. (2019)
# with 1,500 steps, in which the decay hardly acts.
_CHANGES: Mapping[str, Mapping[str, Any]] = types.MappingProxyType(
    {
        "paper": {},
        "feather2019": {"steps": 15000},
        "feather2023": {
            "steps": 24000,
            "optimizer": "normalized_gradient",
            "learning_rate": 1.0,
            "schedule": "staircase",
            "decay_rate": 0.5,
            "decay_steps": 3000,
            "loss": "relative_l2",
            "start": "gaussian",
            "start_rms": 1e-7,
            "spectemp_start_rms": 1e-5,
            "shared_start": True,
            "waveform_limit": 1.0,
            "kept": "last",
            "coarse_steps": 400,
        },
        # A fifth of the evaluations: with that of the last iterate they are 300.
        "fast": {
            "steps": 299,
            "optimizer": "relative_adam",
            "learning_rate": 0.15,
            "conv1_learning_rate": 0.1,
            # The cochleagram bears steps that are too long for a network, all of one length, and
            # wants a shorter memory.
            "cochleagram_learning_rate": 0.65,
            "cochleagram_beta1": 0.85,
            "cochleagram_level_window": 1000,
            "beta1": 0.95,
            "beta2": 0.92,
            "schedule": "linear",
            "as_played": True,
            "tolerance": 1e-4,  # Below what the multirate cochleagram is exact to.
        },
    }
)
# Settings of one stage or network, whose name stands before the setting's.
_OF_ONE = (
    "cochleagram_learning_rate",
    "cochleagram_beta1",
    "cochleagram_level_window",
    "conv1_learning_rate",
    "spectemp_start_rms",
)
# Of how much and how it is computed, which say nothing of the recipe.
_NOT_OF_A_RECIPE = ("recipe", "seeds", "batch_size", "chunk_steps", "matmul_precision")

_Class = TypeVar("_Class")


def _begins_with_its_recipe(cls: type[_Class]) -> type[_Class]:
    """Gives settings that are left out the values of the recipe that is named."""
    init = cls.__init__

    @functools.wraps(init)
    def init_by_recipe(self, **given):
        recipe = given.get("recipe", "paper")
        known = tuple(_CHANGES)
        require(recipe in known, f"recipe must be one of {known}, got {recipe!r}")
        init(self, **{**_CHANGES[recipe], **given})

    cls.__init__ = init_by_recipe
    return cls


@_begins_with_its_recipe
@dataclasses.dataclass(frozen=True, kw_only=True)
class SynthesisConfig:
    """How a waveform is moved towards a target's activation.

    Defaults are those of `recipe`, and as written here the paper's: `SynthesisConfig(recipe="fast",
    steps=100)` is `fast` with fewer steps. What has another recipe's settings under the name of
    this one, such as `dataclasses.replace(SynthesisConfig(), recipe="fast")`, is refused.
    """

    recipe: str = setting(
        "paper", "Name of the recipe that it began with.", choices=tuple(_CHANGES)
    )
    steps: int = setting(1500, "Gradient steps of each metamer.", at_least=1)
    optimizer: str = setting(
        "adam",
        "'adam', 'relative_adam' (its steps are in proportion to the sound's level there and "
        "then), 'normalized_gradient' (step / norm of the gradient) or 'lbfgs'.",
        choices=OPTIMIZERS,
    )
    learning_rate: float = setting(
        1e-3,
        "Step; relative_adam: a part of the level; lbfgs: rms of the first step only.",
        above=0,
    )
    cochleagram_learning_rate: float | None = setting(
        None, "The same at the stage cochleagram; None: as at the others.", above=0
    )
    conv1_learning_rate: float | None = setting(None, "The same at the stage conv1.", above=0)
    beta1: float = setting(0.9, "Adam: decay of the gradient's mean.", at_least=0, below=1)
    cochleagram_beta1: float | None = setting(
        None, "The same at the stage cochleagram; None: as at the others.", at_least=0, below=1
    )
    beta2: float = setting(0.999, "Adam: decay of the squares' mean.", at_least=0, below=1)
    level_window: int = setting(40, "relative_adam: samples whose level counts as one.", at_least=1)
    cochleagram_level_window: int | None = setting(
        None, "The same at the stage cochleagram; None: as at the others.", at_least=1
    )
    memory_size: int = setting(
        10, "lbfgs: pairs of differences that stand for the curvature.", at_least=1
    )
    schedule: str = setting("exponential", "How the learning rate falls.", choices=SCHEDULES)
    decay_rate: float = setting(
        0.95,
        "Factor of the learning rate per decay_steps; cosine and linear fall to zero over steps "
        "instead.",
        above=0,
    )
    decay_steps: int = setting(1000, "Steps in which decay_rate acts once.", at_least=1)
    loss: str = setting(
        "half_sum_of_squares",
        "Distance to the target's activation.",
        choices=("half_sum_of_squares", "relative_l2", "correlation"),
    )
    start: str = setting("pink", "Noise to start from.", choices=("pink", "gaussian"))
    start_rms: float = setting(0.01, "RMS of the noise.", above=0)
    spectemp_start_rms: float | None = setting(
        None, "The same for the network spectemp; None: as for the others.", above=0
    )
    shared_start: bool = setting(
        False, "Begin every target from the same noise; else each has its own."
    )
    waveform_limit: float | None = setting(
        None, "Sounds are clamped to +- this after every step; None: they are not.", above=0
    )
    kept: str = setting(
        "best",
        "Which iterate is the metamer: the one with the least relative error, or the last.",
        choices=("best", "last"),
    )
    coarse_steps: int = setting(
        0,
        "Coarse to fine, at stages of modulation filters: after so many steps of a round of "
        "decay_steps the loss admits faster filters, and in the last round all; 0: always all.",
        at_least=0,
    )
    as_played: bool = setting(
        False,
        "Give the stage the sound that will be played (its mean out, ramps, level: the settings of "
        "playback), not the waveform as the optimiser has it. Recipe 'fast' does, publications' "
        "recipes do not.",
    )
    relu_override: bool = setting(True, "At the matched stage: forward ReLU, backward identity.")
    tolerance: float = setting(
        0.0, "Stop a target at this relative error; 0 runs every step.", at_least=0
    )
    seeds: tuple[int, ...] = seed_setting(
        (0,), "Seeds of the starting noise: one metamer of each target per seed."
    )
    batch_size: int | None = setting(
        None,
        "Metamers synthesised at once, on all devices; None: as many as their memory takes.",
        at_least=1,
    )
    chunk_steps: int = setting(50, "Steps between progress reports and early stops.", at_least=1)
    matmul_precision: str = setting(
        "highest",
        "Of matrix products: 'default', 'high' (TF32 where there is one) or 'highest'.",
        choices=("default", "high", "highest"),
    )

    def __post_init__(self):
        check_fields(self)
        require(len(self.seeds) > 0, "seeds must hold at least one seed")
        self._check_recipe()

    def _check_recipe(self):
        own = _CHANGES[self.recipe]
        # Steps are everybody's to change; of the others something must be there.
        telling = {name: value for name, value in own.items() if name != "steps"}
        foreign = telling and all(getattr(self, name) != telling[name] for name in telling)
        same = [name for name in _CHANGES if not self._changed(name)]
        ours = not same or self.recipe in same or (not own and self._changed("paper") == ["steps"])
        require(
            ours and not foreign,
            f"recipe={self.recipe!r} must not have the settings of {(same or ['paper'])[0]!r}: "
            f"begin with SYNTHESIS_RECIPES[{self.recipe!r}] or SynthesisConfig(recipe="
            f"{self.recipe!r}, ...)",
        )

    def _changed(self, recipe):
        """Names of the settings that are not those of a recipe."""
        return [
            field.name
            for field in dataclasses.fields(self)
            if field.name not in _NOT_OF_A_RECIPE
            and getattr(self, field.name) != _CHANGES[recipe].get(field.name, field.default)
        ]

    @staticmethod
    def from_older(values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Completes settings that were saved before there were all of today's.

        Args:
            values: Fields as a run's config.json has them.

        Returns:
            All fields: what was not a setting then is as it was for everybody, whatever the
            recipe of that name changes today.
        """
        return {**_DEFAULTS, **values}

    def for_stage(self, stage: str, network: str = "") -> "SynthesisConfig":
        """Chooses the settings of one stage of one network.

        Args:
            stage: Name of the matched stage.
            network: Name of the network; "": one without settings of its own.

        Returns:
            The settings with what that stage and that network have of their own.
        """
        own: dict[str, Any] = dict.fromkeys(_OF_ONE)
        for name in _OF_ONE:
            owner, _, field = name.partition("_")
            mine = owner == stage or (owner == "spectemp" and network.startswith(owner))
            if mine and getattr(self, name) is not None:
                own[field] = getattr(self, name)
        return dataclasses.replace(self, **own)


_DEFAULTS = {field.name: field.default for field in dataclasses.fields(SynthesisConfig)}
SYNTHESIS_RECIPES: Mapping[str, SynthesisConfig] = types.MappingProxyType(
    {name: SynthesisConfig(recipe=name) for name in _CHANGES}
)


# The largest of a few chance matches says little about chance: of fewer pairs no null is made.
MIN_NULL_PAIRS = 1000
MIN_NULL_RECORDINGS = 46  # n (n - 1) / 2 pairs of n recordings: 1,035.


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerificationConfig:
    """What counts as a metamer."""

    null_recordings: int = setting(
        1500,
        f"Natural recordings whose pairs make the null distribution; {MIN_NULL_RECORDINGS} make "
        f"the {MIN_NULL_PAIRS} that it needs at least.",
        at_least=MIN_NULL_RECORDINGS,
    )
    min_rank_features: int = setting(
        1000,
        "At stages with fewer features a rank correlation decides nothing (ties; eight logits): "
        "there the relative error does.",
        at_least=0,
    )
    criterion: str = setting(
        "class_and_rank",
        "'class_and_rank': the class, and Spearman beyond the null or, where there are few "
        "features, the relative error. 'feather2023': the class, and Spearman, Pearson's r and SNR "
        "each beyond the maximum of its null, at every stage.",
        choices=("class_and_rank", "feather2023"),
    )
    null_noise_snr_db: tuple[float, float] | None = setting(
        None,
        "The null's recordings are mixed with the data set's background noise in this range, dB; "
        "Feather et al. (2023): -10,10; None: as they are.",
    )
    max_relative_error: float = setting(
        0.05, "Largest relative error of a metamer at such a stage.", above=0
    )
    batch_size: int = setting(8, "Sounds verified at once.", at_least=1)

    def __post_init__(self):
        check_fields(self)
