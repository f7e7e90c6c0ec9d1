"""Files that are whole or absent: npz, JSON, CSV, checkpoints, and the cache folder.

Files appear under their names only when complete (`atomic_write`), so a file that is there is
finished work. State that is read back (`read_npz`, `read_json`, `read_jsonl`) is checked first:
a damaged file raises `DamagedFileError`, and `is_done` says no, so that the part is made again.
"""

from metamer_jax.storage.atomic import atomic_write
from metamer_jax.storage.reading import (
    ZIP_DAMAGE,
    DamagedFileError,
    in_rows,
    is_done,
    map_npz,
    read_at_most,
    read_csv,
    read_json,
    read_jsonl,
    read_npz,
    read_regular,
    take,
)
from metamer_jax.storage.writing import (
    Rows,
    StorageError,
    append_jsonl,
    copy_file,
    storage_errors,
    write_bytes,
    write_csv,
    write_json,
    write_jsonl,
    write_npz,
    write_text,
)

__all__ = [
    "ZIP_DAMAGE",
    "DamagedFileError",
    "Rows",
    "StorageError",
    "append_jsonl",
    "atomic_write",
    "copy_file",
    "in_rows",
    "is_done",
    "map_npz",
    "read_at_most",
    "read_csv",
    "read_json",
    "read_jsonl",
    "read_npz",
    "read_regular",
    "storage_errors",
    "take",
    "write_bytes",
    "write_csv",
    "write_json",
    "write_jsonl",
    "write_npz",
    "write_text",
]
