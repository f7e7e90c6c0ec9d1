"""From recordings to a report: the places where files meet computation, in order.

    with open_run(folder, config) as (run, recordings):
        train_networks(run, recordings)
        synthesize_metamers(run, recordings)
        verify_metamers(run, recordings)
        write_report(run)

Each stage reads what the earlier ones left in the run folder, skips what is done, and continues
what was interrupted. `reproduce` is all of them. Of any other model `own_models.make_metamers`
makes metamers from arrays, and `own_runs.save_run` such a folder of them.
"""

import os
import pathlib

import jax
from absl import logging

from metamer_jax import data, runs, storage
from metamer_jax.configs import ExperimentConfig
from metamer_jax.data import Recordings
from metamer_jax.pipeline import costs
from metamer_jax.pipeline.beginning import check_networks, check_recordings, open_run
from metamer_jax.pipeline.common import (
    choose_targets,
    chosen_targets,
    metamer_wav,
    read_verified,
    target_wav,
)
from metamer_jax.pipeline.shards import read_metamers
from metamer_jax.pipeline.synthesize import synthesize_metamers
from metamer_jax.pipeline.train import (
    class_names,
    load_network,
    recorded_words,
    train_ensemble,
    train_networks,
)
from metamer_jax.pipeline.verify import (
    Natural,
    natural_sounds,
    play_metamers,
    prepare_sounds,
    verify_metamers,
)
from metamer_jax.runs import manifest
from metamer_jax.runtime import progress
from metamer_jax.storage import cache

__all__ = [
    "Natural",
    "check_networks",
    "check_recordings",
    "choose_targets",
    "class_names",
    "enable_compilation_cache",
    "load_network",
    "load_recordings",
    "metamer_wav",
    "natural_sounds",
    "open_run",
    "play_metamers",
    "prepare_sounds",
    "read_metamers",
    "read_verified",
    "recorded_words",
    "reproduce",
    "synthesize_metamers",
    "target_wav",
    "train_ensemble",
    "train_networks",
    "verify_metamers",
    "write_report",
]


def reproduce(
    config: ExperimentConfig,
    folder: str | os.PathLike,
    *,
    networks_from: str | os.PathLike | None = None,
    shard: runs.Shard | None = None,
) -> pathlib.Path:
    """Runs every stage.

    Of several processes each does its share; the first waits for the others and writes the report.

    Args:
        config: The run's settings.
        folder: Its folder.
        networks_from: Folder of a run whose trained networks it takes instead of training.
        shard: Which of several processes this is; None: it is alone.

    Returns:
        Path of the report.

    Raises:
        ValueError: The folder holds a run with other settings, or the data do not suffice.
        SystemExit: The process was told to end (SIGTERM); everything done so far is saved.
    """
    with (
        runs.stop_on_sigterm() as stop,
        open_run(folder, config, networks_from=networks_from, shard=shard) as opened,
    ):
        run, recordings = opened
        # Before a new report every file is read: one that was altered is found, and made again.
        run.manifest.hash_always = not run.is_done(*manifest.REPORT)
        alone = run.shard.count == 1  # Of a share nobody knows how long it will wait.
        num_targets = len(chosen_targets(run, recordings))
        parts = costs.of_run(run, recordings, num_targets) if alone else {}
        with progress.whole(parts):
            train_networks(run, recordings, stop=stop)
            synthesize_metamers(run, recordings, stop=stop)
            verify_metamers(run, recordings, stop=stop)
        if run.shard.index == 0:
            if not all(run.manifest.is_sound(name) for name in manifest.REPORT):
                write_report(run)
            run.manifest.settle()
        return run.path("report.html")


def enable_compilation_cache(folder: str | os.PathLike | None = None) -> None:
    """Keeps compiled programs on disk, so that the second run of a shape starts at once.

    Args:
        folder: Where; None: `jax` in the package's cache folder. A cache that JAX was already
            told to use (JAX_COMPILATION_CACHE_DIR) is left alone.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        folder = cache.cache_dir(None) / "jax" if folder is None else folder
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def load_recordings(run: runs.Run) -> Recordings:
    """Loads the run's recordings and says in data/summary.json what they are."""
    recordings = data.load(run.config.data)
    storage.write_json(run.path("data", "summary.json"), recordings.summary)
    return recordings


def write_report(run: runs.Run) -> pathlib.Path:
    """Writes report.html and figures/ from what the run folder holds so far.

    Files that are not what the run made, or no longer follow from what it holds, are named in the
    page and left out of it.

    Args:
        run: The run.

    Returns:
        Path of the report.
    """
    from metamer_jax import report

    unsound = run.manifest.unsound()
    for name, reason in unsound.items():
        logging.warning("%s %s: the report does without", run.path(name), reason)
    path = report.write_report(run.folder, seed=run.config.seed, leave_out=unsound)
    run.record(*(name for name in manifest.REPORT if run.path(name).exists()))
    return path
