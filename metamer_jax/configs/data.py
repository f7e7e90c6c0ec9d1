"""Which recordings, and how they are split."""

import dataclasses

from metamer_jax.configs.checks import require, require_choice, require_positive

WORDS = ("down", "go", "left", "no", "right", "stop", "up", "yes")
# Of Speech Commands v0.02 (Warden 2018).
SPEECH_COMMANDS_WORDS = tuple(
    "backward bed bird cat dog down eight five follow forward four go happy house learn left "
    "marvin nine no off on one right seven sheila six stop three tree two up visual wow yes "
    "zero".split()
)
DATASETS = ("spoken_words", "mini_speech_commands", "speech_commands", "wav_folder")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which recordings, and how they are split."""

    dataset: str = "spoken_words"  # One of DATASETS.
    # Empty: the paper's WORDS; with `speech_commands` all 35, with `wav_folder` every folder.
    words: tuple[str, ...] = ()
    sample_rate_hz: int = 16000
    duration_s: float = 1.0
    # "random" (80/10/10 over clips), "speaker" (disjoint voices), "official" (`speech_commands`,
    # by the archive's lists), or "auto": official where there are such lists, by speaker for
    # `spoken_words`, whose every voice is one formula, else random.
    split: str = "auto"
    seed: int = 0  # Of the split.
    data_dir: str | None = None  # A folder of <word>/*.wav.
    # TensorFlow's mini_speech_commands.zip, or one laid out like it; with `speech_commands` any
    # .zip, .tar or .tar.gz of <word>/*.wav, or several with commas between.
    data_zip: str | None = None
    cache_dir: str | None = None  # None: $METAMER_JAX_CACHE or ~/.cache/metamer_jax.
    skip_bad_files: bool = False
    num_speakers: int = 200  # spoken_words only.
    tokens_per_word: int = 5  # spoken_words only: tokens of each word by each speaker.
    corpus_seed: int = 0  # spoken_words only: another one makes other voices.

    def __post_init__(self):
        require_choice("dataset", self.dataset, DATASETS)
        require_choice("split", self.split, ("auto", "random", "speaker", "official"))
        require(
            self.split != "official" or self.dataset == "speech_commands",
            f"split='official' needs dataset='speech_commands', got dataset={self.dataset!r}",
        )
        require_positive(
            sample_rate_hz=self.sample_rate_hz,
            duration_s=self.duration_s,
            num_speakers=self.num_speakers,
            tokens_per_word=self.tokens_per_word,
        )
        for name in ("sample_rate_hz", "num_speakers", "tokens_per_word"):
            value = getattr(self, name)
            require(int(value) == value, f"{name} must be a whole number, got {value!r}")
        for name in ("seed", "corpus_seed"):
            value = getattr(self, name)
            require(
                isinstance(value, int) and value >= 0,
                f"{name} must be a whole number, not negative, got {value!r}",
            )
        require(
            not isinstance(self.words, str) and len(self.words) != 1,
            f"words must name at least two words, got {self.words!r}",
        )
        require(len(set(self.words)) == len(self.words), f"words repeat: {self.words}")
        require(
            self.dataset != "wav_folder" or self.data_dir is not None,
            "dataset='wav_folder' needs data_dir, the folder that holds <word>/*.wav",
        )
        require(
            self.data_dir is None or self.data_zip is None,
            f"data_dir and data_zip exclude each other, got {self.data_dir} and {self.data_zip}",
        )

    @property
    def num_samples(self) -> int:
        return round(self.sample_rate_hz * self.duration_s)

    @property
    def resolved_split(self) -> str:
        """The rule that "auto" stands for where the recordings bring no split of their own."""
        if self.split != "auto":
            return self.split
        return "speaker" if self.dataset == "spoken_words" else "random"
