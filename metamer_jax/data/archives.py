"""Sound files in zip and tar archives and in folders, read in place, by one name each.

A file `[.../]<word>/<name>.wav` is called "<word>/<name>.wav", one that lies above the words by its
name alone, in composed Unicode. Nothing is unpacked, and of no file more is read than a recording
can have, whatever an archive makes of it.
"""

import codecs
import collections
import errno
import functools
import gzip
import logging
import pathlib
import tarfile
import typing
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import IO, NamedTuple

from metamer_jax import audio, sound_files, storage
from metamer_jax.data import wav_folder

_log = logging.getLogger(__name__)

NOISE_FOLDERS = ("_background_noise_", "_silence_")  # Speech Commands' sounds without speech.
# The official split's lists of "<word>/<name>.wav"; what is in neither is for training.
LISTS: Mapping[str, str] = {"validation_list.txt": "validation", "testing_list.txt": "test"}
_MAX_NOISE_BYTES = 4 * sound_files.MAX_BYTES  # All of it is in memory at once.
_DAMAGE = (*storage.ZIP_DAMAGE, tarfile.TarError)


class DamagedArchiveError(ValueError):
    """An archive that cannot be read to its end."""


# A file's bytes, or why it cannot be used.
Content = bytes | audio.AudioFileError


class Survey(NamedTuple):
    """What sources hold besides the words' sounds themselves."""

    words: dict[str, int]  # Folder -> how many sound files it has; not those of noise.
    noise: dict[str, Content]  # "<folder>/<name>.wav" -> the file.
    official: dict[str, str] | None  # "<word>/<name>.wav" -> its split; None without both lists.
    others: list[str]  # "<folder>/<name>" of files that are no sounds or cannot be read.

    def others_of(self, words: Collection[str]) -> list[str]:
        """The other files of some words."""
        return [name for name in self.others if name.split("/")[0] in words]


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

    Args:
        sources: The archives and folders.

    Returns:
        Words with how many sounds each has, background noise, and the official split.

    Raises:
        ValueError: Two files have one name, a list cannot be read, there is too much noise, or an
            archive is packed in a way that cannot be undone here.
        DamagedArchiveError: An archive cannot be read.
    """
    noise: dict[str, Content] = {}
    lists: dict[str, bytes] = {}
    places: dict[str, pathlib.Path] = {}
    others = []
    for source in sources:
        for name, data in read(source, lambda name: name in LISTS or _is_noise(name)):
            if name in LISTS:
                if isinstance(data, audio.AudioFileError):
                    raise data
                lists[name] = lists.get(name, b"") + (data or b"") + b"\n"
                continue
            if not _is_sound(name):
                others += [name] if name.count("/") == 1 else []
                continue
            if name in places:
                raise ValueError(
                    f"two files are called {name}, in {places[name]} and in {source}; expected "
                    "each word's sounds once"
                )
            places[name] = source
            if _is_noise(name) and data is not None:
                noise[name] = data
                if sum(len(d) for d in noise.values() if isinstance(d, bytes)) > _MAX_NOISE_BYTES:
                    most = _MAX_NOISE_BYTES / 2**20
                    raise ValueError(f"{source} has more than {most:g} MiB of background noise")
    words = collections.Counter(name.split("/")[0] for name in places if not _is_noise(name))
    official: dict[str, str] = {}
    for name, data in lists.items():
        official |= dict.fromkeys(_listed(name, data, places, words), LISTS[name])
    return Survey(dict(words), noise, official if set(lists) == set(LISTS) else None, others)


def _listed(name: str, data: bytes, files: Collection[str], words: Collection[str]) -> list[str]:
    """Files that a list names: in any Unicode, with whatever path leads to the word's folder.

    Args:
        name: The list's.
        data: What is in it.
        files: All files "<word>/<name>.wav" that there are.
        words: All words.

    Returns:
        Those of `files` that it names.

    Raises:
        ValueError: It is no text, or names files of these words, but none that is there.
    """
    lines = [line.strip() for line in _text(name, data).splitlines()]
    named = [_name(line.replace("\\", "/")) or line for line in lines if line]
    found = [file for file in named if file in files]
    absent = [file for file in named if file not in files and file.split("/")[0] in words]
    if named and not found and (absent or not any("/" in file for file in named)):
        raise ValueError(
            f"{name} must have a line <word>/<name>.wav for each of its files, none of its "
            f"{len(named)} lines names one that is there, such as {named[0]!r}"
        )
    if absent:
        _log.warning(
            "%d of %d lines of %s name no file that is there, such as %r: those files count as "
            "not listed",
            *(len(absent), len(named), name, absent[0]),
        )
    return found


def _text(name: str, data: bytes) -> str:
    data = data.removesuffix(b"\n")  # Of the joining, or the last of the list.
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif b"\0" in data[:2]:  # Of UTF-16 without a mark.
        encoding = "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
    else:
        encoding = "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} must be text in UTF-8, it is not: {error}") from error


def sounds(sources: Iterable[pathlib.Path], words: Iterable[str]) -> Iterator[tuple[str, Content]]:
    """Passes over archives and folders for the sounds of some words.

    Args:
        sources: The archives and folders.
        words: The words.

    Yields:
        "<word>/<name>.wav" and the file, or why it cannot be used.

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


def read(
    source: pathlib.Path, wanted: Callable[[str], bool]
) -> Iterator[tuple[str, Content | None]]:
    """Passes over an archive or folder once.

    Args:
        source: The archive or folder.
        wanted: Says of a name whether the file is to be read.

    Yields:
        Every file's name, and where it is wanted its bytes, or why it cannot be used.

    Raises:
        ValueError: The archive is packed in a way that cannot be undone here.
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
        if error.errno not in (None, errno.EINVAL):  # The disk's trouble; a place before the file's
            raise  # start is the archive's.
        raise DamagedArchiveError(f"{source} is damaged: {error}") from error


def _read_folder(root, wanted):
    for path in sorted(root.rglob("*")):
        if path.is_dir() and not wav_folder.is_sound(path):
            continue
        name = _name(path.relative_to(root).as_posix())
        if name is None:
            continue
        if not wanted(name):
            yield name, None
            continue
        try:
            yield name, audio.read_bytes(path)
        except audio.AudioFileError as error:
            yield name, error


def _read_zip(path, wanted):
    with zipfile.ZipFile(path) as archive:
        members = sorted(archive.infolist(), key=lambda member: member.filename)
        for member in members:
            _check_packing(path, member)
        for member in members:
            name = None if member.is_dir() else _name(member.filename)
            if name is not None:
                # Reading to the end checks the member's CRC.
                opened = functools.partial(archive.open, member)
                yield name, _bounded(opened, name) if wanted(name) else None


def _check_packing(path: pathlib.Path, member: zipfile.ZipInfo) -> None:
    if member.flag_bits & 1:
        raise ValueError(
            f"{path} is encrypted: unpack it with its password, and give the folder with "
            "--data_dir, or a zip without one"
        )
    known = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    if member.compress_type not in known:
        raise ValueError(
            f"{path} is packed by method {member.compress_type} (9 is deflate64, Windows's of zips "
            "beyond 2 GB), which cannot be undone here: unpack it and give the folder with "
            "--data_dir, or pack it again by deflate (python -m zipfile -c NEW.zip FOLDER)"
        )


def _bounded(opened: Callable[[], IO[bytes]], name: str) -> Content:
    """What is in a member, wherever and however large it says that it is."""
    try:
        with opened() as file:
            return storage.read_at_most(file, sound_files.MAX_BYTES)
    except ValueError as error:
        return audio.AudioFileError(name, f"unreadable ({error})")


def _read_tar(path, wanted):
    with _opened(path) as stream:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                name = None if member.isdir() else _name(member.name)
                if name is None:
                    continue
                if not wanted(name):
                    yield name, None
                elif member.isfile() and (file := archive.extractfile(member)) is not None:
                    yield name, _bounded(lambda file=file: file, name)
                else:
                    yield name, audio.AudioFileError(name, "unreadable (a link, no file)")
        # tarfile takes a damaged header for the end, and reads no checksum behind the end.
        while rest := stream.read(1 << 20):
            if rest.strip(b"\0"):
                raise tarfile.ReadError("a header within it cannot be read")


def _name(member: str) -> str | None:
    """The last two parts of a path; None of files that an operating system hides there."""
    parts = [wav_folder.composed(part) for part in pathlib.PurePosixPath(member).parts]
    # macOS leaves copies called __MACOSX/.../._name.wav, which are no sounds.
    if not parts or any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return None
    return parts[-1] if parts[-1] in LISTS else "/".join(parts[-2:])


def _is_sound(name):
    return wav_folder.is_sound(pathlib.PurePosixPath(name)) and name.count("/") == 1


def _is_noise(name):
    return _is_sound(name) and name.split("/")[0] in NOISE_FOLDERS
