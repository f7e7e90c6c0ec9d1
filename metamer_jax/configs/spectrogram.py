"""How a waveform becomes a spectrogram, and the conventions by name."""

import dataclasses
import types
from collections.abc import Mapping

from metamer_jax.configs.checks import check_fields, require, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpectrogramConfig:
    """How a waveform becomes a (mel, logarithmic) spectrogram; the defaults are librosa's."""

    sample_rate_hz: int = setting(22050, "Samples per second.", above=0)
    num_fft: int = setting(2048, "Points of each Fourier transform.", at_least=1)
    window_length: int | None = setting(
        None, "Samples; None: num_fft. A shorter one lies in the middle.", at_least=1
    )
    hop_length: int | None = setting(
        None, "Samples between frames; None: a quarter of the window.", at_least=1
    )
    window: str = setting("hann", "Any of `scipy.signal.get_window`, periodic.")
    center: bool = setting(
        True,
        "Frame t is centred on sample t * hop_length, with pad_mode beyond the edges; else it "
        "begins there, and only whole frames are kept.",
    )
    pad_mode: str = setting(
        "constant",
        "What lies beyond the edges, as of `numpy.pad`; 'constant': zeros.",
        choices=("constant", "reflect", "edge", "wrap"),
    )
    normalization: str = setting(
        "none",
        "'window': by the root of the window's sum of squares (torchaudio's normalized=True); "
        "'frame_length': by that of num_fft.",
        choices=("none", "window", "frame_length"),
    )
    # Below 1 its derivative is infinite where a bin is empty.
    power: float = setting(
        2.0, "Of the magnitudes, before mel bands are summed; 1: magnitudes.", at_least=1
    )
    num_mels: int = setting(128, "Mel bands.", at_least=1)
    low_hz: float = setting(0.0, "Lower end of the lowest band, Hz.", at_least=0)
    high_hz: float | None = setting(
        None, "Upper end of the highest band, Hz; None: half the sample rate.", above=0
    )
    mel_scale: str = setting(
        "slaney", "Slaney's (1998, linear up to 1 kHz) or HTK's.", choices=("slaney", "htk")
    )
    mel_norm: str = setting(
        "slaney",
        "'slaney': bands of equal area; 'none': of height one.",
        choices=("slaney", "none"),
    )
    bin_frequencies: str = setting(
        "exact",
        "Frequencies of the bins: 'exact', or 'whole' as torchaudio has them, evenly spaced up to "
        "sample_rate_hz // 2 (which differs for odd rates and odd num_fft only).",
        choices=("exact", "whole"),
    )
    log: str = setting(
        "decibel",
        "'decibel': of what is at least floor; 'offset': log(x + floor).",
        choices=("decibel", "offset"),
    )
    floor: float = setting(1e-10, "See log.", above=0)
    reference: float = setting(1.0, "'decibel': what has 0 dB.", above=0)
    range_db: float | None = setting(
        80.0, "'decibel': kept below a sound's maximum, dB; None: everything.", above=0
    )

    def __post_init__(self):
        check_fields(self)
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
        """Samples of the window, that of a transform unless it is set."""
        return self.num_fft if self.window_length is None else self.window_length

    @property
    def resolved_hop_length(self) -> int:
        """Samples from frame to frame, a quarter of the window unless it is set."""
        return self.hop_length or max(1, self.resolved_window_length // 4)

    @property
    def resolved_high_hz(self) -> float:
        """Upper end of the mel filters, Hz: half the sample rate unless it is set."""
        if self.high_hz is not None:
            return self.high_hz
        half = self.sample_rate_hz / 2
        return float(half // 1) if self.bin_frequencies == "whole" else half

    @property
    def num_bins(self) -> int:
        """Frequencies of a transform."""
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
