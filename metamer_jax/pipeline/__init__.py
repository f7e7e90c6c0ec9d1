"""From recordings to a report: the places where files meet computation, in order.

    with runs.open_run(folder, config) as run:
        recordings = load_recordings(run)
        train_networks(run, recordings)
        synthesize_metamers(run, recordings)
        verify_metamers(run, recordings)
        write_report(run)

Each stage reads what the earlier ones left in the run folder, skips what is done, and continues
what was interrupted. `reproduce` is all of them.
"""

import os
import pathlib

import jax

from metamer_jax import data, runs, storage
from metamer_jax.configs import ExperimentConfig
from metamer_jax.data import Recordings
from metamer_jax.pipeline.common import (
    choose_targets,
    chosen_targets,
    metamer_wav,
    read_verified,
    target_wav,
)
from metamer_jax.pipeline.shards import read_metamers
from metamer_jax.pipeline.synthesize import synthesize_metamers
from metamer_jax.pipeline.train import load_network, train_ensemble, train_networks
from metamer_jax.pipeline.verify import Natural, natural_sounds, verify_metamers
from metamer_jax.storage import cache

__all__ = [
    "Natural",
    "choose_targets",
    "enable_compilation_cache",
    "load_network",
    "load_recordings",
    "metamer_wav",
    "natural_sounds",
    "read_metamers",
    "read_verified",
    "reproduce",
    "synthesize_metamers",
    "target_wav",
    "train_ensemble",
    "train_networks",
    "verify_metamers",
    "write_report",
]


def reproduce(config: ExperimentConfig, folder: str | os.PathLike) -> pathlib.Path:
    """Runs every stage, and returns the report's path.

    Raises:
        ValueError: The folder holds a run with other settings, or the data do not suffice.
        SystemExit: The process was told to end (SIGTERM); everything done so far is saved.
    """
    with runs.open_run(folder, config) as run, runs.stop_on_sigterm() as stop:
        recordings = load_recordings(run)
        chosen_targets(run, recordings)  # Enough of each word?
        train_networks(run, recordings, stop=stop)
        synthesize_metamers(run, recordings, stop=stop)
        verify_metamers(run, recordings, stop=stop)
        return run.path("report.html") if _report_is_current(run) else write_report(run)


def enable_compilation_cache(folder: str | os.PathLike | None = None) -> None:
    """Keeps compiled programs on disk, so that the second run of a shape starts at once.

    Args:
        folder: Where; None: `jax` in the package's cache folder. A cache that JAX was already
            told to use (JAX_COMPILATION_CACHE_DIR) is left alone.
    """
    if jax.config.jax_compilation_cache_dir is None:
        folder = cache.cache_dir(None) / "jax" if folder is None else folder
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def load_recordings(run: runs.Run) -> Recordings:
    """Loads the run's recordings and says in data/summary.json what they are."""
    recordings = data.load(run.config.data)
    storage.write_json(run.path("data", "summary.json"), recordings.summary)
    return recordings


def write_report(run: runs.Run) -> pathlib.Path:
    """Writes report.html and figures/ from what the run folder holds so far."""
    from metamer_jax import report

    return report.write_report(run.folder, seed=run.config.seed)


def _report_is_current(run):
    report, table = run.path("report.html"), run.path("verification", "metamers.csv")
    return report.exists() and report.stat().st_mtime >= table.stat().st_mtime
