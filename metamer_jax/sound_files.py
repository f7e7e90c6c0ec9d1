"""What the bytes of a sound file say of its length, which libsndfile reads past in silence."""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

# Endings of the files that libsndfile reads and people keep recordings in.
SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".snd"),
    *(".caf", ".w64", ".rf64", ".bwf", ".sph", ".nist"),
)
# No recording of a word is as large, nor are minutes of noise: 35 at 16 kHz.
MAX_BYTES, MAX_FRAMES = 1 << 27, 1 << 25
# Recorders that write to a pipe put the largest size there, sox the largest that is whole pages.
# No file of such a size is read (`MAX_BYTES`), so that it can be nothing else.
_UNKNOWN_32, _UNKNOWN_64 = 0x7FFFF000, 1 << 62
_W64_CHUNK = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # The end of every GUID in a Wave64.
_OGG_LAST_PAGE = 4  # A bit of a page's flags (RFC 3533, 6).


class CutShortError(ValueError):
    """A sound file whose end is missing."""


class _Samples(NamedTuple):
    """Where a file holds its samples, and how many bytes its header says they are."""

    start: int
    size: int
    unknown: bool  # Whether the size stands for "until the end of the file".
    at: int  # Where the size stands, and how it is written.
    form: str
    more: int = 0  # What the size counts besides the samples.


def with_true_length(data: bytes) -> bytes:
    """Puts a sound file's true length where a placeholder stands in its header.

    Args:
        data: The whole file, of any format.

    Returns:
        The file, with the size that its samples have.

    Raises:
        CutShortError: Its header promises more than there is.
    """
    if data[:4] == b"OggS" and not _ogg_is_whole(data):
        raise CutShortError("cut short: its last page is missing")
    samples = next(_samples(data), None)
    if samples is None:
        return data
    there = max(0, len(data) - samples.start)
    if samples.unknown:
        true = struct.pack(samples.form, there + samples.more)
        return data[: samples.at] + true + data[samples.at + len(true) :]
    if samples.size > there:
        raise CutShortError(f"cut short: {samples.size - there} bytes of it are missing")
    return data


def num_frames(data: bytes) -> int | None:
    """Frames that a file's header promises, where only decoding shows whether they are there.

    Args:
        data: The whole file.

    Returns:
        Their number in each channel; None where the header says nothing to rely on.
    """
    if data[:4] == b"fLaC":  # STREAMINFO: 36 bits, 0 if unknown (RFC 9639, 8.2).
        return int.from_bytes(data[21:26], "big") & ((1 << 36) - 1) or None
    if data[:7] == b"NIST_1A":
        count = re.search(rb"sample_count -i (\d+)", data[:1024])
        return None if count is None else int(count[1])
    return None


def says_its_length(data: bytes) -> bool:
    """Whether an MP3 begins with the encoder's own table, which says how long it is."""
    return any(tag in data[: 1 << 18] for tag in (b"Xing", b"Info"))


def _samples(data: bytes) -> Iterator[_Samples]:
    """Yields where the samples are, in formats of chunks; nothing of others."""
    if data[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and data[8:12] == b"WAVE":
        yield from _of_wave(data, ">" if data[:4] == b"RIFX" else "<")
    elif data[:4] == b"FORM" and data[8:12] in (b"AIFF", b"AIFC"):
        for name, at, size, start in _chunks(data, 12, ">4sI"):
            if name == b"SSND":
                yield _Samples(start, size, size >= _UNKNOWN_32, at, ">I")
    elif data[:4] in (b".snd", b"dns.") and len(data) >= 24:
        order = ">" if data[:4] == b".snd" else "<"
        start, size = struct.unpack_from(f"{order}2I", data, 4)
        yield _Samples(start, size, size >= _UNKNOWN_32, 8, f"{order}I")
    elif data[:4] == b"caff":
        for name, at, size, start in _chunks(data, 8, ">4sq"):
            if name == b"data":
                yield _Samples(start, size, size == -1 or size >= _UNKNOWN_64, at, ">q")
    elif data[:4] == b"riff" and data[28:40] == _W64_CHUNK:
        position = 40
        while position + 24 <= len(data):
            (size,) = struct.unpack_from("<Q", data, position + 16)
            if data[position : position + 4] == b"data":
                unknown = size < 24 or size >= _UNKNOWN_64
                yield _Samples(position + 24, size - 24, unknown, position + 16, "<Q", more=24)
            position += max(24, size + -size % 8)


def _of_wave(data: bytes, order: str) -> Iterator[_Samples]:
    (whole,) = struct.unpack_from(f"{order}I", data, 4)
    long = None  # Where the size in 64 bits stands (EBU Tech 3306).
    for name, at, size, start in _chunks(data, 12, f"{order}4sI"):
        if name == b"ds64" and start + 16 <= len(data):
            long = start + 8
        elif name == b"data" and size == 0xFFFFFFFF and long is not None:
            (size,) = struct.unpack_from("<Q", data, long)
            yield _Samples(start, size, size == 0 or size >= _UNKNOWN_64, long, "<Q")
        elif name == b"data":
            # Zero is what a recorder leaves that was killed: then the whole's size ends here, too.
            unfinished = size == 0 and whole + 8 <= start
            yield _Samples(start, size, unfinished or size >= _UNKNOWN_32, at, f"{order}I")


def _chunks(data: bytes, position: int, form: str) -> Iterator[tuple[bytes, int, int, int]]:
    """Yields each chunk's name, where its size stands, the size, and where its content starts."""
    head = struct.calcsize(form)
    while position + head <= len(data):
        name, size = struct.unpack_from(form, data, position)
        start = position + head
        yield name, position + 4, size, start
        # Chunks with sizes in 32 bits begin at even places.
        position = start + max(0, size) + (size % 2 if head == 8 else 0)


def _ogg_is_whole(data: bytes) -> bool:
    """Whether the last page is there to its end, and says that it is the last."""
    page = data.rfind(b"OggS")
    if page + 27 > len(data):
        return False
    lengths = data[page + 27 : page + 27 + data[page + 26]]
    ends = page + 27 + data[page + 26] + sum(lengths)
    return ends <= len(data) and bool(data[page + 5] & _OGG_LAST_PAGE)
