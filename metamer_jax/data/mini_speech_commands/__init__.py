"""TensorFlow's mini_speech_commands: 8 words, 8,000 one-second recordings at 16 kHz.

The builder beside this file is TensorFlow Datasets' and works without TensorFlow. It downloads
TensorFlow's zip, or takes a given zip or folder of that layout: `<word>/<speaker>_nohash_<k>.wav`.
"""

import functools
import hashlib
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

from metamer_jax import audio, configs
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
    folder = None
    identity: Mapping[str, str | int]
    if config.data_dir is not None:
        folder = _find_folder(pathlib.Path(config.data_dir).expanduser(), words)
        found = wav_folder.find_words(folder)
        where, described = f"data_dir={str(folder)!r}", wav_folder.describe(folder)
        wav_folder.choose_words(words, found.sounds, where, described)
        paths = [p for word in words for p in (*found.sounds[word], *found.others[word])]
        identity = {"folder": folder.name, "listing": wav_folder.listing(folder, paths)}
    elif config.data_zip is not None:
        identity = _identify_zip(pathlib.Path(config.data_zip).expanduser())
    else:
        identity = {"download": "tensorflow"}
    builder = functools.cache(lambda: _builder(config, words, identity, folder))

    def clips():
        try:
            yield from prepared.read(builder())
        except audio.AudioFileError as error:
            yield error

    return recordings.Source(
        identity=identity,
        words=words,
        num_clips=None,
        clips=clips,
        passed_over=lambda: builder().info.metadata["passed_over"],
    )


def _find_folder(root: pathlib.Path, words: tuple[str, ...]) -> pathlib.Path:
    """Returns the folder that holds the words: the given one, or the only one in it that does."""
    if not root.is_dir():
        raise ValueError(f"data_dir must be a folder of <word>/*.wav, got {str(root)!r}")

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
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {"zip": path.name, "bytes": path.stat().st_size, "sha256": sha256}


def _builder(
    config: configs.DataConfig,
    words: tuple[str, ...],
    identity: Mapping[str, str | int],
    folder: pathlib.Path | None,
) -> Any:
    """Prepares the data set where it is not yet."""
    from metamer_jax.data.mini_speech_commands import (
        mini_speech_commands_dataset_builder as dataset_builder,
    )

    content = {key: value for key, value in identity.items() if key != "zip"}
    name = f"{next(iter(content))}-{cache.digest([content, list(words)])}"
    builder_config = dataset_builder.BuilderConfig(
        name=name,  # pyrefly: ignore[unexpected-keyword]: tfds's own field
        # pyrefly: ignore[unexpected-keyword]: tfds's own field
        description=f"Made from {', '.join(f'{k} {v}' for k, v in identity.items())}.",
        words=words,
        data_zip=config.data_zip and str(pathlib.Path(config.data_zip).expanduser()),
        data_dir=None if folder is None else str(folder),
        skip_bad_files=config.skip_bad_files,
    )
    return prepared.builder_of(
        dataset_builder,
        builder_config,
        config.cache_dir,
        given=f"data_zip {config.data_zip}",
        download="download" in identity,
    )
