"""Recordings of spoken words from four kinds of source, through one function."""

from metamer_jax import configs
from metamer_jax.data import (
    mini_speech_commands,
    recordings,
    speech_commands,
    spoken_words,
    wav_folder,
)
from metamer_jax.data.recordings import Recordings

__all__ = ["Recordings", "SOURCES", "load"]

SOURCES = {
    "spoken_words": spoken_words.source,
    "mini_speech_commands": mini_speech_commands.source,
    "speech_commands": speech_commands.source,
    "wav_folder": wav_folder.source,
}


def load(config: configs.DataConfig) -> Recordings:
    """Returns the recordings that `config` describes; later calls take them from the cache.

    Args:
        config: Which recordings, at what rate and length, and how they are split.

    Raises:
        ValueError: A file cannot be used (an `audio.AudioFileError`, which names it), a word has
            no recordings, or the split cannot be made.
        ImportError: The source needs a library that is not installed.
        ConnectionError: A download failed.
    """
    return recordings.load(SOURCES[config.dataset](config), config)
