"""How sounds are played to people."""

import dataclasses

from metamer_jax.configs.checks import require, require_positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlaybackConfig:
    """What stands between a waveform and the 16-bit file that is played.

    The mean is taken out, both ends are faded, and the sound is brought to `level_db`. A sound
    whose peak would then exceed `peak` is played at the highest level at which it does not: that
    sound alone.
    """

    level_db: float = -23.0  # RMS, dB re full scale (an RMS of 1.0).
    ramp_s: float = 0.01  # Raised cosine at either end.
    peak: float = 1.0  # Largest magnitude of a sample, full scale being 1.

    def __post_init__(self):
        require_positive(peak=self.peak)
        require(self.peak <= 1, f"peak must be at most 1 (full scale), got {self.peak}")
        require(
            -60 <= self.level_db < 0,
            f"level_db must lie in [-60, 0) dB re full scale, got {self.level_db}",
        )
        require(self.ramp_s >= 0, f"ramp_s must not be negative, got {self.ramp_s}")
