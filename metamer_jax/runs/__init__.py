"""The run folder: one run's settings and everything it made, safe to interrupt and to continue."""

from metamer_jax.runs.folder import CONFIG as CONFIG
from metamer_jax.runs.folder import MAY_CHANGE as MAY_CHANGE
from metamer_jax.runs.folder import SCHEMA_VERSION as SCHEMA_VERSION
from metamer_jax.runs.folder import FolderInUseError as FolderInUseError
from metamer_jax.runs.folder import Run as Run
from metamer_jax.runs.folder import check as check
from metamer_jax.runs.folder import default_folder as default_folder
from metamer_jax.runs.folder import environment as environment
from metamer_jax.runs.folder import names as names
from metamer_jax.runs.folder import open_run as open_run
from metamer_jax.runs.folder import read_run as read_run
from metamer_jax.runs.manifest import MANIFEST as MANIFEST
from metamer_jax.runs.manifest import MAY_DIFFER as MAY_DIFFER
from metamer_jax.runs.shares import Shard as Shard
from metamer_jax.runs.shares import ShareMissingError as ShareMissingError
from metamer_jax.runs.shares import shard_of as shard_of
from metamer_jax.runs.stopping import EXIT_STOPPED as EXIT_STOPPED
from metamer_jax.runs.stopping import stop_on_sigterm as stop_on_sigterm
