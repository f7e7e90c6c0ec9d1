"""Networks learn: from recordings to networks/<network>/."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import logging

from metamer_jax import auditory, models, runs, storage, training
from metamer_jax.data import Recordings
from metamer_jax.own_models import published, saved
from metamer_jax.pipeline.clip_cache import open_clip_cache
from metamer_jax.pipeline.common import (
    CLIPS,
    INIT,
    StopRequested,
    key_of,
    leave,
    stages_of,
    write_result,
)
from metamer_jax.runs import manifest
from metamer_jax.runtime import devices
from metamer_jax.storage import checkpoints


def train_networks(
    run: runs.Run,
    recordings: Recordings,
    *,
    clips_folder: pathlib.Path | None = None,
    stop: StopRequested = lambda: False,
) -> None:
    """Trains every network of the run and scores it on the test split, or takes published weights.

    Leaves networks/<network>/{weights.npz, training.jsonl, result.json}, and while it trains
    state.npz, from which an interrupted training continues to the same result. Of several shares
    each trains networks of its own.

    Args:
        run: Open run.
        recordings: Its recordings.
        clips_folder: Folder where the changed clips of the epochs are kept for other networks, and
            taken from (`clip_cache`); None: they are made. It changes no result.
        stop: Says whether to end after an epoch.
    """
    for number, network in enumerate(run.config.networks):
        if not run.shard.owns(number) or is_trained(run, network):
            continue
        if run.config.weights is not None:
            _take_published(run, network)
        else:
            path = run.path("networks", network, "state.npz")
            _train([run], recordings, network, path, clips_folder, stop)


def _take_published(run, network):
    """Leaves a published network's weights, and what its classes are called."""
    config = run.config
    model, variables = published.read_network(network, config.weights, config.cochleagram)
    names = published.read_class_names(config.class_names, model.num_words)
    weights, result, _ = manifest.networks_of(network)
    checkpoints.save(run.path(weights), variables)
    file = pathlib.Path(config.weights).name
    write_result(run, network, names, variables["params"], weights=file)
    run.record(weights, result)
    logging.info("%s: %d classes from %s", network, len(names), config.weights)


def wait_for_networks(run: runs.Run, stop: StopRequested) -> None:
    """Waits until other shares have trained their networks."""

    def owed():
        return {
            name: number
            for number, network in enumerate(run.config.networks)
            for name in manifest.networks_of(network)[:2]
            if not run.manifest.is_sound(name)
        }

    run.wait(owed, stop)


def is_trained(run: runs.Run, network: str) -> bool:
    """Says whether a network of the run is trained; its log may be missing, with a warning."""
    weights, result, log = manifest.networks_of(network)
    if not run.is_done(weights, result):
        return False
    if (reason := run.manifest.trouble(log)) is not None:
        logging.warning("%s %s: the network is whole, and its curve missing", run.path(log), reason)
    return True


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
        recordings: Recordings of all of them.
        state_path: File where the state of all is kept while they train.
        clips_folder: As of `train_networks`.
        stop: Says whether to end after an epoch.

    Raises:
        ValueError: The runs differ in more than their seeds, or have no `target_seed`.
    """
    config = members[0].config
    for run in members:
        if dataclasses.replace(run.config, seed=config.seed) != config or len(config.networks) > 1:
            raise ValueError(f"members must differ in seed alone, got {run.folder}")
    if config.target_seed is None:
        raise ValueError("members must have a target_seed, of the clips that they share, got None")
    _train(members, recordings, config.networks[0], state_path, clips_folder, stop)


def _train(members, recordings, network, state_path, clips_folder, stop):
    """Trains one network in every run of `members`, which share clips; continues from a state."""
    config, task, test = members[0].config, *_task(members[0].config, recordings, network)
    keys = [key_of(run, INIT) for run in members]
    clip_key = _clip_key(config)
    weights = manifest.networks_of(network)[0]
    origin = {"made_of": [run.manifest.made_of(weights) for run in members]}
    state = _restored(state_path, keys, task, config.training, origin)
    if state is not None:
        logging.info("%s: training continues after epoch %d", network, int(state[0].epoch))

    def write_logs(state):
        for run, member in zip(members, state, strict=True):
            storage.write_jsonl(run.path("networks", network, "training.jsonl"), member.records())

    def on_epoch(state, _):
        checkpoints.save(state_path, state if len(state) > 1 else state[0], metadata=origin)
        write_logs(state)
        if stop():
            leave()

    clip_cache = None
    if clips_folder is not None:
        met_key = keys[0] if clip_key is None else clip_key
        clip_cache = open_clip_cache(clips_folder, task, met_key, config)
    results = training.train_ensemble(
        keys,
        task,
        config.training,
        clip_key=clip_key,
        clip_cache=clip_cache,
        mesh=_training_mesh(config),
        state=state,
        on_epoch=on_epoch,
        progress=True,
    )
    write_logs([result.state for result in results])
    assert task.feature_fn is not None  # Of a run the clips are waveforms.
    test = test._replace(inputs=training.compute_features(task.feature_fn, test.inputs))
    for run, result in zip(members, results, strict=True):
        _write_trained(run, recordings, network, task, result, test)
    state_path.unlink(missing_ok=True)


def _task(config, recordings, network) -> tuple[training.Task, training.Examples]:
    """What a network of a run is trained with, and what it is tested on."""
    model = models.build_model(network, len(recordings.words))
    examples = {
        split: training.Examples(part.waveforms, part.labels)
        for split in ("train", "validation", "test")
        for part in [recordings.subset(split)]
    }
    task = training.Task(
        model,
        examples["train"],
        examples["validation"],
        auditory.feature_fn(model, config.cochleagram),
        model.reads(config.cochleagram.num_channels, config.cochleagram.num_frames),
        recordings.noise,
        network,
    )
    return task, examples["test"]


def _restored(path, keys, task, recipe, origin) -> training.EnsembleState | None:
    """A training's saved state; None where there is none, or, with a word, it is not this one's."""
    if not storage.is_done(path):
        return None
    features = training.compute_features(task.feature_fn, task.training.inputs[:1])
    like = training.init_ensemble(keys, task.model, features, recipe, grid=task.grid)
    try:
        # In a file the state of one network stands as such, those of several as a tuple.
        state, metadata = checkpoints.restore(path, like=like if len(keys) > 1 else like[0])
        # A state of an earlier version does not say what it is of.
        if metadata and metadata != origin:
            raise ValueError(f"{path} follows from other settings than those of today")
        members = state if len(keys) > 1 else (state,)
        weights = jax.tree.leaves([(m.params, m.normalization) for m in members])
        if not all(np.isfinite(x).all() for x in weights):
            raise ValueError(f"{path} holds weights that are not finite")
    except ValueError as error:
        logging.warning("%s; it is made again", error)
        return None
    return members


def _clip_key(config):
    """PRNG key for the changes to clips: runs that share their targets meet the same ones."""
    if config.target_seed is None:
        return None
    return jax.random.fold_in(jax.random.key(config.target_seed), CLIPS)


def _training_mesh(config):
    """All devices of this process or, of these, as many as divide a batch; None: only one."""
    local, batch_size = jax.local_devices(), config.training.batch_size
    count = max(n for n in range(1, len(local) + 1) if batch_size % n == 0)
    if count < len(local):
        logging.warning(
            "training takes %d of %d devices, for a batch of %d", count, len(local), batch_size
        )
    return devices.device_mesh(local[:count])


def _write_trained(run, recordings, network, task, result, test):
    """Leaves a trained network's weights, and how well it does on the test split."""
    test = training.evaluate(task.model, result.variables, *test, grid=task.grid)
    checkpoints.save(run.path("networks", network, "weights.npz"), result.variables)
    best = result.records[result.best_epoch - 1] if result.records else {}  # Untrained: no epoch.
    write_result(
        run,
        network,
        recordings.words,
        result.variables["params"],
        epochs=len(result.records),
        best_epoch=result.best_epoch,
        train_accuracy=best.get("train_accuracy"),
        validation_accuracy=best.get("validation_accuracy"),
        test_accuracy=test.accuracy,
        test_loss=test.loss,
        seconds=sum(record["seconds"] for record in result.records),
        confusion=test.confusion,
    )
    run.record(*manifest.networks_of(network))
    logging.info("%s: test accuracy %.1f %%", network, 100 * test.accuracy)


def class_names(run: runs.Run, network: str, words: Sequence[str]) -> tuple[str, ...]:
    """Returns what the classes of a network of the run are called.

    Args:
        run: The run.
        network: Name of the network.
        words: Those of the recordings, which a network trained in the run tells apart.
    """
    path = run.path("networks", network, "result.json")
    return tuple(storage.read_json(path)["words"]) if storage.is_done(path) else tuple(words)


def recorded_words(run: runs.Run) -> tuple[str, ...]:
    """Returns the words of a run's recordings, which its networks may know among others.

    Raises:
        ValueError: The run has not got so far that it says so.
    """
    summary = run.path("data", "summary.json")
    counts = storage.read_json(summary).get("counts") if storage.is_done(summary) else None
    if counts:
        return tuple(word for word in next(iter(counts.values())) if word != "all")
    found = class_names(run, run.config.networks[0], ())
    if not found:
        raise ValueError(f"{run.folder} holds no run whose recordings are known")
    return found


def build_network(run: runs.Run, network: str, num_words: int) -> models.Network | saved.SavedModel:
    """Returns a network of the run without its weights; of somebody's own model the program.

    Args:
        run: Run that it belongs to.
        network: Name of the network.
        num_words: Words that it tells apart, where it is trained in the run.
    """
    folder = run.path("networks", network)
    if saved.is_saved(folder):
        return saved.load_program(folder)
    if run.config.weights is not None:
        num_words = len(class_names(run, network, ())) or num_words
    return models.build_model(network, num_words)


def conditions_of(run: runs.Run, recordings: Recordings) -> list[tuple[str, str]]:
    """Lists the networks and stages of a run, stages in processing order."""
    return [
        (network, stage)
        for network in run.config.networks
        for stage in stages_of(run, build_network(run, network, len(recordings.words)))
    ]


def load_network(
    run: runs.Run, network: str, num_words: int
) -> tuple[models.Network | saved.SavedModel, dict[str, Any]]:
    """Reads a trained network of the run.

    Args:
        run: Run in which it was trained.
        network: Name of the network.
        num_words: Words that it tells apart.

    Returns:
        The module and its variables, without filters; somebody's own model comes as `SavedModel`.

    Raises:
        ValueError: It has not been trained yet.
    """
    path = run.path("networks", network, "weights.npz")
    if not run.is_done(manifest.networks_of(network)[0]):
        raise run.missing(path, "train the networks", "train")
    if saved.is_saved(path.parent):
        return saved.load_model(path.parent)
    model = build_network(run, network, num_words)
    assert not isinstance(model, saved.SavedModel)  # Those are read above.
    config = run.config.cochleagram
    like = model.variable_shapes(config.num_channels, config.num_frames)
    variables, _ = checkpoints.restore(path, like=like)
    return model, variables
