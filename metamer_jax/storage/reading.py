"""Reads what `writing` wrote, once it is known to be whole."""

import csv
import hashlib
import json
import logging
import lzma
import math
import mmap
import os
import pathlib
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import numpy as np

from metamer_jax.storage.writing import DIGEST_LENGTH, DIGEST_PREFIX, Path

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)
_ROWS_AT_ONCE = 64
# What zipfile raises of an archive that is cut short or altered; RuntimeError of passwords, and its
# subclass NotImplementedError of ways of packing. Besides, ValueError of offsets before the file's
# start, and OSError without a number of bzip2's data.
ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


class DamagedFileError(ValueError):
    """A file that was truncated or altered after it was written."""


def read_regular(path: Path, most: int) -> bytes:
    """Reads a file that strangers made: never a pipe or a device, never more than asked for.

    Args:
        path: The file.
        most: Largest size, bytes.

    Returns:
        All of it.

    Raises:
        ValueError: It is no regular file, or larger.
        OSError: It cannot be read.
    """
    at_once = getattr(os, "O_NONBLOCK", 0)  # Else a pipe waits for somebody to write to it.
    with open(path, "rb", opener=lambda name, how: os.open(name, how | at_once)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("no regular file")
        return read_at_most(file, most)


def read_at_most(file: BinaryIO | IO[bytes], most: int) -> bytes:
    """Reads an open file to its end, of whatever size it claims to be.

    Args:
        file: The file, open for reading; may be one in an archive.
        most: Largest size, bytes.

    Returns:
        What is left in it.

    Raises:
        ValueError: It is larger.
    """
    content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"larger than {most / 2**20:g} MiB")
    return content


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Reads what `write_npz` wrote, all of it, once it is known to be whole.

    Args:
        path: The file.

    Returns:
        The arrays, by name.

    Raises:
        DamagedFileError: The file was truncated or altered, or `write_npz` did not write it.
        FileNotFoundError: There is none.
    """
    _check_npz(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, KeyError, *ZIP_DAMAGE) as error:
        raise DamagedFileError(f"{path} cannot be read: {error}") from error


def map_npz(path: Path, *, check: bool = True) -> dict[str, np.ndarray]:
    """Reads what `write_npz` wrote (not compressed) as arrays that stay in the file.

    Only the parts that are looked at come into memory, and need not stay there.

    Args:
        path: The file.
        check: Whether to read all of it once to see that it is whole, as `read_npz` does.

    Returns:
        The arrays, by name, read-only.

    Raises:
        DamagedFileError: As by `read_npz`.
        FileNotFoundError: There is none.
    """
    if check:
        _check_npz(path)
    found = {}
    try:
        with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
            for entry in archive.infolist():
                if entry.compress_type != zipfile.ZIP_STORED:
                    raise DamagedFileError("it is compressed: use read_npz")
                # The local header ends with the name and extra fields, whose lengths it holds.
                file.seek(entry.header_offset + 26)
                lengths = np.frombuffer(file.read(4), "<u2")
                file.seek(int(lengths.sum()), os.SEEK_CUR)
                np.lib.format.read_magic(file)
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
                order = "F" if fortran else "C"
                if math.prod(shape):
                    value = np.memmap(path, dtype, "r", file.tell(), shape, order)
                else:
                    value = np.zeros(shape, dtype)
                found[entry.filename.removesuffix(".npy")] = value
    except (ValueError, KeyError, *ZIP_DAMAGE) as error:
        raise DamagedFileError(f"{path} cannot be read: {error}") from error
    return found


def take(array: np.ndarray, rows: Any) -> np.ndarray:
    """Copies rows of an array into memory; of one that stays in its file nothing else is there.

    Args:
        array: Any array, also one of `map_npz`.
        rows: What stands in brackets behind it.

    Returns:
        A copy.
    """
    found = np.array(array[rows])
    mapped = array
    while isinstance(mapped, np.ndarray):
        file = getattr(mapped, "_mmap", None)
        if hasattr(file, "madvise"):  # Pages that were looked at would stay resident.
            file.madvise(mmap.MADV_DONTNEED)
            break
        mapped = mapped.base
    return found


def in_rows(array: np.ndarray, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
    """Passes over rows of an array, a few of which are in memory at a time.

    Args:
        array: Any array, also one of `map_npz`.
        indices: Which rows, in which order.

    Yields:
        The next rows, copied.
    """
    for start in range(0, len(indices), _ROWS_AT_ONCE):
        yield take(array, indices[start : start + _ROWS_AT_ONCE])


def _check_npz(path: Path) -> None:
    size = os.path.getsize(path)
    tail = len(DIGEST_PREFIX) + DIGEST_LENGTH
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        file.seek(max(0, size - tail))
        ending = file.read()
        if not ending.startswith(DIGEST_PREFIX):
            raise DamagedFileError(
                f"{path} is not whole: it should end with the checksum that write_npz puts there "
                f"({size} bytes found)"
            )
        file.seek(0)
        left = size - DIGEST_LENGTH
        while left > 0 and (chunk := file.read(min(left, 1 << 20))):
            digest.update(chunk)
            left -= len(chunk)
    digest.update(b"0" * DIGEST_LENGTH)  # As it stood when the digest was taken.
    if digest.hexdigest().encode() != ending[len(DIGEST_PREFIX) :]:
        raise DamagedFileError(f"{path} was altered after it was written: its checksum differs")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Args:
        path: The file.

    Returns:
        What is in it.

    Raises:
        DamagedFileError: It is not JSON.
        FileNotFoundError: There is none.
    """
    try:
        return json.loads(pathlib.Path(path).read_bytes().decode("utf-8"))
    except ValueError as error:  # Of decoding either.
        raise DamagedFileError(f"{path} is not readable JSON: {error}") from error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Reads a log; a torn last line (a crash while writing) is left out, no file is no lines.

    Args:
        path: The file.

    Returns:
        What each line holds.

    Raises:
        DamagedFileError: A line before the last is not JSON.
    """
    try:
        lines = pathlib.Path(path).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    records = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            records.append(json.loads(line.decode("utf-8")))
        except ValueError as error:
            raise DamagedFileError(f"{path}, line {number}, is not JSON: {error}") from error
    return records


def read_csv(path: Path, *, text: Sequence[str] = ()) -> "pd.DataFrame":
    """Reads what `write_csv` wrote.

    Args:
        path: The file.
        text: Columns that stay text whatever they hold: a word may be called "7", "nan", "null".

    Returns:
        The table: numbers, true and false where a column holds nothing else, else text.

    Raises:
        DamagedFileError: It is not a table.
        FileNotFoundError: There is none.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, csv.Error) as error:
        raise DamagedFileError(f"{path} is not a readable table: {error}") from error
    for name in table.columns:
        values = table[name]
        if name in text:
            table[name] = values.astype(object)
        elif len(values) and values.isin(["True", "False"]).all():
            table[name] = values == "True"
        else:
            try:
                table[name] = pd.to_numeric(values.replace("nan", np.nan))
            except ValueError:
                table[name] = values.astype(object)
    return table


def is_done(*paths: Path) -> bool:
    """Says whether every file is there and whole, so that the part that makes them can be skipped.

    Files of npz and json are checked throughout; a damaged one counts as not there, with a warning.

    Args:
        *paths: The files.

    Returns:
        Whether all of them are.
    """
    for path in map(pathlib.Path, paths):
        try:
            if not path.is_file():
                return False
            if path.suffix == ".npz":
                _check_npz(path)
            elif path.suffix == ".json":
                read_json(path)
        except DamagedFileError as error:
            _log.warning("%s; it is made again", error)
            return False
    return True
