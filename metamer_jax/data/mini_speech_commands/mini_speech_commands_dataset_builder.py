"""mini_speech_commands as a TensorFlow Datasets builder that works without TensorFlow."""

from collections.abc import Iterable

import tensorflow_datasets as tfds

from metamer_jax import configs
from metamer_jax.data import archives, examples

URL = "http://storage.googleapis.com/download.tensorflow.org/data/mini_speech_commands.zip"


class Builder(tfds.core.GeneratorBasedBuilder):
    """Words of Speech Commands (Warden 2018), as TensorFlow's tutorial selects them.

    Its one split "train" holds everything: the project draws its own splits.

        builder = Builder(data_dir=..., file_format="array_record")
        builder.download_and_prepare()
        source = builder.as_data_source("train")
    """

    VERSION = tfds.core.Version("1.1.0")
    BUILDER_CONFIGS = [
        examples.BuilderConfig(
            name="tensorflow",  # pyrefly: ignore[unexpected-keyword]: tfds's own field
            # pyrefly: ignore[unexpected-keyword]: tfds's own field
            description="TensorFlow's zip: 8 words, 1000 clips each.",
            words=configs.WORDS,
        )
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return examples.info(self, "https://www.tensorflow.org/tutorials/audio/simple_audio")

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        _, files, total = examples.survey(self, dl_manager, URL)
        return {"train": self._generate_examples(files, total)}

    def _generate_examples(self, files: Iterable[tuple[str, archives.Content]], total: int):
        def about(file):
            return {"label": file.split("/")[0]}

        yield from examples.decode(self, files, about, total=total)
