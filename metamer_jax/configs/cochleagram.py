"""How a waveform becomes a cochleagram, and the published settings by name."""

import dataclasses
import types
from collections.abc import Mapping

from metamer_jax.configs.checks import check_fields, require, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class CochleagramConfig:
    """How a waveform becomes a cochleagram; the defaults are the preset `speech_commands`.

    Defaults are those of Feather et al. (2019) at the paper's 16 kHz and 1 s: half-cosine
    filters evenly spaced on the ERB-number scale, Hilbert envelopes, low-passed and sampled at
    `envelope_rate_hz`, half-wave rectified, multiplied by `scale`, shifted by `offset`, compressed.
    """

    sample_rate_hz: int = setting(16000, "Samples per second, Hz; as the recordings.", at_least=1)
    duration_s: float = setting(1.0, "Length of a sound, s; as the recordings.", above=0)
    envelope_rate_hz: int = setting(
        200, "Frames per second, Hz; a divisor of the sample rate.", at_least=1
    )
    low_hz: float = setting(20.0, "Lowest centre frequency, Hz.", at_least=0)
    high_hz: float = setting(8000.0, "Highest centre frequency, Hz.", above=0)
    num_filters: int = setting(
        50, "Band-pass filters before oversampling by sample_factor.", at_least=1
    )
    sample_factor: int = setting(
        4, "1, 2 or 4 (any even number): how densely the same widths are placed.", at_least=1
    )
    lowpass_filter: bool = setting(
        True, "Keep the filters below low_hz that make the bank complete."
    )
    highpass_filter: bool = setting(True, "The same above high_hz.")
    compression: str = setting(
        "power",
        "How envelopes are compressed: a power, decibel, or not at all.",
        choices=("power", "decibel", "none"),
    )
    power: float = setting(0.3, "Exponent of the compression.", above=0)
    gradient_limit: float | None = setting(
        1.0, "Bound on the compression's derivative; None: unbounded.", above=0
    )
    offset: float = setting(0.0, "Added before the compression.", at_least=0)
    scale: float = setting(
        796.87416837456942, "Factor before the compression, of Feather et al. (2019).", above=0
    )
    rectification_gradient: str = setting(
        "zero",
        "Where the low-passed envelope is not positive: 'zero' is the derivative (tfcochleagram), "
        "'pass' lets the gradient through (chcochleagram), which can make a synthesis diverge.",
        choices=("zero", "pass"),
    )
    envelope_floor: float = setting(
        0.0,
        "Least magnitude of a subband, with gradient zero below; chcochleagram: 1e-8.",
        at_least=0,
    )
    waveform_limit: float | None = setting(
        None,
        "Sounds are clamped to +- this first; None: they are not. Feather et al. (2023): 1.",
        above=0,
    )
    lowpass_taps: int = setting(1001, "Length of the envelopes' low-pass, samples.", at_least=1)
    lowpass_padding: str = setting(
        "same",
        "'same' (zeros beyond the edges) or 'valid' (fewer frames).",
        choices=("same", "valid"),
    )
    method: str = setting(
        "dense", "'dense' (exact) or 'multirate' (fast).", choices=("dense", "multirate")
    )
    # `accuracy.within` sets the next two for a wanted exactness.
    oversampling: float = setting(3.0, "Multirate: points per bin of a subband.", at_least=2)
    lowpass_tolerance: float = setting(
        1e-4,
        "Multirate: the share of a frame's low-pass weights that may be left out.",
        above=0,
    )
    transform: str = setting(
        "auto",
        "Multirate: Fourier transforms as such, or as products for matrix units; 'auto': on TPUs.",
        choices=("auto", "fft", "matmul"),
    )

    def __post_init__(self):
        check_fields(self)
        require(
            self.sample_factor == 1 or self.sample_factor % 2 == 0,
            f"sample_factor must be 1 or even (an odd one changes the filters' widths), "
            f"got {self.sample_factor}",
        )
        require(
            self.low_hz < self.high_hz,
            f"low_hz must lie in [0, high_hz), got low_hz={self.low_hz}, high_hz={self.high_hz}",
        )
        require(
            self.high_hz <= self.sample_rate_hz / 2,
            f"high_hz must not exceed half the sample rate ({self.sample_rate_hz / 2} Hz), "
            f"got {self.high_hz}",
        )
        if self.sample_rate_hz % self.envelope_rate_hz:
            divisors = divisors_by_nearness(self.sample_rate_hz, self.envelope_rate_hz)
            raise ValueError(
                f"envelope_rate_hz must divide sample_rate_hz={self.sample_rate_hz} (frames lie on "
                f"samples), got {self.envelope_rate_hz}; the nearest that do are "
                f"{tuple(sorted(divisors[:2]))}"
            )
        require(self.num_samples >= 2, f"duration_s={self.duration_s} holds no two samples")
        require(
            self.lowpass_padding == "same" or self.num_samples >= self.lowpass_taps,
            f"lowpass_padding='valid' needs at least lowpass_taps={self.lowpass_taps} samples, "
            f"got {self.num_samples}",
        )
        require(
            self.compression != "decibel" or self.offset > 0,
            "compression='decibel' needs offset > 0: the logarithm of an empty frame is -inf",
        )
        unbounded = self.power < 1 and self.gradient_limit is None and self.offset == 0
        require(
            not unbounded or self.compression != "power" or self.rectification_gradient != "pass",
            "rectification_gradient='pass' needs a gradient_limit or offset > 0: the derivative of "
            f"a power of {self.power} is infinite at zero",
        )

    @property
    def num_samples(self) -> int:
        """Samples of a sound."""
        return round(self.sample_rate_hz * self.duration_s)

    @property
    def stride(self) -> int:
        """Samples per frame."""
        return self.sample_rate_hz // self.envelope_rate_hz

    @property
    def num_frames(self) -> int:
        """Frames of a cochleagram."""
        if self.lowpass_padding == "same":
            return -(-self.num_samples // self.stride)
        return (self.num_samples - self.lowpass_taps) // self.stride + 1

    @property
    def num_channels(self) -> int:
        """Channels of a cochleagram, low- and high-pass filters among them."""
        ends = self.sample_factor * (self.lowpass_filter + self.highpass_filter)
        return self.sample_factor * (self.num_filters + 1) - 1 + ends


def divisors_by_nearness(number: int, wanted: int) -> list[int]:
    """Lists the divisors of a number, the nearest to the one that is wanted first."""
    divisors = [n for n in range(1, number + 1) if number % n == 0]
    return sorted(divisors, key=lambda n: abs(n - wanted))


COCHLEAGRAMS: Mapping[str, CochleagramConfig] = types.MappingProxyType(
    {
        "speech_commands": CochleagramConfig(),
        "feather2019": CochleagramConfig(sample_rate_hz=20000, duration_s=2.0),
        # Held to the original's numbers (tests/cochleagram/feather2023_test.py). With
        # method="multirate" it is 6e-4 off on a voice and 5e-5 on the noise of rms 1e-7 where
        # synthesis begins, whose envelopes the floor flattens; cosines of gradients .9999, .9987.
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
            envelope_floor=1e-8,
            waveform_limit=1.0,
        ),
    }
)
