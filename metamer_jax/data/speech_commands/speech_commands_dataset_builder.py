"""Speech Commands v0.02 as a TensorFlow Datasets builder that works without TensorFlow."""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from metamer_jax import audio, configs, progress
from metamer_jax.data import archives, recordings, wav_folder

URL = "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"


@dataclasses.dataclass
class BuilderConfig(tfds.core.BuilderConfig):
    """Where the recordings come from, and which words are taken.

    `name` must differ between contents: prepared data are found again by it.
    """

    words: tuple[str, ...] = configs.SPEECH_COMMANDS_WORDS
    sources: tuple[str, ...] = ()  # Archives or folders of [.../]<word>/*.wav; none: download.
    # Leave out files that are no usable sound; the info's metadata then names them.
    skip_bad_files: bool = False


class Builder(tfds.core.GeneratorBasedBuilder):
    """All words of Speech Commands (Warden 2018); TensorFlow's catalogue has 12 labels of it.

    Its split "train" holds every word's recordings: `official_split` of each is "train",
    "validation" or "test" by the archive's lists, "" where there are none. The split "noise" holds
    what is in `archives.NOISE_FOLDERS`, with label -1; there is none where there is no noise.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        BuilderConfig(name="official", description="The archive of v0.02: 35 words, 105,829 clips.")
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    # Not features.Audio, which needs TensorFlow.
                    "audio": tfds.features.Tensor(
                        shape=(None,), dtype=np.float32, encoding="bytes"
                    ),
                    "sample_rate_hz": tfds.features.Scalar(dtype=np.int32),
                    "label": tfds.features.ClassLabel(names=self.builder_config.words),
                    "speaker": tfds.features.Text(),
                    "file": tfds.features.Text(),  # "<word>/<file name>"
                    "official_split": tfds.features.Text(),
                }
            ),
            supervised_keys=("audio", "label"),
            homepage="https://arxiv.org/abs/1804.03209",
            metadata=tfds.core.MetadataDict(bad_files={}),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        config = self.builder_config
        # Read in place: nothing is gained by unpacking a hundred thousand files.
        sources = [pathlib.Path(s) for s in config.sources or (dl_manager.download(URL),)]
        held = archives.survey(sources)
        where = ", ".join(map(str, sources))
        wav_folder.choose_words(config.words, held.words, where)
        sounds = archives.sounds(sources, config.words)
        generators = {"train": self._generate_examples(_counted(sounds), held.official)}
        if held.noise:
            generators["noise"] = self._generate_examples(held.noise.items(), None)
        return generators

    def _generate_examples(
        self, files: Iterable[tuple[str, bytes]], official: dict[str, str] | None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for file, data in files:
            folder, name = file.split("/")
            try:
                samples, sample_rate_hz = audio.decode(data, file)
            except audio.AudioFileError as error:
                if not self.builder_config.skip_bad_files:
                    raise
                self.info.metadata["bad_files"][file] = error.reason
                continue
            yield (
                file,
                {
                    "audio": samples,
                    "sample_rate_hz": sample_rate_hz,
                    "label": -1 if folder in archives.NOISE_FOLDERS else folder,
                    "speaker": recordings.speaker_of(pathlib.PurePosixPath(name).stem),
                    "file": file,
                    "official_split": "" if official is None else official.get(file, "train"),
                },
            )


def _counted(files):
    """Passes files on with a bar; how many there are is not known beforehand."""
    with progress.bar(None, "reading Speech Commands", unit="clip") as shown:
        for file in files:
            yield file
            shown.update()
