"""A run begins: what could only fail later is found before its folder is made."""

import contextlib
import os
from collections.abc import Iterator

import numpy as np
from absl import logging

from metamer_jax import auditory, configs, data, models, runs, storage
from metamer_jax.configs import ExperimentConfig
from metamer_jax.data import Recordings
from metamer_jax.pipeline.common import candidates, choose_targets
from metamer_jax.runs import manifest
from metamer_jax.runtime import modes

# What a trained network follows from.
_OF_NETWORKS = (
    *("weights", "class_names", "seed", "target_seed", "data", "cochleagram", "training"),
)


@contextlib.contextmanager
def open_run(
    folder: str | os.PathLike,
    config: ExperimentConfig,
    *,
    networks_from: str | os.PathLike | None = None,
    shard: runs.Shard | None = None,
) -> Iterator[tuple[runs.Run, Recordings]]:
    """Opens a run once its settings and recordings are known to be good for every stage.

    A folder that is new stays unmade where they are not.

    Args:
        folder: The run's folder.
        config: Its settings.
        networks_from: Folder of a run whose trained networks it takes instead of training.
        shard: As of `runs.open_run`.

    Yields:
        The open run and its recordings; data/summary.json says what they are.

    Raises:
        ValueError: The settings cannot be, a file cannot be used, the folder holds a run with
            other settings, or the networks are none of these settings.
    """
    modes.check_modes()
    runs.check(folder, config)
    check_networks(config)
    source = None if networks_from is None else _source_of_networks(networks_from, config)
    recordings = data.load(config.data)
    check_recordings(config, recordings)
    with runs.open_run(folder, config, shard=shard) as run:
        storage.write_json(run.path("data", "summary.json"), recordings.summary)
        if source is not None:
            _take_networks(run, source)
        yield run, recordings


def check_networks(config: ExperimentConfig) -> None:
    """Refuses networks and stages that do not exist, or not at this size of cochleagram.

    Raises:
        ValueError: There are such.
    """
    known = models.stage_names(config.networks)
    if unknown := [stage for stage in config.stages if stage not in known]:
        raise ValueError(f"stages must be of {known}, those of the networks, got {unknown}")
    size = config.cochleagram.num_channels, config.cochleagram.num_frames
    for network in config.networks:
        model = models.build_model(network, num_words=2)
        if not set(auditory.stage_names(model)) & set(config.stages):
            raise ValueError(f"{network} has none of the stages {config.stages}")
        try:
            model.variable_shapes(*size)
        except (ValueError, TypeError, ZeroDivisionError) as error:
            raise ValueError(
                f"{network} cannot read cochleagrams of {size[0]} channels and {size[1]} frames: "
                f"{error}"
            ) from error


def check_recordings(config: ExperimentConfig, recordings: Recordings) -> None:
    """Refuses recordings that do not suffice for the training, the targets or the null.

    Raises:
        ValueError: They do not.
    """
    trains = config.weights is None
    for split in ("train", "validation", "test") if trains else ():
        there = np.unique(recordings.labels[recordings.splits == split])
        lacking = [w for i, w in enumerate(recordings.words) if i not in there]
        if len(there) == 0 or (split == "train" and lacking):
            raise ValueError(
                f"the split {split!r} must have recordings of every word, it has none of "
                f"{lacking}: more recordings are needed, or fewer words"
            )
    may_be_targets = candidates(config, recordings)
    choose_targets(may_be_targets, config.targets_per_word, config.resolved_target_seed)
    in_training = config.training.augment.background_snr_db if trains else None
    mixed = {
        "training.augment.background_snr_db": in_training,
        "verification.null_noise_snr_db": config.verification.null_noise_snr_db,
    }
    for name, snr_db in mixed.items():
        if snr_db is not None and not len(recordings.noise):
            raise ValueError(
                f"{name} needs recordings with background noise: of the data sets speech_commands "
                "has some, in _background_noise_ or _silence_"
            )


def _source_of_networks(folder, config):
    source = runs.read_run(folder)
    found = [
        line
        for line in configs.differences(source.config, config)
        if runs.names(_OF_NETWORKS, line) and not runs.names(runs.MAY_DIFFER, line)
    ]
    if found:
        raise ValueError(
            f"the networks of {folder} follow from other settings ({'; '.join(found)}): what may "
            f"differ are the stages, the targets, the synthesis and the verification"
        )
    for network in config.networks:
        path = source.path("networks", network)
        if not source.is_done(*_taken(config, network)):
            raise ValueError(f"{path} holds no trained network to take")
    return source


def _take_networks(run: runs.Run, source: runs.Run) -> None:
    for number, network in enumerate(run.config.networks):
        made = _taken(run.config, network)
        if run.shard.owns(number) and not run.is_done(*made):
            for name in made:
                storage.copy_file(source.path(name), run.path(name))
            run.record(*made)
            logging.info("%s: taken from %s", network, source.folder)


def _taken(config, network):
    """Names of what a network is; of a published one there is no log of its training."""
    weights, result, log = manifest.networks_of(network)
    return (weights, result, log) if config.weights is None else (weights, result)
