"""The run folder: one run's settings and everything it made, safe to interrupt and pick up again.

Files appear under their names only when complete (`files.atomic_write`), so a file that is there
is finished work. State that is read back (`read_npz`, `read_json`, `read_jsonl`) is checked first:
a damaged file raises `DamagedFileError`, and `is_done` says no, so that the part is made again.
"""

from metamer_jax.runs.folder import (
    MAY_DIFFER,
    SCHEMA_VERSION,
    FolderInUseError,
    Run,
    Share,
    default_folder,
    environment,
    open_run,
)
from metamer_jax.runs.reading import (
    DamagedFileError,
    is_done,
    map_npz,
    read_csv,
    read_json,
    read_jsonl,
    read_npz,
)
from metamer_jax.runs.stopping import (
    EXIT_STOPPED,
    stop_on_sigterm,
)
from metamer_jax.runs.writing import (
    Rows,
    StorageError,
    append_jsonl,
    storage_errors,
    write_bytes,
    write_csv,
    write_json,
    write_jsonl,
    write_npz,
    write_text,
)

__all__ = [
    "DamagedFileError",
    "EXIT_STOPPED",
    "FolderInUseError",
    "MAY_DIFFER",
    "Rows",
    "Run",
    "SCHEMA_VERSION",
    "Share",
    "StorageError",
    "append_jsonl",
    "default_folder",
    "environment",
    "is_done",
    "map_npz",
    "open_run",
    "read_csv",
    "read_json",
    "read_jsonl",
    "read_npz",
    "stop_on_sigterm",
    "storage_errors",
    "write_bytes",
    "write_csv",
    "write_json",
    "write_jsonl",
    "write_npz",
    "write_text",
]
