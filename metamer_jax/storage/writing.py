"""Writes files all or nothing; a file that cannot be written says what is safe and what to do."""

import contextlib
import dataclasses
import errno
import hashlib
import io
import json
import math
import os
import pathlib
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from metamer_jax.storage import atomic

if TYPE_CHECKING:
    import pandas as pd

# The last bytes of an npz file: the archive's comment, with the file's SHA-256.
DIGEST_PREFIX = b"metamer_jax sha256 "
DIGEST_LENGTH = 64

Path = str | os.PathLike


class StorageError(OSError):
    """A file could not be written; says which, why, and what is safe."""


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns an OSError of the block, which writes `path`, into a StorageError that explains."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None), errno.EFBIG):
            advice = "free some space and run the same command again: it continues from here"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            advice = "choose a folder that you may write to"
        else:
            advice = "run the same command again to continue"
        raise StorageError(
            error.errno,
            f"{error.strerror or error} while writing (files finished before are safe, and so is "
            f"an earlier version of this one; {advice})",
            str(path),
        ) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file, all or nothing.

    Raises:
        StorageError: Also by the writers below: the folder or disk does not take the file.
    """
    with storage_errors(path), atomic.atomic_write(path) as file:
        file.write(content)


def copy_file(source: Path, path: Path) -> None:
    """Copies a file, all or nothing."""
    with storage_errors(path), open(source, "rb") as content, atomic.atomic_write(path) as file:
        shutil.copyfileobj(content, file, 1 << 20)


def write_text(path: Path, content: str) -> None:
    """Writes text as UTF-8, all or nothing."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Writes JSON, all or nothing: arrays as lists, nan and infinities as null."""
    write_text(path, json.dumps(_plain(content), indent=2, allow_nan=False) + "\n")


def write_csv(
    path: Path,
    table: "pd.DataFrame | Iterable[Mapping[str, Any]]",
    columns: Sequence[str] | None = None,
) -> None:
    """Writes a table, all or nothing: full precision, missing numbers as "nan".

    Args:
        path: The file.
        table: A DataFrame, whose index is left out, or rows, each a mapping by column.
        columns: Which columns, in which order. None: all.
    """
    import pandas as pd

    wanted = None if columns is None else list(columns)
    if not isinstance(table, pd.DataFrame):
        table = pd.DataFrame(list(table), columns=wanted)
    text = table.to_csv(index=False, columns=wanted, na_rep="nan", lineterminator="\n")
    write_text(path, text)


@dataclasses.dataclass(frozen=True)
class Rows:
    """An array for `write_npz` that is never in memory as a whole."""

    shape: tuple[int, ...]
    dtype: Any
    parts: Iterable[np.ndarray]  # Stacked along the first axis they are the array.


def write_npz(path: Path, arrays: Mapping[str, Any], *, compress: bool = False) -> None:
    """Writes named arrays, all or nothing, in a file that `np.load` and `read_npz` read.

    The file's SHA-256 is kept in it (as the archive's comment), so that `read_npz` notices any
    change. Equal arrays make equal files, byte for byte.

    Args:
        path: The file.
        arrays: Numbers, booleans or text by name, as arrays or `Rows`; names may hold "/".
        compress: Deflate: smaller, slower.

    Raises:
        ValueError: A value is an object array, or of a type that would not be read back as it
            was, or `Rows` are not of the shape and dtype that they claim.
    """
    arrays = {n: v if isinstance(v, Rows) else np.asarray(v) for n, v in arrays.items()}
    for name, value in arrays.items():
        if np.dtype(value.dtype).kind not in "biufcSUmM":
            raise ValueError(
                f"arrays[{name!r}] must hold numbers, booleans or text, got dtype {value.dtype}"
            )
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with storage_errors(path), atomic.atomic_write(path) as file:
        writer = _HashingWriter(file)
        with zipfile.ZipFile(writer, "w", method) as archive:
            archive.comment = DIGEST_PREFIX + b"0" * DIGEST_LENGTH
            for name, value in arrays.items():
                entry = zipfile.ZipInfo(f"{name}.npy")  # Dated 1980: equal arrays, equal files.
                entry.compress_type = method
                with archive.open(entry, "w", force_zip64=True) as stream:
                    if isinstance(value, Rows):
                        _write_rows(stream, name, value)
                    else:
                        np.lib.format.write_array(stream, value, allow_pickle=False)
        file.seek(-DIGEST_LENGTH, os.SEEK_END)
        file.write(writer.digest.hexdigest().encode())


def _write_rows(stream: Any, name: str, rows: Rows) -> None:
    """Writes an array's parts one after the other, in the bytes that the whole would have."""
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(rows.dtype)),
        "fortran_order": False,
        "shape": tuple(rows.shape),
    }
    np.lib.format.write_array_header_1_0(stream, header)
    count = 0
    for part in rows.parts:
        part = np.ascontiguousarray(part)
        if part.dtype != rows.dtype or part.shape[1:] != tuple(rows.shape[1:]):
            raise ValueError(
                f"arrays[{name!r}] must have rows of {np.dtype(rows.dtype)} {rows.shape[1:]}, "
                f"got {part.dtype} {part.shape[1:]}"
            )
        stream.write(part.data.cast("B") if part.size else b"")
        count += len(part)
    if count != rows.shape[0]:
        raise ValueError(f"arrays[{name!r}] must have {rows.shape[0]} rows, got {count}")


class _HashingWriter(io.RawIOBase):
    """Passes bytes on and takes their SHA-256; not seekable, so each is final when written."""

    def __init__(self, file: BinaryIO):
        super().__init__()
        self._file = file
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self.digest.update(content)
        return self._file.write(content)


def append_jsonl(path: Path, record: Mapping[str, Any]) -> None:
    """Appends one line to a log, and has it on disk before returning.

    A line that a crash tore is removed first, so that the log stays readable.

    Args:
        path: The log.
        record: What the line says.

    Raises:
        StorageError: The folder or disk does not take it; the log is then as it was.
        OSError: Of the block that makes it so.
    """
    line = json.dumps(_plain(record), allow_nan=False).encode("utf-8") + b"\n"
    path = pathlib.Path(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b", buffering=0) as file:
            end = _end_of_last_line(file)
            file.truncate(end)
            try:
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise


def _end_of_last_line(file: BinaryIO) -> int:
    """Returns how many bytes lie before what follows the last line break."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 65536)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes a whole log anew, all or nothing: a resumed run drops lines that it will redo."""
    lines = [json.dumps(_plain(record), allow_nan=False) + "\n" for record in records]
    write_text(path, "".join(lines))


def _plain(value: Any) -> Any:
    """Returns what JSON can hold: lists, dicts, text, numbers, and None for what is not finite."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if hasattr(value, "tolist"):  # NumPy's and JAX's arrays and scalars.
        value = np.asarray(value).tolist()
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value
