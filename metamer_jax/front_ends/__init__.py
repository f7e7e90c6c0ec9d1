"""What networks hear besides cochleagrams: spectrograms as librosa and torchaudio make them."""

from metamer_jax.front_ends.spectrograms import (
    SpectrogramFilters,
    design_spectrogram,
    log_mel,
    mel_spectrogram,
    stft,
)

__all__ = [
    "SpectrogramFilters",
    "design_spectrogram",
    "log_mel",
    "mel_spectrogram",
    "stft",
]
