"""Networks of finished runs among those that are compared: nothing of them is made again."""

import functools
import hashlib
import pathlib
from collections.abc import Sequence

import numpy as np

from metamer_jax import runs, storage
from metamer_jax.comparison.entries import SavedEntry
from metamer_jax.pipeline import common, train
from metamer_jax.runs import manifest

_SAME_SOUND = 1e-5  # Of samples at rms 0.1: a run that took sounds from 16-bit files rounds them.


def read(folders: Sequence[str]) -> tuple[SavedEntry, ...]:
    """The networks of runs that are verified, in order.

    Args:
        folders: Of `metamer-jax reproduce` or `mj.save_run`.

    Returns:
        An entry for each network that has metamers.

    Raises:
        ValueError: A folder is no such run, or two of them cannot be told apart by name.
    """
    found = [entry for folder in folders for entry in _of_run(pathlib.Path(folder))]
    labels = [entry.label for entry in found]
    if len(set(labels)) < len(labels):
        raise ValueError(f"runs must have folders of different names, got {', '.join(labels)}")
    return tuple(found)


def _of_run(folder):
    folder = folder.resolve()
    run = runs.read_run(folder, needs=["networks", "verification"])
    spoken = set(target_words(run))
    for network in run.config.networks:
        classes = train.class_names(run, network, ())
        model = train.build_network(run, network, len(classes))
        stages = tuple(
            stage
            for stage in common.stages_of(run, model)
            if run.is_done(manifest.metamers_of(network, stage))
        )
        if not stages:
            raise ValueError(f"{folder} holds no finished metamers of {network}")
        made = [manifest.metamers_of(network, stage) for stage in stages]
        yield SavedEntry(
            run=str(folder),
            network=network,
            label=f"{folder.name}/{network}" if len(run.config.networks) > 1 else folder.name,
            stages=stages,
            seed=run.config.seed,
            listens=spoken <= set(classes),
            digest=_digest(run, [manifest.networks_of(network)[0], *manifest.TARGETS, *made]),
        )


def _digest(run, names):
    """SHA-256 of files, as the run's manifest has them where it does."""
    known, digest = run.manifest.entries(), hashlib.sha256()
    for name in names:
        if name in known:
            digest.update(known[name].sha256.encode())
        else:
            with open(run.path(name), "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").hexdigest().encode())
    return digest.hexdigest()


def target_words(run: runs.Run) -> list[str]:
    """[target] the word spoken in each of a run's targets."""
    words = train.recorded_words(run)
    return [words[label] for label in storage.read_npz(run.path(manifest.TARGETS[1]))["label"]]


@functools.lru_cache(maxsize=8)
def _targets(entry):
    arrays = storage.read_npz(pathlib.Path(entry.run, manifest.TARGETS[1]))
    return arrays["target_id"], arrays["waveform"]


def rows_of(entry: SavedEntry, waveforms: np.ndarray) -> np.ndarray:
    """Places, among the targets of a network's run, of those that are compared.

    Args:
        entry: The network.
        waveforms: [target, time] what is compared.

    Returns:
        [target] int.

    Raises:
        ValueError: Some of them are not among the run's targets.
    """
    _, theirs = _targets(entry)
    if theirs.shape[1:] == waveforms.shape[1:]:
        # Of sounds of one level the like has the largest product.
        rows = np.argmax(waveforms @ theirs.T, axis=1)
        known = np.abs(theirs[rows] - waveforms).max(axis=1) < _SAME_SOUND
        if known.all():
            return rows
        lacking = f"{np.sum(~known)} of {len(known)} are not among its own"
    else:
        lacking = f"those have {waveforms.shape[1]} samples, its own {theirs.shape[1]}"
    raise ValueError(f"targets of {entry.run} must hold all that are compared: {lacking}")


def target_ids(entry: SavedEntry, waveforms: np.ndarray) -> np.ndarray:
    """[target] the ids that targets which are compared have in the network's own run."""
    return _targets(entry)[0][rows_of(entry, waveforms)]
