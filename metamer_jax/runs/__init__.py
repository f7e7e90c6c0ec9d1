"""The run folder: one run's settings and everything it made, safe to interrupt and to continue."""

from metamer_jax.runs.folder import (
    CONFIG,
    MAY_CHANGE,
    SCHEMA_VERSION,
    FolderInUseError,
    Run,
    check,
    default_folder,
    environment,
    names,
    open_run,
    read_run,
)
from metamer_jax.runs.manifest import MANIFEST, MAY_DIFFER
from metamer_jax.runs.shares import Shard, ShareMissingError, shard_of
from metamer_jax.runs.stopping import EXIT_STOPPED, stop_on_sigterm

__all__ = [
    "CONFIG",
    "EXIT_STOPPED",
    "FolderInUseError",
    "MANIFEST",
    "MAY_CHANGE",
    "MAY_DIFFER",
    "Run",
    "SCHEMA_VERSION",
    "Shard",
    "ShareMissingError",
    "check",
    "default_folder",
    "environment",
    "names",
    "open_run",
    "read_run",
    "shard_of",
    "stop_on_sigterm",
]
