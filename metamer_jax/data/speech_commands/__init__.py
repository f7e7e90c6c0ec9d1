"""Speech Commands v0.02: 35 words, 105,829 one-second recordings at 16 kHz, and noise.

The builder beside this file downloads the official archive, or takes given ones (.zip, .tar,
.tar.gz; several are joined) or a folder of its layout: `<word>/<speaker>_nohash_<k>.wav`,
`_background_noise_/*.wav`, and the official split's `validation_list.txt` and `testing_list.txt`.
All words together are 6.8 GB of samples, which the cache folder and training both hold twice.
"""

import functools
import pathlib
from collections.abc import Iterator

import numpy as np

from metamer_jax import audio, configs
from metamer_jax.data import archives, prepared, recordings, wav_folder
from metamer_jax.storage import cache


def source(config: configs.DataConfig) -> recordings.Source:
    """Describes the archives or folder that `config` gives, or the official archive.

    Returns:
        Their recordings, prepared when the clips are asked for.

    Raises:
        ValueError: What is given is missing or no archive.
    """
    words = config.words or configs.SPEECH_COMMANDS_WORDS
    sources, identity = _identify(config)

    @functools.cache
    def builder():
        from metamer_jax.data.speech_commands import speech_commands_dataset_builder as module

        names = ("archives", "folder")
        return prepared.builder_of(module, config, words, sources, identity, names=names)

    return prepared.source(
        builder, identity, words, noise=lambda: _noise(builder(), config), official=True
    )


def _identify(config):
    """Returns the given sources, and what tells their content from others'."""
    if config.data_dir is not None:
        root = wav_folder.given_folder(config)
        paths = sorted(path for path in root.rglob("*") if not path.is_dir())
        return (root,), {"folder": root.name, "listing": wav_folder.listing(root, paths)}
    if config.data_zip is None:
        return (), {"download": "speech_commands_v0.02"}
    paths = tuple(pathlib.Path(part).expanduser() for part in config.data_zip.split(","))
    for path in paths:
        archives.check(path)
    digests = [cache.file_digest(path) for path in paths]
    return paths, {"archives": [path.name for path in paths], "sha256": digests}


def _noise(builder, config) -> Iterator[np.ndarray]:
    """Yields pieces [time] of the background noise, end to end, without the silent ones."""
    if "noise" not in builder.info.splits:
        return
    clips = prepared.read(builder, "noise")
    # Errors are named with the words' files.
    clips = [clip for clip in clips if not isinstance(clip, audio.AudioFileError)]
    for clip in sorted(clips, key=lambda clip: clip.name):
        samples = audio.resample(clip.samples, clip.sample_rate_hz, config.sample_rate_hz)
        if len(samples) < config.num_samples:
            samples = np.resize(samples, config.num_samples)  # Repeated.
        whole = len(samples) // config.num_samples * config.num_samples
        for piece in samples[:whole].reshape(-1, config.num_samples):
            if np.std(piece, dtype=np.float64) >= audio.SILENCE_RMS:
                yield audio.normalize(piece)
