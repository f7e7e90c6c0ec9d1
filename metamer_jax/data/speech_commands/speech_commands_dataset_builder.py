"""Speech Commands v0.02 as a TensorFlow Datasets builder that works without TensorFlow."""

from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow_datasets as tfds

from metamer_jax import configs
from metamer_jax.data import archives, examples

URL = "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"


class Builder(tfds.core.GeneratorBasedBuilder):
    """All words of Speech Commands (Warden 2018); TensorFlow's catalogue has 12 labels of it.

    Its split "train" holds every word's recordings: `official_split` of each is "train",
    "validation" or "test" by the archive's lists, "" where there are none. The split "noise" holds
    what is in `archives.NOISE_FOLDERS`, with label -1; there is none where there is no noise.
    """

    VERSION = tfds.core.Version("1.1.0")
    BUILDER_CONFIGS = [
        examples.BuilderConfig(
            name="official",  # pyrefly: ignore[unexpected-keyword]: tfds's own field
            # pyrefly: ignore[unexpected-keyword]: tfds's own field
            description="The archive of v0.02: 35 words, 105,829 clips.",
            words=configs.SPEECH_COMMANDS_WORDS,
        )
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return examples.info(
            self, "https://arxiv.org/abs/1804.03209", official_split=tfds.features.Text()
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        held, files, total = examples.survey(self, dl_manager, URL)
        generators = {"train": self._generate_examples(files, total, held.official)}
        if held.noise:
            noise = held.noise.items()
            generators["noise"] = self._generate_examples(noise, len(noise), None)
        return generators

    def _generate_examples(
        self,
        files: Iterable[tuple[str, archives.Content]],
        total: int,
        official: dict[str, str] | None,
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        def about(file):
            folder = file.split("/")[0]
            return {
                "label": -1 if folder in archives.NOISE_FOLDERS else folder,
                "official_split": "" if official is None else official.get(file, "train"),
            }

        yield from examples.decode(self, files, about, total=total)
