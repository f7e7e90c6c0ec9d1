"""TensorFlow's mini_speech_commands: 8 words, 8,000 one-second recordings at 16 kHz.

The builder beside this file is TensorFlow Datasets' and works without TensorFlow. It downloads
TensorFlow's zip, or takes a given zip or folder of that layout: `<word>/<speaker>_nohash_<k>.wav`.
"""

import functools
import pathlib
import zipfile
from collections.abc import Mapping

from metamer_jax import configs
from metamer_jax.data import prepared, recordings, wav_folder
from metamer_jax.storage import cache


def source(config: configs.DataConfig) -> recordings.Source:
    """Describes the zip or folder that `config` gives, or TensorFlow's zip.

    Returns:
        Its recordings, prepared when its clips are asked for.

    Raises:
        ValueError: What is given is missing, no zip, or lacks a word.
    """
    words = config.words or configs.WORDS
    sources: tuple[pathlib.Path, ...] = ()
    identity: Mapping[str, str | int] = {"download": "tensorflow"}
    if config.data_dir is not None:
        folder = _find_folder(wav_folder.given_folder(config), words)
        found = wav_folder.find_words(folder)
        where, described = f"data_dir={str(folder)!r}", wav_folder.describe(folder)
        wav_folder.choose_words(words, found.sounds, where, described)
        paths = [p for word in words for p in (*found.sounds[word], *found.others[word])]
        identity = {"folder": folder.name, "listing": wav_folder.listing(folder, paths)}
        sources = (folder,)
    elif config.data_zip is not None:
        sources = (pathlib.Path(config.data_zip).expanduser(),)
        identity = _identify_zip(sources[0])

    @functools.cache
    def builder():
        from metamer_jax.data.mini_speech_commands import (
            mini_speech_commands_dataset_builder as module,
        )

        return prepared.builder_of(module, config, words, sources, identity, names=("zip",))

    return prepared.source(builder, identity, words)


def _find_folder(root: pathlib.Path, words: tuple[str, ...]) -> pathlib.Path:
    """Returns the folder that holds the words: the given one, or the only one in it that does."""

    def has_words(folder):
        return folder.is_dir() and any(
            wav_folder.composed(path.name) in words and path.is_dir() for path in folder.iterdir()
        )

    inner = [path for path in sorted(root.iterdir()) if has_words(path)]
    return inner[0] if len(inner) == 1 and not has_words(root) else root


def _identify_zip(path: pathlib.Path) -> dict[str, str | int]:
    """Returns a zip's content key: prepared data of two zips must not be taken for each other."""
    if not path.is_file():
        raise ValueError(f"data_zip must be a zip of <word>/*.wav, there is no file {str(path)!r}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"data_zip must be a zip of <word>/*.wav, {str(path)!r} is no zip")
    sha256 = cache.file_digest(path)
    return {"zip": path.name, "bytes": path.stat().st_size, "sha256": sha256}
