"""What networks hear besides cochleagrams: spectrograms as librosa and torchaudio make them."""

from metamer_jax.front_ends.spectrograms import SpectrogramFilters as SpectrogramFilters
from metamer_jax.front_ends.spectrograms import design_spectrogram as design_spectrogram
from metamer_jax.front_ends.spectrograms import log_mel as log_mel
from metamer_jax.front_ends.spectrograms import mel_spectrogram as mel_spectrogram
from metamer_jax.front_ends.spectrograms import stft as stft
