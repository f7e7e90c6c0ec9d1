"""How a network is trained: augmentation, attacks, and the recipes by name."""

import dataclasses
import types
from collections.abc import Mapping, Sequence

from metamer_jax.configs.checks import check_fields, require, seed_setting, setting

_PART = {"at_least": 0, "below": 1}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes to a training clip; zeros change nothing.

    The first four change the waveform, so that cochleagrams are computed anew each epoch.
    """

    shift: float = setting(
        0.0, "Largest circular shift in time, either way, as a part of the clip.", **_PART
    )
    speed: float = setting(
        0.0, "Largest relative change of rate, either way: pitch, formants and tempo.", **_PART
    )
    noise_snr_db: tuple[float, float] | None = setting(
        None, "White to brown noise is added in this range, dB; None: none."
    )
    background_snr_db: tuple[float, float] | None = setting(
        None,
        "The same for the data set's own background noise; it must have some (speech_commands).",
    )
    time_mask: float = setting(
        0.0, "Widest stretch of frames set to the mean, as a part of all.", **_PART
    )
    frequency_mask: float = setting(0.0, "The same for channels.", **_PART)
    mixup: float = setting(
        0.0, "Beta(mixup, mixup) mixing of pairs of cochleagrams; 0: none.", at_least=0
    )

    def __post_init__(self):
        check_fields(self)
        for name in ("noise_snr_db", "background_snr_db"):
            value = getattr(self, name)
            require(
                value is None or value[0] <= value[1],
                f"{name} must be (lowest, highest), got {value!r}",
            )

    @property
    def of_waveforms(self) -> bool:
        """Whether waveforms, and not only their cochleagrams, are changed."""
        noisy = self.noise_snr_db is not None or self.background_snr_db is not None
        return self.shift > 0 or self.speed > 0 or noisy


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """Perturbations of the input that a network is trained or tested against; none by default.

    `epsilon` is relative, so that it means the same at any duration, rate and scale. "l2": the
    norm of a perturbation over that of the clip's own input. "linf": its largest value over the
    rms of the clip's own input, so that a corner of the cube has the relative norm epsilon too.
    Feather et al. (2023) trained on waveforms of norm 20 and rms 0.1 with 0.5 and 1 ("l2": 0.025
    and 0.05 here) and 0.002 ("linf": 0.02), in five steps of half epsilon from a random start.
    """

    epsilon: float = setting(
        0.0, "Size of a perturbation, relative to the input; 0: no perturbations.", at_least=0
    )
    norm: str = setting("l2", "How the size is measured.", choices=("l2", "linf"))
    domain: str = setting(
        "waveform",
        "What is perturbed: the sound, or the part of its cochleagram that the network reads.",
        choices=("waveform", "cochleagram"),
    )
    num_steps: int = setting(5, "Steps of projected gradient ascent.", at_least=1)
    step_size: float = setting(0.5, "A step, as a part of epsilon.", above=0)
    restarts: int = setting(1, "Random starts, of which the strongest counts.", at_least=1)
    # Without, a network that has learnt nothing yet may never leave the answer that is the same
    # for every clip.
    warmup_epochs: int = setting(
        0, "Training: epsilon rises from zero over so many epochs.", at_least=0
    )
    random: bool = setting(
        False,
        "The control: a random point of the sphere ('l2') or a random corner of the cube ('linf').",
    )
    bounds: tuple[float, float] | None = setting(
        None, "Lowest and highest value of a perturbed input, to which it is clamped; None: any."
    )

    def __post_init__(self):
        check_fields(self)
        require(
            self.bounds is None or self.bounds[0] < self.bounds[1],
            f"bounds must be (lowest, highest), got {self.bounds!r}",
        )

    @property
    def of_waveforms(self) -> bool:
        """Whether there are perturbations, and of waveforms."""
        return self.epsilon > 0 and self.domain == "waveform"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Word recognition; the defaults are TensorFlow's tutorial recipe, as in the paper."""

    recipe: str = setting("paper", "Name of the recipe that it began with.")
    epochs: int = setting(
        10, "Training epochs at most; 0: the network stays as it was initialised.", at_least=0
    )
    batch_size: int = setting(64, "Clips in a training step.", at_least=1)
    learning_rate: float = setting(1e-3, "Adam's learning rate.", above=0)
    schedule: str = setting(
        "constant",
        "'constant' or 'cosine' (to zero, after a warm-up of one epoch).",
        choices=("constant", "cosine"),
    )
    weight_decay: float = setting(0.0, "AdamW's, on kernels.", at_least=0)
    label_smoothing: float = setting(0.0, "Share of a label spread over all words.", **_PART)
    patience: int = setting(
        2, "Epochs without a lower validation loss before stopping; 0: never stop.", at_least=0
    )
    ema_decay: float = setting(
        0.0, "Exponential moving average of the weights, evaluated in their place.", **_PART
    )
    augment: AugmentConfig = AugmentConfig()
    adversarial: AdversarialConfig = AdversarialConfig()

    def __post_init__(self):
        check_fields(self)


_AUGMENTED = TrainingConfig(
    recipe="augmented",
    epochs=40,
    learning_rate=2e-3,
    schedule="cosine",
    weight_decay=0.01,
    label_smoothing=0.1,
    patience=0,
    ema_decay=0.99,
    augment=AugmentConfig(shift=0.1, speed=0.1, noise_snr_db=(5.0, 40.0)),
)
# Of `adversarial_<domain>_<norm>`, and of the control `random_<domain>_<norm>`: of waveforms those
# of Feather et al. (2023, the smaller for "l2"), of cochleagrams such as a network trained without
# attacks fails at.
_ATTACKS = [
    AdversarialConfig(domain=domain, norm=norm, epsilon=epsilon, num_steps=3, warmup_epochs=10)
    for domain, norm, epsilon in (
        ("waveform", "l2", 0.025),
        ("waveform", "linf", 0.02),
        ("cochleagram", "l2", 0.05),
        ("cochleagram", "linf", 0.1),
    )
]
# Feather et al. (2023), of "l2" their larger: five steps, no warm-up, inputs clamped. Their 0.5 and
# 1 of cochleagrams, at scale 1, are about 0.0125 and 0.025 of the norm of a voice (40).
_FEATHER_2023 = [
    AdversarialConfig(domain="waveform", norm="l2", epsilon=0.05, bounds=(-1.0, 1.0)),
    AdversarialConfig(domain="waveform", norm="linf", epsilon=0.02, bounds=(-1.0, 1.0)),
    AdversarialConfig(domain="cochleagram", norm="l2", epsilon=0.025, bounds=(0.0, 100.0)),
]


def _perturbed(
    name: str, attacks: Sequence[AdversarialConfig], *, random: bool
) -> dict[str, TrainingConfig]:
    """Training under each of the attacks, or random perturbations as large."""
    found = {}
    for attack in attacks:
        recipe = f"{name}_{attack.domain}_{attack.norm}"
        attack = dataclasses.replace(attack, random=random)
        found[recipe] = dataclasses.replace(_AUGMENTED, recipe=recipe, adversarial=attack)
    return found


TRAINING_RECIPES: Mapping[str, TrainingConfig] = types.MappingProxyType(
    {
        "paper": TrainingConfig(),
        "augmented": _AUGMENTED,
        "untrained": TrainingConfig(recipe="untrained", epochs=0),
        **_perturbed("adversarial", _ATTACKS, random=False),
        **_perturbed("random", _ATTACKS, random=True),
        **_perturbed("feather2023", _FEATHER_2023, random=False),
        **_perturbed("feather2023_random", _FEATHER_2023, random=True),
    }
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobustnessConfig:
    """How trained networks are attacked. Sizes are relative, as `AdversarialConfig.epsilon`."""

    epsilons: tuple[float, ...] = setting(
        (0.003, 0.01, 0.03, 0.1),
        "Sizes: a perturbation's norm over the clip's ('l2'), or its largest value over the clip's "
        "rms ('linf'). Those that the networks were trained at are added.",
        above=0,
    )
    domains: tuple[str, ...] = setting(
        ("waveform", "cochleagram"), "What is perturbed.", choices=("waveform", "cochleagram")
    )
    norms: tuple[str, ...] = setting(
        ("l2", "linf"), "How the size is measured.", choices=("l2", "linf")
    )
    num_steps: int = setting(20, "Steps of an attack.", at_least=1)
    step_size: float = setting(0.2, "A step, as a part of epsilon.", above=0)
    restarts: int = setting(3, "Random starts, of which the strongest counts.", at_least=1)
    clips: int | None = setting(
        None, "Clips of the test split, drawn at random; None: all.", at_least=1
    )
    seed: int = seed_setting(0, "Seed of the starts and the choice of clips.")

    def __post_init__(self):
        check_fields(self)
        for name in ("epsilons", "domains", "norms"):
            require(len(getattr(self, name)) > 0, f"{name} must not be empty")

    def attack(self, domain: str, norm: str) -> AdversarialConfig:
        """The attack in one domain and norm."""
        return AdversarialConfig(
            domain=domain,
            norm=norm,
            num_steps=self.num_steps,
            step_size=self.step_size,
            restarts=self.restarts,
        )
