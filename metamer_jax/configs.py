"""Settings: one frozen dataclass per concern, and the presets that name published ones.

A config holds plain values only, so that it can be compared, hashed, passed to `jit` as a
static argument and saved as JSON beside what it made.
"""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

STAGES = ("cochleagram", "conv1", "conv2", "dense", "logits")
WORDS = ("down", "go", "left", "no", "right", "stop", "up", "yes")
OPTIMIZERS = ("adam", "relative_adam", "normalized_gradient", "lbfgs")
SCHEDULES = ("exponential", "staircase", "cosine", "linear")
# Of Speech Commands v0.02 (Warden 2018).
SPEECH_COMMANDS_WORDS = tuple(
    "backward bed bird cat dog down eight five follow forward four go happy house learn left "
    "marvin nine no off on one right seven sheila six stop three tree two up visual wow yes "
    "zero".split()
)
DATASETS = ("spoken_words", "mini_speech_commands", "speech_commands", "wav_folder")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _require_choice(name: str, value: object, choices: typing.Iterable[object]) -> None:
    choices = tuple(choices)
    _require(value in choices, f"{name} must be one of {choices}, got {value!r}")


def _require_positive(**values: float) -> None:
    for name, value in values.items():
        finite = isinstance(value, (int, float)) and math.isfinite(value)
        _require(finite and value > 0, f"{name} must be a positive number, got {value!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CochleagramConfig:
    """How a waveform becomes a cochleagram; the defaults are the preset `speech_commands`.

    Defaults are those of Feather et al. (2019) at the paper's 16 kHz and 1 s: half-cosine
    filters evenly spaced on the ERB-number scale, Hilbert envelopes, low-passed and sampled at
    `envelope_rate_hz`, half-wave rectified, multiplied by `scale`, shifted by `offset`, compressed.
    """

    sample_rate_hz: int = 16000
    duration_s: float = 1.0
    envelope_rate_hz: int = 200
    low_hz: float = 20.0
    high_hz: float = 8000.0
    num_filters: int = 50  # Band-pass filters before oversampling by `sample_factor`.
    sample_factor: int = 4  # 1, 2 or 4 (any even number): how densely the same widths are placed.
    lowpass_filter: bool = True  # Keep the filters below `low_hz` that make the bank complete.
    highpass_filter: bool = True  # The same above `high_hz`.
    compression: str = "power"  # "power", "decibel" or "none".
    power: float = 0.3
    gradient_limit: float | None = 1.0  # Bound on the compression's derivative; None: unbounded.
    offset: float = 0.0
    scale: float = 796.87416837456942  # Feather et al. (2019).
    # Where the low-passed envelope is not positive: "zero" is the derivative (tfcochleagram),
    # "pass" lets the gradient through (chcochleagram), which can make a synthesis diverge.
    rectification_gradient: str = "zero"
    lowpass_taps: int = 1001
    lowpass_padding: str = "same"  # "same" (zeros beyond the edges) or "valid" (fewer frames).
    method: str = "dense"  # "dense" (exact) or "multirate" (fast).
    # Multirate: points per bin of a subband, and the share of a frame's low-pass weights that may
    # be left out. `accuracy.within` sets both for a wanted exactness.
    oversampling: float = 3.0
    lowpass_tolerance: float = 1e-4
    # Multirate: Fourier transforms as such, or as products for matrix units; "auto": on TPUs.
    transform: str = "auto"  # "auto", "fft" or "matmul".

    def __post_init__(self):
        _require_positive(
            sample_rate_hz=self.sample_rate_hz,
            duration_s=self.duration_s,
            envelope_rate_hz=self.envelope_rate_hz,
            high_hz=self.high_hz,
            num_filters=self.num_filters,
            sample_factor=self.sample_factor,
            power=self.power,
            scale=self.scale,
            lowpass_taps=self.lowpass_taps,
            oversampling=self.oversampling,
            lowpass_tolerance=self.lowpass_tolerance,
        )
        _require_choice("compression", self.compression, ("power", "decibel", "none"))
        _require_choice("rectification_gradient", self.rectification_gradient, ("zero", "pass"))
        _require_choice("lowpass_padding", self.lowpass_padding, ("same", "valid"))
        _require_choice("method", self.method, ("dense", "multirate"))
        _require_choice("transform", self.transform, ("auto", "fft", "matmul"))
        for name in ("num_filters", "sample_factor", "lowpass_taps"):
            value = getattr(self, name)
            _require(isinstance(value, int), f"{name} must be a whole number (int), got {value!r}")
        _require(
            self.sample_factor == 1 or self.sample_factor % 2 == 0,
            f"sample_factor must be 1 or even (an odd one changes the filters' widths), "
            f"got {self.sample_factor}",
        )
        _require(
            0 <= self.low_hz < self.high_hz,
            f"low_hz must lie in [0, high_hz), got low_hz={self.low_hz}, high_hz={self.high_hz}",
        )
        _require(
            self.high_hz <= self.sample_rate_hz / 2,
            f"high_hz must not exceed half the sample rate ({self.sample_rate_hz / 2} Hz), "
            f"got {self.high_hz}",
        )
        stride = self.sample_rate_hz / self.envelope_rate_hz
        if stride != int(stride):
            nearest = _nearest_divisors(self.sample_rate_hz, self.envelope_rate_hz)
            raise ValueError(
                f"envelope_rate_hz must divide sample_rate_hz={self.sample_rate_hz} (frames lie on "
                f"samples), got {self.envelope_rate_hz}; the nearest that do are {nearest}"
            )
        _require(self.num_samples >= 2, f"duration_s={self.duration_s} holds no two samples")
        _require(
            self.lowpass_padding == "same" or self.num_samples >= self.lowpass_taps,
            f"lowpass_padding='valid' needs at least lowpass_taps={self.lowpass_taps} samples, "
            f"got {self.num_samples}",
        )
        if self.gradient_limit is not None:
            _require_positive(gradient_limit=self.gradient_limit)
        _require(
            self.offset >= 0 and math.isfinite(self.offset),
            f"offset must be non-negative, got {self.offset!r}",
        )
        _require(
            self.compression != "decibel" or self.offset > 0,
            "compression='decibel' needs offset > 0: the logarithm of an empty frame is -inf",
        )
        unbounded = self.power < 1 and self.gradient_limit is None and self.offset == 0
        _require(
            not unbounded or self.compression != "power" or self.rectification_gradient != "pass",
            "rectification_gradient='pass' needs a gradient_limit or offset > 0: the derivative of "
            f"a power of {self.power} is infinite at zero",
        )
        _require(
            self.oversampling >= 2, f"oversampling must be at least 2, got {self.oversampling}"
        )

    @property
    def num_samples(self) -> int:
        return round(self.sample_rate_hz * self.duration_s)

    @property
    def stride(self) -> int:
        """Samples per frame."""
        return round(self.sample_rate_hz / self.envelope_rate_hz)

    @property
    def num_frames(self) -> int:
        if self.lowpass_padding == "same":
            return -(-self.num_samples // self.stride)
        return (self.num_samples - self.lowpass_taps) // self.stride + 1

    @property
    def num_channels(self) -> int:
        ends = self.sample_factor * (self.lowpass_filter + self.highpass_filter)
        return self.sample_factor * (self.num_filters + 1) - 1 + ends


def _nearest_divisors(sample_rate_hz: int, envelope_rate_hz: float) -> tuple[int, ...]:
    if sample_rate_hz != int(sample_rate_hz):
        return ()
    rate = int(sample_rate_hz)
    divisors = [rate // n for n in range(1, rate + 1) if rate % n == 0]
    return tuple(sorted(sorted(divisors, key=lambda d: abs(d - envelope_rate_hz))[:2]))


COCHLEAGRAMS: Mapping[str, CochleagramConfig] = types.MappingProxyType(
    {
        "speech_commands": CochleagramConfig(),
        "feather2019": CochleagramConfig(sample_rate_hz=20000, duration_s=2.0),
        "feather2023": CochleagramConfig(
            sample_rate_hz=20000,
            duration_s=2.0,
            low_hz=50.0,
            high_hz=10000.0,
            scale=1.0,
            offset=1e-8,
            gradient_limit=5.0,
            rectification_gradient="pass",
            lowpass_padding="valid",
        ),
    }
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which recordings, and how they are split."""

    dataset: str = "spoken_words"  # One of DATASETS.
    # Empty: the paper's WORDS; with `speech_commands` all 35, with `wav_folder` every folder.
    words: tuple[str, ...] = ()
    sample_rate_hz: int = 16000
    duration_s: float = 1.0
    # "random" (80/10/10 over clips), "speaker" (disjoint voices), "official" (`speech_commands`,
    # by the archive's lists), or "auto": official where there are such lists, by speaker for
    # `spoken_words`, whose every voice is one formula, else random.
    split: str = "auto"
    seed: int = 0  # Of the split.
    data_dir: str | None = None  # A folder of <word>/*.wav.
    # TensorFlow's mini_speech_commands.zip, or one laid out like it; with `speech_commands` any
    # .zip, .tar or .tar.gz of <word>/*.wav, or several with commas between.
    data_zip: str | None = None
    cache_dir: str | None = None  # None: $METAMER_JAX_CACHE or ~/.cache/metamer_jax.
    skip_bad_files: bool = False
    num_speakers: int = 200  # spoken_words only.
    tokens_per_word: int = 5  # spoken_words only: tokens of each word by each speaker.
    corpus_seed: int = 0  # spoken_words only: another one makes other voices.

    def __post_init__(self):
        _require_choice("dataset", self.dataset, DATASETS)
        _require_choice("split", self.split, ("auto", "random", "speaker", "official"))
        _require(
            self.split != "official" or self.dataset == "speech_commands",
            f"split='official' needs dataset='speech_commands', got dataset={self.dataset!r}",
        )
        _require_positive(
            sample_rate_hz=self.sample_rate_hz,
            duration_s=self.duration_s,
            num_speakers=self.num_speakers,
            tokens_per_word=self.tokens_per_word,
        )
        for name in ("sample_rate_hz", "num_speakers", "tokens_per_word"):
            value = getattr(self, name)
            _require(int(value) == value, f"{name} must be a whole number, got {value!r}")
        for name in ("seed", "corpus_seed"):
            value = getattr(self, name)
            _require(
                isinstance(value, int) and value >= 0,
                f"{name} must be a whole number, not negative, got {value!r}",
            )
        _require(
            not isinstance(self.words, str) and len(self.words) != 1,
            f"words must name at least two words, got {self.words!r}",
        )
        _require(len(set(self.words)) == len(self.words), f"words repeat: {self.words}")
        _require(
            self.dataset != "wav_folder" or self.data_dir is not None,
            "dataset='wav_folder' needs data_dir, the folder that holds <word>/*.wav",
        )
        _require(
            self.data_dir is None or self.data_zip is None,
            f"data_dir and data_zip exclude each other, got {self.data_dir} and {self.data_zip}",
        )

    @property
    def num_samples(self) -> int:
        return round(self.sample_rate_hz * self.duration_s)

    @property
    def resolved_split(self) -> str:
        """The rule that "auto" stands for where the recordings bring no split of their own."""
        if self.split != "auto":
            return self.split
        return "speaker" if self.dataset == "spoken_words" else "random"


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
        _require(self.mixup >= 0, f"mixup must not be negative, got {self.mixup!r}")
        for name in ("shift", "speed", "time_mask", "frequency_mask"):
            value = getattr(self, name)
            _require(0 <= value < 1, f"{name} must lie in [0, 1), got {value!r}")
        for name in ("noise_snr_db", "background_snr_db"):
            value = getattr(self, name)
            _require(
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
        _require_choice("norm", self.norm, ("l2", "linf"))
        _require_choice("domain", self.domain, ("waveform", "cochleagram"))
        _require(
            math.isfinite(self.epsilon) and self.epsilon >= 0,
            f"epsilon must be a number, not negative, got {self.epsilon!r}",
        )
        _require_positive(
            num_steps=self.num_steps, step_size=self.step_size, restarts=self.restarts
        )
        _require(
            self.warmup_epochs >= 0, f"warmup_epochs must not be negative, got {self.warmup_epochs}"
        )
        for name in ("num_steps", "restarts"):
            value = getattr(self, name)
            _require(isinstance(value, int), f"{name} must be a whole number (int), got {value!r}")

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
        _require(
            isinstance(self.epochs, int) and self.epochs >= 0,
            f"epochs must be a whole number, not negative, got {self.epochs!r}",
        )
        _require_positive(batch_size=self.batch_size, learning_rate=self.learning_rate)
        _require_choice("schedule", self.schedule, ("constant", "cosine"))
        _require(self.patience >= 0, f"patience must not be negative, got {self.patience}")
        _require(
            self.weight_decay >= 0, f"weight_decay must not be negative, got {self.weight_decay}"
        )
        for name in ("label_smoothing", "ema_decay"):
            value = getattr(self, name)
            _require(0 <= value < 1, f"{name} must lie in [0, 1), got {value!r}")


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
    relu_override: bool = True  # At the matched stage: forward ReLU, backward identity.
    tolerance: float = 0.0  # Stop a target at this relative error; 0 runs every step.
    seeds: tuple[int, ...] = (0,)  # One metamer of each target per seed.
    batch_size: int | None = None  # Metamers at once, on all devices; None: by their memory.
    chunk_steps: int = 50  # Steps between progress reports and early stops.
    matmul_precision: str = "highest"  # "default", "high" (TF32 where there is one), "highest".

    def __post_init__(self):
        _require_choice("optimizer", self.optimizer, OPTIMIZERS)
        _require_choice("schedule", self.schedule, SCHEDULES)
        _require_choice("loss", self.loss, ("half_sum_of_squares", "relative_l2", "correlation"))
        _require_choice("start", self.start, ("pink", "gaussian"))
        _require_choice("matmul_precision", self.matmul_precision, ("default", "high", "highest"))
        _require_positive(
            steps=self.steps,
            learning_rate=self.learning_rate,
            decay_rate=self.decay_rate,
            decay_steps=self.decay_steps,
            level_window=self.level_window,
            start_rms=self.start_rms,
            chunk_steps=self.chunk_steps,
        )
        if self.batch_size is not None:
            _require_positive(batch_size=self.batch_size)
        if self.cochleagram_learning_rate is not None:
            _require_positive(cochleagram_learning_rate=self.cochleagram_learning_rate)
        _require(len(self.seeds) > 0, "seeds must hold at least one seed")
        _require(len(set(self.seeds)) == len(self.seeds), f"seeds repeat: {self.seeds}")

    def for_stage(self, stage: str) -> "SynthesisConfig":
        """Returns the settings for one stage: with that stage's own learning rate."""
        rate = self.cochleagram_learning_rate if stage == "cochleagram" else None
        return dataclasses.replace(
            self, learning_rate=rate or self.learning_rate, cochleagram_learning_rate=None
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
            learning_rate=0.17,
            cochleagram_learning_rate=0.28,  # Which would be too long a step for a network.
            beta1=0.95,
            beta2=0.96,
            schedule="linear",
            tolerance=1e-4,  # Below what the multirate cochleagram is exact to.
        ),
    }
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerificationConfig:
    """What counts as a metamer."""

    null_recordings: int = 1500  # Natural recordings whose pairs make the null distribution.
    # At stages with fewer features a rank correlation decides nothing (ties; eight logits):
    # there the relative error does.
    min_rank_features: int = 1000
    max_relative_error: float = 0.05
    playback_level_db: float = -23.0  # RMS of the sounds as played, dB re full scale.
    batch_size: int = 8

    def __post_init__(self):
        _require(
            self.null_recordings >= 3,
            f"null_recordings must be at least 3, got {self.null_recordings}",
        )
        _require_positive(max_relative_error=self.max_relative_error, batch_size=self.batch_size)


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
            _require(len(values) > 0, f"{name} must not be empty")
            _require(len(set(values)) == len(values), f"{name} repeat: {values}")
        _require_positive(**{f"epsilons[{i}]": e for i, e in enumerate(self.epsilons)})
        if self.clips is not None:
            _require_positive(clips=self.clips)

    def attack(self, domain: str, norm: str) -> AdversarialConfig:
        """The attack in one domain and norm."""
        return AdversarialConfig(
            domain=domain,
            norm=norm,
            num_steps=self.num_steps,
            step_size=self.step_size,
            restarts=self.restarts,
        )


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

    def __post_init__(self):
        _require_positive(targets_per_word=self.targets_per_word)
        for name in ("sample_rate_hz", "duration_s"):
            data, cochleagram = getattr(self.data, name), getattr(self.cochleagram, name)
            _require(
                data == cochleagram,
                f"data.{name}={data} and cochleagram.{name}={cochleagram} must agree",
            )
        for name in ("networks", "stages"):
            values = getattr(self, name)
            _require(len(values) > 0, f"{name} must not be empty")
            _require(len(set(values)) == len(values), f"{name} repeat: {values}")

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


def replace_given(config: Any, /, **changes: Any) -> Any:
    """Returns `config` with those fields replaced whose new value is not None."""
    return dataclasses.replace(config, **{k: v for k, v in changes.items() if v is not None})


def replace_dotted(config: Any, name: str, value: Any) -> Any:
    """Returns `config` with one field replaced, named by its dotted path, e.g. "training.epochs".

    Raises:
        ValueError: There is no such field, or its config refuses the value.
    """
    field, _, rest = name.partition(".")
    known = sorted(f.name for f in dataclasses.fields(config))
    _require(field in known, f"{type(config).__name__} has no setting {field!r}; it has {known}")
    if rest:
        nested = getattr(config, field)
        _require(dataclasses.is_dataclass(nested), f"{field!r} has no settings, so no {rest!r}")
        value = replace_dotted(nested, rest, value)
    elif isinstance(value, list):
        value = tuple(value)
    return dataclasses.replace(config, **{field: value})


def to_json(config: Any) -> str:
    """Returns the config's fields, nested ones included, as readable JSON."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_dict(cls: type, values: Mapping[str, Any]) -> Any:
    """Builds the dataclass `cls` from what `to_json` wrote, once read back.

    Raises:
        ValueError: A field is not one of `cls`, or its value is refused by `cls`.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(fields))
    _require(not unknown, f"{cls.__name__} has no field {unknown}; it has {sorted(fields)}")
    hints = typing.get_type_hints(cls)
    given = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]):
            value = from_dict(hints[name], value)
        elif isinstance(value, list):
            value = tuple(value)
        given[name] = value
    return cls(**given)


def differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Lists the fields, dotted, in which two configs of one class differ."""
    found = []
    for field in dataclasses.fields(new):
        a, b = getattr(old, field.name), getattr(new, field.name)
        if dataclasses.is_dataclass(b):
            found += differences(a, b, f"{prefix}{field.name}.")
        elif a != b:
            found.append(f"{prefix}{field.name}: {a!r} before, {b!r} now")
    return found
