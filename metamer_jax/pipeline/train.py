"""Networks learn: from recordings to networks/<network>/."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from absl import logging

from metamer_jax import auditory, cochleagram, models, runs, storage, training
from metamer_jax.data import Recordings
from metamer_jax.pipeline import clip_cache
from metamer_jax.pipeline.common import CLIPS, INIT, StopRequested, key_of, leave
from metamer_jax.runs import manifest
from metamer_jax.runtime import devices
from metamer_jax.storage import checkpoints
from metamer_jax.training import ensembles


def train_networks(
    run: runs.Run,
    recordings: Recordings,
    *,
    clips_folder: pathlib.Path | None = None,
    stop: StopRequested = lambda: False,
) -> None:
    """Trains every network of the run and scores it on the test split.

    Leaves networks/<network>/{weights.npz, training.jsonl, result.json}, and while it trains
    state.npz, from which an interrupted training continues to the same result.

    Args:
        run: Open.
        recordings: Its recordings.
        clips_folder: Where the changed clips of the epochs are kept for other networks, and taken
            from (`epoch_cache`); None: they are made. It changes no result.
        stop: Says whether to end after an epoch.
    """
    for network in run.config.networks:
        if not is_trained(run, network):
            _train_network(run, recordings, network, clips_folder, stop)


def is_trained(run: runs.Run, network: str) -> bool:
    """Says whether a network of the run is trained; its log may be missing, with a warning."""
    weights, result, log = manifest.networks_of(network)
    if not run.is_done(weights, result):
        return False
    if (reason := run.manifest.trouble(log)) is not None:
        logging.warning("%s %s: the network is whole, and its curve missing", run.path(log), reason)
    return True


class _Task(NamedTuple):
    """What a network is trained with."""

    model: models.Network
    feature_fn: Callable[[jax.Array], jax.Array]
    grid: models.Grid | None
    examples: dict[str, training.Examples]


def _task(run, recordings, network) -> _Task:
    config = run.config
    model = models.build_model(network, len(recordings.words))
    filters = auditory.with_filters({}, model, config.cochleagram)[auditory.FILTERS]
    feature_fn = jax.tree_util.Partial(
        functools.partial(_features, config=config.cochleagram), filters["read"]
    )
    grid = model.reads(config.cochleagram.num_channels, config.cochleagram.num_frames)
    examples = {
        split: training.Examples(part.waveforms, part.labels)
        for split in ("train", "validation", "test")
        for part in [recordings.subset(split)]
    }
    return _Task(model, feature_fn, grid, examples)


def _clip_key(run):
    """Of the changes to clips: runs that share their targets meet the same ones."""
    if run.config.target_seed is None:
        return None
    return jax.random.fold_in(jax.random.key(run.config.target_seed), CLIPS)


def _training_mesh(config):
    """All devices of this process or, of these, as many as divide a batch; None: only one."""
    local, batch_size = jax.local_devices(), config.training.batch_size
    count = max(n for n in range(1, len(local) + 1) if batch_size % n == 0)
    if count < len(local):
        logging.warning(
            "training takes %d of %d devices, for a batch of %d", count, len(local), batch_size
        )
    return devices.device_mesh(local[:count])


def _keep(run, recordings, task, clips_folder):
    if clips_folder is None:
        return None
    key = _clip_key(run)
    return clip_cache.keeper(
        clips_folder,
        task.model,
        task.grid,
        task.examples["train"].inputs,
        key_of(run, INIT) if key is None else key,
        run.config,
        noise=recordings.noise,
    )


def _train_network(run, recordings, network, clips_folder, stop):
    config, task = run.config, _task(run, recordings, network)
    key = key_of(run, INIT)
    state_path = run.path("networks", network, "state.npz")
    log_path = run.path("networks", network, "training.jsonl")
    origin = {"made_of": [run.manifest.made_of(manifest.networks_of(network)[0])]}
    state = None
    if storage.is_done(state_path):
        features = training.compute_features(task.feature_fn, task.examples["train"].inputs[:1])
        blank = training.init_state(key, task.model, features, config.training, grid=task.grid)
        state = _restored(state_path, blank, origin)
    if state is not None:
        logging.info("%s: training continues after epoch %d", network, int(state.epoch))
    storage.write_jsonl(log_path, [] if state is None else state.records())

    def on_epoch(state, record):
        checkpoints.save(state_path, state, metadata=origin)
        storage.append_jsonl(log_path, record)
        if stop():
            leave()

    result = training.train(
        key,
        task.model,
        task.examples["train"],
        task.examples["validation"],
        config.training,
        feature_fn=task.feature_fn,
        grid=task.grid,
        noise=recordings.noise,
        clip_key=_clip_key(run),
        keep=_keep(run, recordings, task, clips_folder),
        mesh=_training_mesh(config),
        state=state,
        on_epoch=on_epoch,
        progress=True,
    )
    test = training.compute_features(task.feature_fn, task.examples["test"].inputs)
    _write_trained(run, recordings, network, task, result, test)
    state_path.unlink(missing_ok=True)


def train_ensemble(
    members: Sequence[runs.Run],
    recordings: Recordings,
    *,
    state_path: pathlib.Path,
    clips_folder: pathlib.Path | None = None,
    stop: StopRequested = lambda: False,
) -> None:
    """Trains one network in several runs at once, as `train_networks` would in each.

    Epochs, and with them the cochleagrams of the changed clips, are made once for all.

    Args:
        members: Open runs of one network that differ in `seed` alone, with a `target_seed`.
        recordings: Theirs.
        state_path: Where the state of all is kept while they train.
        clips_folder: As of `train_networks`.
        stop: Says whether to end after an epoch.

    Raises:
        ValueError: The runs differ in more than their seeds, or have no `target_seed`.
    """
    config, network = members[0].config, members[0].config.networks[0]
    for run in members:
        if dataclasses.replace(run.config, seed=config.seed) != config or len(config.networks) > 1:
            raise ValueError(f"members must differ in seed alone, got {run.folder}")
    if config.target_seed is None:
        raise ValueError("members must have a target_seed, of the clips that they share, got None")
    task = _task(members[0], recordings, network)
    keys = [key_of(run, INIT) for run in members]
    weights = manifest.networks_of(network)[0]
    origin = {"made_of": [run.manifest.made_of(weights) for run in members]}
    state = None
    if storage.is_done(state_path):
        features = training.compute_features(task.feature_fn, task.examples["train"].inputs[:1])
        blank = ensembles.init_state(keys, task.model, features, config.training, grid=task.grid)
        state = _restored(state_path, blank, origin)
    if state is not None:
        logging.info("%s: training continues after epoch %d", network, int(state[0].epoch))

    def on_epoch(state, _):
        checkpoints.save(state_path, state, metadata=origin)
        for run, member in zip(members, state, strict=True):
            storage.write_jsonl(run.path("networks", network, "training.jsonl"), member.records())
        if stop():
            leave()

    results = ensembles.train(
        keys,
        task.model,
        task.examples["train"],
        task.examples["validation"],
        config.training,
        feature_fn=task.feature_fn,
        grid=task.grid,
        noise=recordings.noise,
        clip_key=_clip_key(members[0]),
        keep=_keep(members[0], recordings, task, clips_folder),
        mesh=_training_mesh(config),
        state=state,
        on_epoch=on_epoch,
        progress=True,
    )
    test = training.compute_features(task.feature_fn, task.examples["test"].inputs)
    for run, result in zip(members, results, strict=True):
        storage.write_jsonl(run.path("networks", network, "training.jsonl"), result.records)
        _write_trained(run, recordings, network, task, result, test)
    state_path.unlink(missing_ok=True)


def _restored(path, like, origin):
    """Returns a training's saved state; None, with a word, where it is not this training's."""
    try:
        state, metadata = checkpoints.restore(path, like=like)
        # A state of an earlier version does not say what it is of.
        if metadata and metadata != origin:
            raise ValueError(f"{path} follows from other settings than those of today")
        members = [state] if isinstance(state, training.TrainState) else state
        weights = jax.tree.leaves([(m.params, m.normalization) for m in members])
        if not all(np.isfinite(x).all() for x in weights):
            raise ValueError(f"{path} holds weights that are not finite")
    except ValueError as error:
        logging.warning("%s; it is made again", error)
        return None
    return state


def _write_trained(run, recordings, network, task, result, test_features):
    """Leaves a trained network's weights, and how well it does on the test split."""
    labels = task.examples["test"].labels
    test = training.evaluate(task.model, result.variables, test_features, labels, grid=task.grid)
    checkpoints.save(run.path("networks", network, "weights.npz"), result.variables)
    best = result.records[result.best_epoch - 1] if result.records else {}  # Untrained: no epoch.
    storage.write_json(
        run.path("networks", network, "result.json"),
        {
            "network": network,
            "words": list(recordings.words),
            "parameters": sum(x.size for x in jax.tree.leaves(result.variables["params"])),
            "epochs": len(result.records),
            "best_epoch": result.best_epoch,
            "train_accuracy": best.get("train_accuracy"),
            "validation_accuracy": best.get("validation_accuracy"),
            "test_accuracy": test.accuracy,
            "test_loss": test.loss,
            "seconds": sum(record["seconds"] for record in result.records),
            "confusion": np.asarray(test.confusion).tolist(),
        },
    )
    run.record(*manifest.networks_of(network))
    logging.info("%s: test accuracy %.1f %%", network, 100 * test.accuracy)


def _features(filters, waveforms, *, config):
    return cochleagram.cochleagram(waveforms, filters, config=config)


def load_network(run: runs.Run, network: str, num_words: int):
    """Returns a trained network of the run: the module and its variables, without filters.

    Raises:
        ValueError: It has not been trained yet.
    """
    path = run.path("networks", network, "weights.npz")
    if not run.is_done(manifest.networks_of(network)[0]):
        raise ValueError(
            f"{path} is not there: train the networks first "
            f"(python -m experiments.train --workdir={run.folder})"
        )
    model = models.build_model(network, num_words)
    config = run.config.cochleagram
    shape = (1, config.num_channels, config.num_frames)
    cochleagram = jax.ShapeDtypeStruct(shape, np.float32)
    like = jax.eval_shape(model.init, jax.random.key(0), cochleagram)
    variables, _ = checkpoints.restore(path, like=like)
    return model, variables
