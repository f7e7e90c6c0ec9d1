"""How a network is trained: augmentation, attacks, and the recipes by name."""

import dataclasses
import math
import types
from collections.abc import Mapping

from metamer_jax.configs.checks import require, require_choice, require_positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes to a training clip; zeros change nothing.

    The first four change the waveform, so that cochleagrams are computed anew each epoch.
    """

    shift: float = 0.0  # Largest circular shift in time, either way, as a part of the clip.
    speed: float = 0.0  # Largest relative change of rate, either way: pitch, formants and tempo.
    noise_snr_db: tuple[float, float] | None = None  # White to brown noise is added in this range.
    # The same for the data set's own background noise; it must have some (`speech_commands`).
    background_snr_db: tuple[float, float] | None = None
    time_mask: float = 0.0  # Widest stretch of frames set to the mean, as a part of all.
    frequency_mask: float = 0.0  # The same for channels.
    mixup: float = 0.0  # Beta(mixup, mixup) mixing of pairs of cochleagrams; 0: none.

    def __post_init__(self):
        require(self.mixup >= 0, f"mixup must not be negative, got {self.mixup!r}")
        for name in ("shift", "speed", "time_mask", "frequency_mask"):
            value = getattr(self, name)
            require(0 <= value < 1, f"{name} must lie in [0, 1), got {value!r}")
        for name in ("noise_snr_db", "background_snr_db"):
            value = getattr(self, name)
            require(
                value is None or (len(value) == 2 and value[0] <= value[1]),
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

    epsilon: float = 0.0  # Relative, see above; 0: no perturbations.
    norm: str = "l2"  # "l2" or "linf".
    domain: str = "waveform"  # "waveform" or "cochleagram" (the part that the network reads).
    num_steps: int = 5  # Of projected gradient ascent.
    step_size: float = 0.5  # As a part of epsilon.
    restarts: int = 1  # Random starts, of which the strongest counts.
    # Training: epsilon rises from zero over so many epochs. Without, a network that has learnt
    # nothing yet may never leave the answer that is the same for every clip.
    warmup_epochs: int = 0
    # The control: a random point of the sphere ("l2") or a random corner of the cube ("linf").
    random: bool = False

    def __post_init__(self):
        require_choice("norm", self.norm, ("l2", "linf"))
        require_choice("domain", self.domain, ("waveform", "cochleagram"))
        require(
            math.isfinite(self.epsilon) and self.epsilon >= 0,
            f"epsilon must be a number, not negative, got {self.epsilon!r}",
        )
        require_positive(num_steps=self.num_steps, step_size=self.step_size, restarts=self.restarts)
        require(
            self.warmup_epochs >= 0, f"warmup_epochs must not be negative, got {self.warmup_epochs}"
        )
        for name in ("num_steps", "restarts"):
            value = getattr(self, name)
            require(isinstance(value, int), f"{name} must be a whole number (int), got {value!r}")

    @property
    def of_waveforms(self) -> bool:
        """Whether there are perturbations, and of waveforms."""
        return self.epsilon > 0 and self.domain == "waveform"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Word recognition; the defaults are TensorFlow's tutorial recipe, as in the paper."""

    recipe: str = "paper"
    epochs: int = 10  # 0: the network stays as it was initialised (recipe `untrained`).
    batch_size: int = 64
    learning_rate: float = 1e-3
    schedule: str = "constant"  # "constant" or "cosine" (to zero, after a warm-up of one epoch).
    weight_decay: float = 0.0  # AdamW's, on kernels.
    label_smoothing: float = 0.0
    patience: int = 2  # Epochs without a lower validation loss before stopping; 0: never stop.
    ema_decay: float = 0.0  # Exponential moving average of the weights, evaluated in their place.
    augment: AugmentConfig = AugmentConfig()
    adversarial: AdversarialConfig = AdversarialConfig()

    def __post_init__(self):
        require(
            isinstance(self.epochs, int) and self.epochs >= 0,
            f"epochs must be a whole number, not negative, got {self.epochs!r}",
        )
        require_positive(batch_size=self.batch_size, learning_rate=self.learning_rate)
        require_choice("schedule", self.schedule, ("constant", "cosine"))
        require(self.patience >= 0, f"patience must not be negative, got {self.patience}")
        require(
            self.weight_decay >= 0, f"weight_decay must not be negative, got {self.weight_decay}"
        )
        for name in ("label_smoothing", "ema_decay"):
            value = getattr(self, name)
            require(0 <= value < 1, f"{name} must lie in [0, 1), got {value!r}")


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
_EPSILONS = {
    ("waveform", "l2"): 0.025,
    ("waveform", "linf"): 0.02,
    ("cochleagram", "l2"): 0.05,
    ("cochleagram", "linf"): 0.1,
}


def _perturbed_recipes() -> dict[str, TrainingConfig]:
    return {
        name: dataclasses.replace(
            _AUGMENTED,
            recipe=name,
            adversarial=AdversarialConfig(
                epsilon=epsilon,
                norm=norm,
                domain=domain,
                num_steps=3,
                warmup_epochs=10,
                random=kind == "random",
            ),
        )
        for kind in ("adversarial", "random")
        for (domain, norm), epsilon in _EPSILONS.items()
        for name in [f"{kind}_{domain}_{norm}"]
    }


TRAINING_RECIPES: Mapping[str, TrainingConfig] = types.MappingProxyType(
    {
        "paper": TrainingConfig(),
        "augmented": _AUGMENTED,
        "untrained": TrainingConfig(recipe="untrained", epochs=0),
        **_perturbed_recipes(),
    }
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobustnessConfig:
    """How trained networks are attacked. Sizes are relative, as `AdversarialConfig.epsilon`."""

    epsilons: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1)  # And those that were trained at.
    domains: tuple[str, ...] = ("waveform", "cochleagram")
    norms: tuple[str, ...] = ("l2", "linf")
    num_steps: int = 20
    step_size: float = 0.2
    restarts: int = 3
    clips: int | None = None  # Of the test split, drawn at random; None: all.
    seed: int = 0

    def __post_init__(self):
        for domain in self.domains:
            for norm in self.norms:
                self.attack(domain, norm)
        for name in ("epsilons", "domains", "norms"):
            values = getattr(self, name)
            require(len(values) > 0, f"{name} must not be empty")
            require(len(set(values)) == len(values), f"{name} repeat: {values}")
        require_positive(**{f"epsilons[{i}]": e for i, e in enumerate(self.epsilons)})
        if self.clips is not None:
            require_positive(clips=self.clips)

    def attack(self, domain: str, norm: str) -> AdversarialConfig:
        """The attack in one domain and norm."""
        return AdversarialConfig(
            domain=domain,
            norm=norm,
            num_steps=self.num_steps,
            step_size=self.step_size,
            restarts=self.restarts,
        )
