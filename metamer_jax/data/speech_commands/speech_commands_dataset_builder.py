"""Speech Commands v0.02 as a TensorFlow Datasets builder that works without TensorFlow."""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow_datasets as tfds

from metamer_jax import configs
from metamer_jax.data import archives, examples, wav_folder

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

    VERSION = tfds.core.Version("1.1.0")
    BUILDER_CONFIGS = [
        # pyrefly: ignore[unexpected-keyword]: tfds's own fields
        BuilderConfig(name="official", description="The archive of v0.02: 35 words, 105,829 clips.")
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return examples.info(
            self, "https://arxiv.org/abs/1804.03209", official_split=tfds.features.Text()
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        config = self.builder_config
        # Read in place: nothing is gained by unpacking a hundred thousand files.
        sources = [pathlib.Path(s) for s in config.sources or (dl_manager.download(URL),)]
        held = archives.survey(sources)
        words = wav_folder.choose_words(config.words, held.words, ", ".join(map(str, sources)))
        self.info.metadata["passed_over"] += held.others_of(words)
        sounds = archives.sounds(sources, words)
        total = sum(held.words[word] for word in words)
        generators = {"train": self._generate_examples(sounds, total, held.official)}
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
