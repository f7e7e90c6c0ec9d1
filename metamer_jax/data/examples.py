"""Examples of clips, as our builders of TensorFlow Datasets describe and write them."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from metamer_jax import audio
from metamer_jax.data import archives, recordings, wav_folder
from metamer_jax.runtime import progress


@dataclasses.dataclass
class BuilderConfig(tfds.core.BuilderConfig):
    """Where the recordings come from, and which words are taken.

    `name` must differ between contents: prepared data are found again by it.
    """

    words: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()  # Archives or folders of [.../]<word>/*.wav; none: download.
    # Leave out files that are no usable sound; the info's metadata then names them.
    skip_bad_files: bool = False


def info(
    builder: tfds.core.GeneratorBasedBuilder, homepage: str, **features: Any
) -> tfds.core.DatasetInfo:
    """Describes a data set of clips.

    Args:
        builder: Its config has `words`.
        homepage: Where the recordings are from.
        features: What an example holds besides, by name.

    Returns:
        What tfds wants to know of a data set before it is made.
    """
    return builder.dataset_info_from_configs(
        features=tfds.features.FeaturesDict(
            {
                # Not features.Audio, which needs TensorFlow.
                "audio": tfds.features.Tensor(shape=(None,), dtype=np.float32, encoding="bytes"),
                "sample_rate_hz": tfds.features.Scalar(dtype=np.int32),
                "label": tfds.features.ClassLabel(names=builder.builder_config.words),
                "speaker": tfds.features.Text(),
                "file": tfds.features.Text(),  # "<word>/<file name>"
                **features,
            }
        ),
        supervised_keys=("audio", "label"),
        homepage=homepage,
        metadata=tfds.core.MetadataDict(bad_files={}, passed_over=[]),
    )


def survey(
    builder: tfds.core.GeneratorBasedBuilder, dl_manager: tfds.download.DownloadManager, url: str
) -> tuple[archives.Survey, Iterator[tuple[str, archives.Content]], int]:
    """Looks at what a builder's sources hold, in place: nothing is gained by unpacking them.

    Args:
        builder: Its config has `words` and `sources`; its info then names what is passed over.
        dl_manager: Downloads where there are no sources.
        url: From where.

    Returns:
        What there is, the files of the words, and how many these are.

    Raises:
        ValueError: A source cannot be used, or lacks a word.
    """
    config = builder.builder_config
    sources = [pathlib.Path(s) for s in config.sources or (dl_manager.download(url),)]
    held = archives.survey(sources)
    words = wav_folder.choose_words(config.words, held.words, ", ".join(map(str, sources)))
    builder.info.metadata["passed_over"] += held.others_of(words)
    return held, archives.sounds(sources, words), sum(held.words[word] for word in words)


def decode(
    builder: tfds.core.GeneratorBasedBuilder,
    files: Iterable[tuple[str, archives.Content]],
    about: Callable[[str], dict[str, Any]],
    *,
    total: int,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the example of each file.

    Args:
        builder: Its config says whether bad files are left out; its info then names them.
        files: "<word>/<name>.wav" and what is in it, or why that cannot be used.
        about: Tells of such a name what an example holds that the sound does not say: its label.
        total: How many files there are.

    Raises:
        AudioFileError: A file is no usable sound, and such files are not left out.
    """
    with progress.bar(total, f"reading {builder.name}", unit="clip") as shown:
        for file, data in files:
            shown.update()
            try:
                if isinstance(data, audio.AudioFileError):
                    raise audio.AudioFileError(file, data.reason)
                samples, sample_rate_hz = audio.decode(data, file)
            except audio.AudioFileError as error:
                if not builder.builder_config.skip_bad_files:
                    raise
                builder.info.metadata["bad_files"][file] = error.reason
                continue
            example = {
                "audio": samples,
                "sample_rate_hz": sample_rate_hz,
                "speaker": recordings.speaker_of(pathlib.PurePosixPath(file).stem),
                "file": file,
            }
            yield file, example | about(file)
