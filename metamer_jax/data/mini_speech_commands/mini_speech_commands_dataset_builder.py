"""mini_speech_commands as a TensorFlow Datasets builder that works without TensorFlow."""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator

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

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        # pyrefly: ignore[unexpected-keyword]: tfds's own fields
        BuilderConfig(name="tensorflow", description="TensorFlow's zip: 8 words, 1000 clips each.")
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return examples.info(self, "https://www.tensorflow.org/tutorials/audio/simple_audio")

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        config = self.builder_config
        if config.data_dir is not None:
            files = _read_folder(pathlib.Path(config.data_dir), config.words)
            return {"train": self._generate_examples(*files)}
        # Read in place: nothing is gained by unpacking thousands of files.
        archive = pathlib.Path(config.data_zip or dl_manager.download(URL))
        held = archives.survey([archive]).words
        words = wav_folder.choose_words(config.words, held, str(archive))
        sounds = archives.sounds([archive], words)
        return {"train": self._generate_examples(sounds, sum(held[word] for word in words))}

    def _generate_examples(self, files: Iterable[tuple[str, bytes]], total: int):
        def about(file):
            return {"label": file.split("/")[0]}

        yield from examples.decode(self, files, about, total=total)


def _read_folder(
    root: pathlib.Path, words: tuple[str, ...]
) -> tuple[Iterator[tuple[str, bytes]], int]:
    """Returns "<word>/<name>" and the bytes of each file of a folder, and how many they are."""
    found = wav_folder.find_words(root, (".wav",))
    words = wav_folder.choose_words(words, found, str(root))
    paths = [path for word in sorted(words) for path in found[word]]
    return ((f"{path.parent.name}/{path.name}", path.read_bytes()) for path in paths), len(paths)
