"""Sound files in zip and tar archives and in folders, read in place, by one name each.

A file `[.../]<word>/<name>.wav` is called "<word>/<name>.wav", one that lies above the words by its
name alone. Nothing is unpacked.
"""

import collections
import gzip
import pathlib
import tarfile
import typing
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, NamedTuple

NOISE_FOLDERS = ("_background_noise_", "_silence_")  # Speech Commands' sounds without speech.
# The official split's lists of "<word>/<name>.wav"; what is in neither is for training.
LISTS: Mapping[str, str] = {"validation_list.txt": "validation", "testing_list.txt": "test"}
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError)


class DamagedArchiveError(ValueError):
    """An archive that cannot be read to its end."""


class Survey(NamedTuple):
    """What sources hold besides the words' sounds themselves."""

    words: dict[str, int]  # Folder -> how many wav files it has; not those of noise.
    noise: dict[str, bytes]  # "<folder>/<name>.wav" -> the file.
    official: dict[str, str] | None  # "<word>/<name>.wav" -> its split; None without both lists.


def check(path: pathlib.Path) -> None:
    """Refuses what is no archive.

    Raises:
        ValueError: There is no such file, or it is neither a zip nor a tar.
    """
    if not path.is_file():
        raise ValueError(f"expected an archive of <word>/*.wav, there is no file {str(path)!r}")
    if not (zipfile.is_zipfile(path) or _is_tar(path)):
        raise ValueError(
            f"expected an archive of <word>/*.wav (.zip, .tar or .tar.gz), {str(path)!r} is none"
        )


def _is_tar(path):
    try:
        with _opened(path) as stream:
            return tarfile.is_tarfile(stream)
    except (*_DAMAGE, OSError):  # A gzip that breaks off at once.
        return False


def _opened(path: pathlib.Path) -> IO[bytes]:
    """The file, unpacked where it is a gzip."""
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return typing.cast(IO[bytes], gzip.open(path) if packed else open(path, "rb"))


def survey(sources: Iterable[pathlib.Path]) -> Survey:
    """Passes over archives and folders once, without reading the words' sounds.

    Returns:
        Words with how many sounds each has, background noise, and the official split.

    Raises:
        ValueError: Two files have one name.
        DamagedArchiveError: An archive cannot be read.
    """
    words, noise, official, places = collections.Counter(), {}, {}, {}
    lists = set()
    for source in sources:
        for name, data in read(source, lambda name: name in LISTS or _is_noise(name)):
            if name in LISTS and data is not None:
                lists.add(name)
                official |= dict.fromkeys(data.decode("utf-8").split(), LISTS[name])
                continue
            if not _is_sound(name):
                continue
            if name in places:
                raise ValueError(
                    f"two files are called {name}, in {places[name]} and in {source}; expected "
                    "each word's sounds once"
                )
            places[name] = source
            if _is_noise(name):
                noise[name] = data
            else:
                words[name.split("/")[0]] += 1
    return Survey(dict(words), noise, official if lists == set(LISTS) else None)


def sounds(sources: Iterable[pathlib.Path], words: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yields ("<word>/<name>.wav", the file) of the given words.

    Raises:
        DamagedArchiveError: An archive cannot be read.
    """
    words = frozenset(words)

    def wanted(name):
        return _is_sound(name) and name.split("/")[0] in words

    for source in sources:
        for name, data in read(source, wanted):
            if data is not None:
                yield name, data


def read(source: pathlib.Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes | None]]:
    """Yields every file's name, and its bytes where it is wanted.

    Raises:
        DamagedArchiveError: The archive cannot be read to its end.
        OSError: The disk cannot be read.
    """
    if source.is_dir():
        yield from _read_folder(source, wanted)
        return
    try:
        yield from (_read_zip if zipfile.is_zipfile(source) else _read_tar)(source, wanted)
    except _DAMAGE as error:
        raise DamagedArchiveError(f"{source} is damaged: {error}") from error
    except OSError as error:
        if error.errno is not None:  # The disk's trouble, not the archive's.
            raise
        raise DamagedArchiveError(f"{source} is damaged: {error}") from error


def _read_folder(root, wanted):
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        name = _name(path.relative_to(root).as_posix())
        if name is not None:
            yield name, path.read_bytes() if wanted(name) else None


def _read_zip(path, wanted):
    with zipfile.ZipFile(path) as archive:
        for member in sorted(archive.namelist()):
            name = None if member.endswith("/") else _name(member)
            if name is not None:
                yield name, archive.read(member) if wanted(name) else None  # Checks its CRC.


def _read_tar(path, wanted):
    with _opened(path) as stream:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                name = _name(member.name) if member.isfile() else None
                if name is not None:
                    file = archive.extractfile(member) if wanted(name) else None
                    yield name, None if file is None else file.read()
        # tarfile takes a damaged header for the end, and reads no checksum behind the end.
        while rest := stream.read(1 << 20):
            if rest.strip(b"\0"):
                raise tarfile.ReadError("a header within it cannot be read")


def _name(member: str) -> str | None:
    """The last two parts of a path; None of files that an operating system hides there."""
    parts = pathlib.PurePosixPath(member).parts
    # macOS leaves copies called __MACOSX/.../._name.wav, which are no sounds.
    if not parts or any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return None
    return parts[-1] if parts[-1] in LISTS else "/".join(parts[-2:])


def _is_sound(name):
    return name.lower().endswith(".wav") and name.count("/") == 1


def _is_noise(name):
    return _is_sound(name) and name.split("/")[0] in NOISE_FOLDERS
