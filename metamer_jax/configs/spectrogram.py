"""How a waveform becomes a spectrogram, and the conventions by name."""

import dataclasses
import math
import types
from collections.abc import Mapping

from metamer_jax.configs.checks import require, require_choice, require_positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpectrogramConfig:
    """How a waveform becomes a (mel, logarithmic) spectrogram; the defaults are librosa's."""

    sample_rate_hz: int = 22050
    num_fft: int = 2048  # Points of each Fourier transform.
    window_length: int | None = None  # Samples; None: num_fft. A shorter one lies in the middle.
    hop_length: int | None = None  # Samples between frames; None: a quarter of the window.
    window: str = "hann"  # Any of `scipy.signal.get_window`, periodic.
    # Frame t is centred on sample t * hop_length, with `pad_mode` beyond the edges; else it begins
    # there, and only whole frames are kept.
    center: bool = True
    pad_mode: str = (
        "constant"  # "constant" (zeros), "reflect", "edge" or "wrap", as of `numpy.pad`.
    )
    # "none"; "window": by the root of the window's sum of squares (torchaudio's normalized=True);
    # "frame_length": by that of num_fft.
    normalization: str = "none"
    power: float = 2.0  # Of the magnitudes, before mel bands are summed; 1: magnitudes.
    num_mels: int = 128
    low_hz: float = 0.0
    high_hz: float | None = None  # None: half the sample rate.
    mel_scale: str = "slaney"  # Slaney's (1998, linear up to 1 kHz) or "htk".
    mel_norm: str = "slaney"  # "slaney": bands of equal area; "none": of height one.
    # Frequencies of the bins: "exact", or "whole" as torchaudio has them, evenly spaced up to
    # sample_rate_hz // 2 (which differs for odd rates and odd num_fft only).
    bin_frequencies: str = "exact"
    log: str = "decibel"  # "decibel": of what is at least `floor`; "offset": log(x + floor).
    floor: float = 1e-10
    reference: float = 1.0  # "decibel": what has 0 dB.
    range_db: float | None = 80.0  # "decibel": kept below a sound's maximum; None: everything.

    def __post_init__(self):
        for name, choices in (
            ("pad_mode", ("constant", "reflect", "edge", "wrap")),
            ("normalization", ("none", "window", "frame_length")),
            ("mel_scale", ("slaney", "htk")),
            ("mel_norm", ("slaney", "none")),
            ("bin_frequencies", ("exact", "whole")),
            ("log", ("decibel", "offset")),
        ):
            require_choice(name, getattr(self, name), choices)
        for name in ("num_fft", "window_length", "hop_length", "num_mels"):
            value = getattr(self, name)
            if value is None and name in ("window_length", "hop_length"):
                continue
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number, at least 1, got {value!r}")
        for name in ("sample_rate_hz", "floor", "reference", "range_db"):
            value = getattr(self, name)
            if value is None and name == "range_db":
                continue
            require_positive(**{name: value})
        require(
            1 <= self.power < math.inf,
            "power must be at least 1 (below, its derivative is infinite where a bin is empty), "
            f"got {self.power!r}",
        )
        require(
            self.resolved_window_length <= self.num_fft,
            f"window_length must not exceed num_fft={self.num_fft}, got {self.window_length}",
        )
        require(
            0 <= self.low_hz < self.resolved_high_hz <= self.sample_rate_hz / 2,
            f"low_hz and high_hz must ascend from 0 to at most {self.sample_rate_hz / 2} Hz, "
            f"got {self.low_hz} and {self.high_hz}",
        )

    @property
    def resolved_window_length(self) -> int:
        return self.num_fft if self.window_length is None else self.window_length

    @property
    def resolved_hop_length(self) -> int:
        return self.hop_length or max(1, self.resolved_window_length // 4)

    @property
    def resolved_high_hz(self) -> float:
        if self.high_hz is not None:
            return self.high_hz
        half = self.sample_rate_hz / 2
        return float(half // 1) if self.bin_frequencies == "whole" else half

    @property
    def num_bins(self) -> int:
        return self.num_fft // 2 + 1

    def num_frames(self, num_samples: int) -> int:
        """Frames of a sound of so many samples; none where it is shorter than a frame."""
        padded = num_samples + 2 * (self.num_fft // 2) * self.center
        return max(0, (padded - self.num_fft) // self.resolved_hop_length + 1)


# The defaults of librosa 0.11 (`feature.melspectrogram` and `power_to_db`) and of torchaudio 2
# (`MelSpectrogram` and `AmplitudeToDB`; "_mfcc": the logarithm of `MFCC(log_mels=True)`).
_TORCHAUDIO = SpectrogramConfig(
    sample_rate_hz=16000,
    num_fft=400,
    hop_length=200,
    pad_mode="reflect",
    mel_scale="htk",
    mel_norm="none",
    bin_frequencies="whole",
    range_db=None,
)
SPECTROGRAMS: Mapping[str, SpectrogramConfig] = types.MappingProxyType(
    {
        "librosa": SpectrogramConfig(),
        "torchaudio": _TORCHAUDIO,
        "torchaudio_mfcc": dataclasses.replace(_TORCHAUDIO, log="offset", floor=1e-6),
    }
)
