"""How a waveform becomes a cochleagram, and the published settings by name."""

import dataclasses
import math
import types
from collections.abc import Mapping

from metamer_jax.configs.checks import require, require_choice, require_positive


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
        require_positive(
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
        require_choice("compression", self.compression, ("power", "decibel", "none"))
        require_choice("rectification_gradient", self.rectification_gradient, ("zero", "pass"))
        require_choice("lowpass_padding", self.lowpass_padding, ("same", "valid"))
        require_choice("method", self.method, ("dense", "multirate"))
        require_choice("transform", self.transform, ("auto", "fft", "matmul"))
        for name in ("num_filters", "sample_factor", "lowpass_taps"):
            value = getattr(self, name)
            require(isinstance(value, int), f"{name} must be a whole number (int), got {value!r}")
        require(
            self.sample_factor == 1 or self.sample_factor % 2 == 0,
            f"sample_factor must be 1 or even (an odd one changes the filters' widths), "
            f"got {self.sample_factor}",
        )
        require(
            0 <= self.low_hz < self.high_hz,
            f"low_hz must lie in [0, high_hz), got low_hz={self.low_hz}, high_hz={self.high_hz}",
        )
        require(
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
        require(self.num_samples >= 2, f"duration_s={self.duration_s} holds no two samples")
        require(
            self.lowpass_padding == "same" or self.num_samples >= self.lowpass_taps,
            f"lowpass_padding='valid' needs at least lowpass_taps={self.lowpass_taps} samples, "
            f"got {self.num_samples}",
        )
        if self.gradient_limit is not None:
            require_positive(gradient_limit=self.gradient_limit)
        require(
            self.offset >= 0 and math.isfinite(self.offset),
            f"offset must be non-negative, got {self.offset!r}",
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
        require(self.oversampling >= 2, f"oversampling must be at least 2, got {self.oversampling}")

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
