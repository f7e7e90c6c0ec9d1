"""Which recordings, and how they are split."""

import dataclasses
import unicodedata

from metamer_jax.configs.checks import check_fields, require, seed_setting, setting

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

    dataset: str = setting("spoken_words", "Recordings to use.", choices=DATASETS)
    words: tuple[str, ...] = setting(
        (),
        "Words to use, e.g. yes,no,stop. Empty: the paper's eight; with speech_commands all 35, "
        "with wav_folder every folder.",
    )
    sample_rate_hz: int = setting(16000, "Samples per second, Hz.", at_least=1)
    duration_s: float = setting(1.0, "Length of a recording, s.", above=0)
    allow_padding: bool = setting(
        True, "Fill recordings that are shorter than duration_s up with zeros; else refuse them."
    )
    allow_upsampling: bool = setting(
        True, "Resample recordings of a lower rate than sample_rate_hz; else refuse them."
    )
    split: str = setting(
        "auto",
        "'random' (80/10/10 over clips), 'speaker' (disjoint voices), 'official' (speech_commands, "
        "by the archive's lists), or 'auto': official where there are such lists, by speaker for "
        "spoken_words, whose every voice is one formula, else random.",
        choices=("auto", "random", "speaker", "official"),
    )
    seed: int = seed_setting(0, "Seed of the split.")
    data_dir: str | None = setting(
        None, "A folder that holds <word>/*.wav (flac, ogg, mp3, aiff, ...)."
    )
    data_zip: str | None = setting(
        None,
        "mini_speech_commands, speech_commands: take this archive instead of downloading "
        "TensorFlow's; speech_commands takes a zip, tar or tar.gz of <word>/*.wav, and several "
        "with commas between.",
    )
    cache_dir: str | None = setting(
        None, "Where prepared recordings are kept. None: $METAMER_JAX_CACHE or the user's cache."
    )
    skip_bad_files: bool = setting(
        False, "Leave out sound files that cannot be used, and count them."
    )
    num_speakers: int = setting(200, "spoken_words: how many voices.", at_least=1)
    tokens_per_word: int = setting(
        5, "spoken_words: recordings of each word by each voice.", at_least=1
    )
    corpus_seed: int = seed_setting(0, "spoken_words: another one makes other voices.")

    def __post_init__(self):
        check_fields(self)
        # Folders' names are compared composed; macOS has them otherwise, and shells hand that on.
        words = tuple(unicodedata.normalize("NFC", word) for word in self.words)
        require(len(set(words)) == len(words), f"words repeat: {words}")
        object.__setattr__(self, "words", words)
        require(
            self.split != "official" or self.dataset == "speech_commands",
            f"split='official' needs dataset='speech_commands', got dataset={self.dataset!r}",
        )
        require(len(self.words) != 1, f"words must name at least two words, got {self.words!r}")
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
        """Samples of a recording."""
        return round(self.sample_rate_hz * self.duration_s)

    @property
    def resolved_split(self) -> str:
        """The rule that "auto" stands for where the recordings bring no split of their own."""
        if self.split != "auto":
            return self.split
        return "speaker" if self.dataset == "spoken_words" else "random"
