"""mini_speech_commands as a TensorFlow Datasets builder that works without TensorFlow."""

import dataclasses
import pathlib
from collections.abc import Iterable

import tensorflow_datasets as tfds

from metamer_jax import configs
from metamer_jax.data import archives, examples, wav_folder

URL = "http://storage.googleapis.com/download.tensorflow.org/data/mini_speech_commands.zip"


@dataclasses.dataclass
class BuilderConfig(tfds.core.BuilderConfig):
    """Where the recordings come from, and which words are taken.

    `name` must differ between contents: prepared data are found again by it.
    """

    words: tuple[str, ...] = configs.WORDS
    data_zip: str | None = None  # A zip of [.../]<word>/*.wav; None and no folder: download it.
    data_dir: str | None = None  # A folder of <word>/*.wav.
    # Leave out files that are no usable sound; the info's metadata then names them.
    skip_bad_files: bool = False


class Builder(tfds.core.GeneratorBasedBuilder):
    """Words of Speech Commands (Warden 2018), as TensorFlow's tutorial selects them.

    Its one split "train" holds everything: the project draws its own splits.

        builder = Builder(data_dir=..., file_format="array_record")
        builder.download_and_prepare()
        source = builder.as_data_source("train")
    """

    VERSION = tfds.core.Version("1.1.0")
    BUILDER_CONFIGS = [
        # pyrefly: ignore[unexpected-keyword]: tfds's own fields
        BuilderConfig(name="tensorflow", description="TensorFlow's zip: 8 words, 1000 clips each.")
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return examples.info(self, "https://www.tensorflow.org/tutorials/audio/simple_audio")

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        config = self.builder_config
        # Read in place: nothing is gained by unpacking thousands of files.
        given = config.data_dir or config.data_zip or dl_manager.download(URL)
        sources = [pathlib.Path(given)]
        held = archives.survey(sources)
        words = wav_folder.choose_words(config.words, held.words, str(given))
        self.info.metadata["passed_over"] += held.others_of(words)
        total = sum(held.words[word] for word in words)
        return {"train": self._generate_examples(archives.sounds(sources, words), total)}

    def _generate_examples(self, files: Iterable[tuple[str, archives.Content]], total: int):
        def about(file):
            return {"label": file.split("/")[0]}

        yield from examples.decode(self, files, about, total=total)
