"""How sounds are played to people."""

import dataclasses

from metamer_jax.configs.checks import check_fields, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlaybackConfig:
    """What stands between a waveform and the 16-bit file that is played.

    The mean is taken out, both ends are faded, and the sound is brought to `level_db`. A sound
    whose peak would then exceed `peak` is played at the highest level at which it does not: that
    sound alone.
    """

    level_db: float = setting(
        -23.0, "RMS of every sound, dB re full scale (an RMS of 1.0).", at_least=-60, below=0
    )
    ramp_s: float = setting(0.01, "Raised cosine at either end of a sound, s.", at_least=0)
    peak: float = setting(
        1.0, "Largest magnitude of a sample, full scale being 1.", above=0, at_most=1
    )

    def __post_init__(self):
        check_fields(self)
