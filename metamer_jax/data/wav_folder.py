"""Anybody's recordings: a folder with one folder a word, of wav, flac, ogg, mp3 or other files."""

import collections
import pathlib
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from metamer_jax import audio, configs, sound_files
from metamer_jax.data import recordings
from metamer_jax.storage import cache

_NO_WORDS = ("_background_noise_",)  # Speech Commands' minutes of noise.


class Words(NamedTuple):
    """What a folder holds of words.

    Attributes:
        sounds: Sound files of each word, sorted; words without any are left out.
        others: What else lies in each folder, of files that are no sounds or cannot be read.
    """

    sounds: dict[str, list[pathlib.Path]]
    others: dict[str, list[pathlib.Path]]


def source(config: configs.DataConfig) -> recordings.Source:
    """Describes the folder `config.data_dir`.

    A word is what its folder is called. Files named "<speaker>_nohash_<number>", as in Speech
    Commands, say who speaks.

    Args:
        config: The folder, and which of its words.

    Returns:
        Its recordings, which are read when its clips are asked for.

    Raises:
        ValueError: The folder is missing, or has no such words.
    """
    root = given_folder(config)
    found = find_words(root)
    words = config.words or tuple(sorted(found.sounds))
    words = choose_words(words, found.sounds, f"data_dir={str(root)!r}", describe(root))
    paths = [path for word in words for path in found.sounds[word]]
    others = [path for word in config.words or found.others for path in found.others[word]]
    return recordings.Source(
        identity={
            "folder": root.name,
            "files": len(paths),
            "listing": listing(root, [*paths, *others]),
        },
        words=words,
        num_clips=len(paths),
        clips=lambda: read_clips(paths),
        passed_over=lambda: [str(path) for path in others],
    )


def given_folder(config: configs.DataConfig) -> pathlib.Path:
    """Returns the folder `config.data_dir`.

    Raises:
        ValueError: There is none.
    """
    root = pathlib.Path(config.data_dir or "").expanduser()
    if config.data_dir is None or not root.is_dir():
        raise ValueError(f"data_dir must be a folder of <word>/*.wav, got {config.data_dir!r}")
    return root


def find_words(root: pathlib.Path) -> Words:
    """Finds the files of every <word>/ in a folder, but for hidden ones.

    Args:
        root: The folder.

    Returns:
        The words, sorted, in composed Unicode: macOS has "größe" in seven letters, others in five.

    Raises:
        ValueError: Two folders have one name but for its composition.
    """
    sounds: dict[str, list[pathlib.Path]] = {}
    others: dict[str, list[pathlib.Path]] = {}
    places: dict[str, pathlib.Path] = {}
    for folder in _visible(root):
        if folder.name in _NO_WORDS or not folder.is_dir():
            continue
        word = composed(folder.name)
        paths = _visible(folder)
        found = [path for path in paths if is_sound(path)]
        if word in places:
            raise ValueError(
                f"two folders are called {word!r}, in composed and in decomposed Unicode: "
                f"{str(places[word])!r} and {str(folder)!r}; join them"
            )
        places[word] = folder
        others[word] = [path for path in paths if not is_sound(path)]
        if found:
            sounds[word] = found
    return Words(sounds, others)


def _visible(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def composed(name: str) -> str:
    """A name in the one form of Unicode in which names are compared."""
    return unicodedata.normalize("NFC", name)


def is_sound(name: pathlib.PurePath) -> bool:
    """Whether a file's name is one of a sound file that can be read."""
    return name.suffix.lower() in sound_files.SUFFIXES


def describe(root: pathlib.Path) -> str:
    """Says what a folder holds that is not as expected, and what to do about it."""
    plain = [path for path in _visible(root) if path.is_file()]
    loose = [path for path in plain if is_sound(path)]
    if loose:
        return (
            f"{len(loose)} sound files lie in it without a folder, such as {loose[0].name!r}: "
            "each word's belong into a folder that is called as the word"
        )
    deeper = [path for path in _visible(root) if path.is_dir() and find_words(path).sounds]
    if deeper:
        return (
            f"the words are one level deeper, such as {[*find_words(deeper[0]).sounds][:3]} in "
            f"{str(deeper[0])!r}: give that folder"
        )
    inner = sorted(path for path in root.glob("*/*") if path.is_file())
    endings = collections.Counter(path.suffix.lower() or "no ending" for path in (*plain, *inner))
    if not endings:
        return "it holds no files"
    held = ", ".join(f"{count} with {ending}" for ending, count in endings.most_common(5))
    return f"it holds files {held}; what is read is {' '.join(sound_files.SUFFIXES)}"


def choose_words(
    words: Sequence[str], found: Collection[str], where: str, described: str = ""
) -> tuple[str, ...]:
    """Returns the wanted words.

    Args:
        words: The words wanted, in the order of their labels.
        found: The words that there are.
        where: What to call the place in errors.
        described: What else is to be said of it.

    Raises:
        ValueError: Some were not found, or there are fewer than two.
    """
    about = f"; {described}" if described else ""
    missing = [word for word in words if word not in found]
    if missing:
        raise ValueError(
            f"words {missing} have no recordings in {where}, which has {sorted(found)}"
            + (about if not found else "")
        )
    if len(words) < 2:
        raise ValueError(
            f"expected recordings of two words or more in {where}, got {list(words)}{about}"
        )
    return tuple(words)


def listing(root: pathlib.Path, paths: Sequence[pathlib.Path]) -> str:
    """Digest of where, how large and how old the files are: a folder's identity."""
    rows = []
    for path in paths:
        status = path.stat()
        rows.append([path.relative_to(root).as_posix(), status.st_size, status.st_mtime_ns])
    return cache.digest([str(root.resolve()), rows])


def read_clips(
    paths: Sequence[pathlib.Path],
) -> Iterator[recordings.Clip | audio.AudioFileError]:
    """Reads <word>/<name> files; yields the error of one that is no usable sound."""
    stems = collections.Counter((path.parent.name, path.stem) for path in paths)
    for path in paths:
        word = composed(path.parent.name)
        try:
            samples, sample_rate_hz = audio.read(path)
        except audio.AudioFileError as error:
            yield error
            continue
        # yes/a.wav and yes/a.flac are two recordings.
        name = path.name if stems[word, path.stem] > 1 else path.stem
        yield recordings.Clip(
            file=str(path),
            name=f"{word}/{name}",
            word=word,
            speaker=recordings.speaker_of(path.stem),
            samples=samples,
            sample_rate_hz=sample_rate_hz,
        )
