"""Anybody's recordings: a folder with one folder a word, of wav, flac or ogg files."""

import collections
import pathlib
from collections.abc import Collection, Iterator, Sequence

from metamer_jax import audio, configs
from metamer_jax.data import recordings
from metamer_jax.storage import cache

SUFFIXES = (".wav", ".flac", ".ogg")
_NO_WORDS = ("_background_noise_",)  # Speech Commands' minutes of noise.


def source(config: configs.DataConfig) -> recordings.Source:
    """Describes the folder `config.data_dir`.

    Returns:
        Its recordings, which are read when its clips are asked for.

    A word is what its folder is called. Files named "<speaker>_nohash_<number>", as in Speech
    Commands, say who speaks.

    Raises:
        ValueError: The folder is missing, or has no such words.
    """
    root = pathlib.Path(config.data_dir or "").expanduser()
    if config.data_dir is None or not root.is_dir():
        raise ValueError(f"data_dir must be a folder of <word>/*.wav, got {config.data_dir!r}")
    found = find_words(root, SUFFIXES)
    words = choose_words(config.words or tuple(sorted(found)), found, f"data_dir={str(root)!r}")
    paths = [path for word in words for path in found[word]]
    return recordings.Source(
        identity={"folder": root.name, "files": len(paths), "listing": listing(root, paths)},
        words=words,
        num_clips=len(paths),
        clips=lambda: read_clips(paths),
    )


def find_words(root: pathlib.Path, suffixes: Sequence[str]) -> dict[str, list[pathlib.Path]]:
    """Finds the sound files of every <word>/ in `root`, both sorted; hidden ones are not sounds."""
    found = {}
    for folder in sorted(root.iterdir()):
        if folder.name.startswith(".") or folder.name in _NO_WORDS or not folder.is_dir():
            continue
        paths = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in suffixes and not path.name.startswith(".")
        )
        if paths:
            found[folder.name] = paths
    return found


def choose_words(words: Sequence[str], found: Collection[str], where: str) -> tuple[str, ...]:
    """Returns the wanted words.

    Raises:
        ValueError: Some were not found, or there are fewer than two.
    """
    missing = [word for word in words if word not in found]
    if missing:
        raise ValueError(
            f"words {missing} have no recordings in {where}, which has {sorted(found)}"
        )
    if len(words) < 2:
        raise ValueError(f"expected recordings of two words or more in {where}, got {words}")
    return tuple(words)


def listing(root: pathlib.Path, paths: Sequence[pathlib.Path]) -> str:
    """Returns a digest of where, how large and how old the files are: a folder's identity."""
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
        word = path.parent.name
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
