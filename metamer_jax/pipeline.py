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

import dataclasses
import functools
import itertools
import os
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from absl import logging

from metamer_jax import (
    audio,
    auditory,
    checkpoints,
    data,
    ensembles,
    epoch_cache,
    evaluation,
    metamers,
    models,
    progress,
    runs,
    training,
    verification,
)
from metamer_jax.configs import ExperimentConfig
from metamer_jax.data import Recordings, cache

StopRequested = Callable[[], bool]

_SAVE_INTERVAL_S = 30.0
# What of a run follows from its seed: one key each.
_INIT, _START, _CLIPS = range(3)


def reproduce(config: ExperimentConfig, folder: str | os.PathLike) -> pathlib.Path:
    """Runs every stage, and returns the report's path.

    Raises:
        ValueError: The folder holds a run with other settings, or the data do not suffice.
        SystemExit: The process was told to end (SIGTERM); everything done so far is saved.
    """
    with runs.open_run(folder, config) as run, runs.stop_on_sigterm() as stop:
        recordings = load_recordings(run)
        _chosen_targets(run, recordings)  # Enough of each word?
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
    runs.write_json(run.path("data", "summary.json"), recordings.summary)
    return recordings


# Training.


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
        if not runs.is_done(*(run.path("networks", network, f) for f in _NETWORK_FILES)):
            _train_network(run, recordings, network, clips_folder, stop)


_NETWORK_FILES = ("weights.npz", "result.json")


class _Task(NamedTuple):
    """What a network is trained with."""

    model: models.Network
    feature_fn: Callable[[jax.Array], jax.Array]
    grid: models.Grid | None
    examples: dict[str, training.Examples]


def _task(run, recordings, network) -> _Task:
    config = run.config
    model = models.build_model(network, len(recordings.words))
    fresh = auditory.init_variables(jax.random.key(0), model, config.cochleagram)
    feature_fn = jax.tree_util.Partial(
        functools.partial(_features, config=config.cochleagram), fresh[auditory.FILTERS]["read"]
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
    return jax.random.fold_in(jax.random.key(run.config.target_seed), _CLIPS)


def _training_mesh(config):
    """All devices of this process or, of these, as many as divide a batch; None: only one."""
    devices, batch_size = jax.local_devices(), config.training.batch_size
    count = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
    if count < len(devices):
        logging.warning(
            "training takes %d of %d devices, for a batch of %d", count, len(devices), batch_size
        )
    return metamers.device_mesh(devices[:count])


def _keep(run, recordings, task, clips_folder):
    if clips_folder is None:
        return None
    key = _clip_key(run)
    return epoch_cache.keeper(
        clips_folder,
        task.model,
        task.grid,
        task.examples["train"].inputs,
        _key(run, _INIT) if key is None else key,
        run.config,
        noise=recordings.noise,
    )


def _train_network(run, recordings, network, clips_folder, stop):
    config, task = run.config, _task(run, recordings, network)
    key = _key(run, _INIT)
    state_path = run.path("networks", network, "state.npz")
    log_path = run.path("networks", network, "training.jsonl")
    state = None
    if runs.is_done(state_path):
        features = training.compute_features(task.feature_fn, task.examples["train"].inputs[:1])
        blank = training.init_state(key, task.model, features, config.training, grid=task.grid)
        state, _ = checkpoints.restore(state_path, like=blank)
        logging.info("%s: training continues after epoch %d", network, int(state.epoch))
    runs.write_jsonl(log_path, [] if state is None else state.records())

    def on_epoch(state, record):
        checkpoints.save(state_path, state)
        runs.append_jsonl(log_path, record)
        if stop():
            _exit()

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
    keys = [_key(run, _INIT) for run in members]
    state = None
    if runs.is_done(state_path):
        features = training.compute_features(task.feature_fn, task.examples["train"].inputs[:1])
        blank = ensembles.init_state(keys, task.model, features, config.training, grid=task.grid)
        state, _ = checkpoints.restore(state_path, like=blank)
        logging.info("%s: training continues after epoch %d", network, int(state[0].epoch))

    def on_epoch(state, _):
        checkpoints.save(state_path, state)
        for run, member in zip(members, state, strict=True):
            runs.write_jsonl(run.path("networks", network, "training.jsonl"), member.records())
        if stop():
            _exit()

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
        runs.write_jsonl(run.path("networks", network, "training.jsonl"), result.records)
        _write_trained(run, recordings, network, task, result, test)
    state_path.unlink(missing_ok=True)


def _write_trained(run, recordings, network, task, result, test_features):
    """Leaves a trained network's weights, and how well it does on the test split."""
    labels = task.examples["test"].labels
    test = training.evaluate(task.model, result.variables, test_features, labels, grid=task.grid)
    checkpoints.save(run.path("networks", network, "weights.npz"), result.variables)
    best = result.records[result.best_epoch - 1] if result.records else {}  # Untrained: no epoch.
    runs.write_json(
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
    logging.info("%s: test accuracy %.1f %%", network, 100 * test.accuracy)


def _features(filters, waveforms, *, config):
    return auditory.cochleagrams.cochleagram(waveforms, filters, config=config)


def load_network(run: runs.Run, network: str, num_words: int):
    """Returns a trained network of the run: the module and its variables, without filters.

    Raises:
        ValueError: It has not been trained yet.
    """
    path = run.path("networks", network, "weights.npz")
    if not runs.is_done(path):
        raise ValueError(
            f"{path} is not there: train the networks first "
            f"(python -m experiments.train --workdir={run.folder})"
        )
    model = models.build_model(network, num_words)
    like = auditory.init_variables(jax.random.key(0), model, run.config.cochleagram)
    variables, _ = checkpoints.restore(path, like=auditory.without_filters(like))
    return model, variables


# Synthesis.


def choose_targets(recordings: Recordings, per_word: int, seed: int) -> np.ndarray:
    """Draws `per_word` recordings of every word from the test split.

    Returns:
        [target] indices into the recordings, which are the targets' ids; words in order.

    Raises:
        ValueError: The test split has fewer of some word.
    """
    chosen = []
    for label, word in enumerate(recordings.words):
        held_out = np.flatnonzero((recordings.splits == "test") & (recordings.labels == label))
        if len(held_out) < per_word:
            raise ValueError(
                f"targets_per_word={per_word} is more than the test split's {len(held_out)} "
                f"recordings of {word!r}"
            )
        order = np.random.default_rng([seed, label]).permutation(len(held_out))
        chosen.append(np.sort(held_out[order[:per_word]]))
    return np.concatenate(chosen)


def _chosen_targets(run, recordings):
    config = run.config
    return choose_targets(recordings, config.targets_per_word, config.resolved_target_seed)


def synthesize_metamers(
    run: runs.Run, recordings: Recordings, *, stop: StopRequested = lambda: False
) -> None:
    """Makes the metamers of every network and stage, on all devices of this process.

    Leaves targets/ and metamers/<network>/<stage>/metamers.npz; while a stage is under way also
    batch_*.npz, its finished batches, and state_*.npz, from which the next one continues. Where
    the run is shared among processes, each leaves the batches of its own targets, and
    `verify_metamers` joins them.
    """
    targets = _chosen_targets(run, recordings)
    networks = {
        network: load_network(run, network, len(recordings.words))
        for network in run.config.networks
    }
    if run.share.index == 0:
        _write_targets(run, recordings, targets)
    if run.share.count > 1:
        runs.write_json(run.path("metamers", _SHARES), {"processes": run.share.count})
    mesh = metamers.device_mesh()
    for network, (model, variables) in networks.items():
        missing = [
            stage
            for stage in _stages(run, model)
            if not runs.is_done(_metamers_path(run, network, stage))
        ]
        if missing:
            variables = auditory.with_filters(variables, model, run.config.cochleagram)
        for stage in missing:
            if stage == "cochleagram" and _take_from_another_network(run, network, stage):
                continue
            _synthesize_stage(
                run, recordings, targets, network, model, variables, stage, mesh, stop
            )
            if run.share.count == 1:
                _join_batches(run, targets, network, stage)


def _take_from_another_network(run, network, stage):
    """Copies the metamers of a stage that no network has a part in: same targets, same noise."""
    for other in run.config.networks:
        made = _metamers_path(run, other, stage)
        if runs.is_done(made):
            runs.write_npz(_metamers_path(run, network, stage), runs.map_npz(made, check=False))
            logging.info("%s: metamers of the %s are those of %s", network, stage, other)
            return True
    return False


_SHARES = "shares.json"  # How many processes there were, to say which has not done its part.


def _stages(run, model):
    known = models.stage_names(run.config.networks)
    if unknown := sorted(set(run.config.stages) - set(known)):
        raise ValueError(f"stages {unknown} are not among {known}")
    return [stage for stage in auditory.stage_names(model) if stage in run.config.stages]


def _metamers_path(run, network, stage):
    return run.path("metamers", network, stage, "metamers.npz")


def _write_targets(run, recordings, targets):
    path = run.path("targets", "targets.npz")
    if runs.is_done(path):
        return
    columns = evaluation.recording_columns(targets, recordings)
    rows = [
        {"target_id": i, "name": name, "word": word, "speaker": speaker, "split": "test"}
        for i, name, word, speaker in zip(
            targets, columns["target_name"], columns["word"], columns["speaker"], strict=True
        )
    ]
    runs.write_csv(run.path("targets", "targets.csv"), rows)
    runs.write_npz(
        path,
        {
            "waveform": recordings.waveforms[targets],
            "target_id": targets,
            "label": recordings.labels[targets],
        },
    )


def _synthesize_stage(run, recordings, targets, network, model, variables, stage, mesh, stop):
    """Makes what is missing of this process's share, one file a batch."""
    config = run.config.synthesis.for_stage(stage)
    folder = run.path("metamers", network, stage)
    stage_fn = auditory.stage_fn(
        model, stage, run.config.cochleagram, relu_override=config.relu_override
    )
    mine = np.array_split(targets, run.share.count)[run.share.index]
    # Batches are full but the last, and whole ones stay: so the rest falls into the same batches.
    left = mine[~np.isin(mine, [*_finished(folder)])]
    label = f"{network} {stage}" + (f" ({run.share})" if run.share.count > 1 else "")
    each = len(config.seeds) * config.steps
    with progress.bar(len(mine) * each, label, unit="step") as bar:
        bar.update((len(mine) - len(left)) * each)
        if not len(left):
            return
        size = metamers.choose_batch_size(
            len(mine),
            recordings.waveforms.shape[1],
            len(config.seeds),
            stage_fn=stage_fn,
            variables=variables,
            config=config,
            mesh=mesh,
        )
        for batch in metamers.batches(len(left), size):
            ids = left[batch]
            state = metamers.init(
                _key(run, _START),
                recordings.waveforms[ids],
                ids,
                stage_fn=stage_fn,
                variables=variables,
                config=config,
                mesh=mesh,
            )
            name = f"{np.flatnonzero(targets == ids[0])[0]:06d}.npz"
            made = _finish_batch(state, folder / f"state_{name}", ids, bar, stop)
            count = len(np.unique(batch))
            runs.write_npz(
                folder / f"batch_{name}", {"target_id": ids[:count], **_first(made, count)}
            )
            (folder / f"state_{name}").unlink(missing_ok=True)


def _first(made, count):
    """Returns a batch as a dict, without the padding that follows its first `count` targets."""
    arrays = {name: value[:count] for name, value in made._asdict().items()}
    return {**arrays, "trace_step": made.trace_step}


def _finish_batch(state, path, ids, bar, stop):
    """Advances one batch to its end, saving its state now and then."""
    trace = metamers.empty_trace(state)
    if runs.is_done(path):
        state, trace = _restored(runs.read_npz(path), ids, state, trace)
    counted = len(np.unique(ids)) / len(ids)  # Padding is no progress.
    last_save, before = time.monotonic(), 0
    while metamers.is_running(state):
        state, info = metamers.advance(state, metamers.next_steps(state))
        trace = metamers.extend_trace(trace, info, state.config)
        done = _steps_done(state)
        error = info.relative_error[-1]
        bar.update((done - before) * counted, median=np.nanmedian(error), worst=np.nanmax(error))
        before = done
        stopping = stop()
        if stopping or time.monotonic() - last_save > _SAVE_INTERVAL_S:
            runs.write_npz(path, _saved(ids, state.metamer, trace))
            last_save = time.monotonic()
        if stopping:
            _exit()
    return metamers.finish(state, trace)


def _saved(ids, metamer, trace):
    leaves = enumerate(jax.tree.leaves(metamer))
    arrays = {f"metamer_{i:02d}": leaf for i, leaf in leaves}
    traces = {f"trace_{k}": v for k, v in trace._asdict().items()}
    return {"target_id": ids, **arrays, **traces}


def _restored(saved, ids, state, trace):
    """Returns the state and trace that were saved, or those given if they are of another batch."""
    structure = jax.tree.structure(state.metamer)
    leaves = [saved.get(f"metamer_{i:02d}") for i in range(structure.num_leaves)]
    fits = all(
        old is not None and (old.shape, old.dtype) == (new.shape, new.dtype)
        for old, new in zip(leaves, jax.tree.leaves(state.metamer), strict=True)
    )
    if not fits or not np.array_equal(saved["target_id"], ids):
        return state, trace
    metamer = metamers.place(jax.tree.unflatten(structure, leaves), state.mesh)
    trace = metamers.Trace(*(saved[f"trace_{field}"] for field in trace._fields))
    return dataclasses.replace(state, metamer=metamer), trace


def _steps_done(state):
    """Steps behind the batch; a sound that stopped early has all of its behind it."""
    running = np.asarray(state.metamer.outcome) == metamers.Outcome.RUNNING
    return float(np.where(running, np.asarray(state.metamer.step), state.config.steps).sum())


def _finished(folder):
    """Says which file, and which row of it, holds each target that is done: {id: (path, row)}."""
    found = {}
    for path in sorted(folder.glob("batch_*.npz")):
        if runs.is_done(path):
            ids = runs.map_npz(path, check=False).get("target_id", ())
            found |= {int(target_id): (path, row) for row, target_id in enumerate(ids)}
    return found


def _join_batches(run, targets, network, stage):
    """Makes metamers.npz of the batches, a file at a time, and removes them."""
    path = _metamers_path(run, network, stage)
    if not runs.is_done(path):
        found = _finished(path.parent)
        _require_all(run, targets, found, path)
        seeds = np.asarray(run.config.synthesis.seeds)
        runs.write_npz(
            path,
            {"target_id": targets, "seed": seeds, **_joined([found[t] for t in targets.tolist()])},
        )
    for leftover in (*path.parent.glob("batch_*.npz"), *path.parent.glob("state*.npz")):
        leftover.unlink(missing_ok=True)


def _joined(places):
    """Returns the fields of `metamers.Synthesis` of (path, row) after (path, row), as streams."""
    by_file = [
        (path, [row for _, row in rows])
        for path, rows in itertools.groupby(places, key=lambda place: place[0])
    ]
    steps = [np.array(runs.map_npz(path, check=False)["trace_step"]) for path, _ in by_file]
    trace_step = max(steps, key=len)

    def parts(name):
        for path, rows in by_file:
            values = np.array(runs.map_npz(path, check=False)[name])[rows]
            if name.startswith("trace_"):  # Shorter where all of a batch stopped early.
                missing = [(0, 0)] * (values.ndim - 1) + [(0, len(trace_step) - values.shape[-1])]
                values = np.pad(values, missing, constant_values=np.nan)
            yield values

    def rows(name):
        one = next(parts(name))
        return runs.Rows((len(places), *one.shape[1:]), one.dtype, parts(name))

    streams = {name: rows(name) for name in metamers.Synthesis._fields if name != "trace_step"}
    return {**streams, "trace_step": trace_step}


def _require_all(run, targets, found, path):
    missing = [position for position, t in enumerate(targets.tolist()) if t not in found]
    if not missing:
        return
    try:
        count = runs.read_json(run.path("metamers", _SHARES))["processes"]
    except (FileNotFoundError, runs.DamagedFileError):
        count = 1
    whose = np.concatenate(
        [np.full(len(part), i) for i, part in enumerate(np.array_split(targets, count))]
    )
    command = f"python -m experiments.synthesize --workdir={run.folder}"
    lacking = ", ".join(str(i) for i in np.unique(whose[missing]))
    raise ValueError(
        f"{path} cannot be made: {len(missing)} of {len(targets)} targets are not synthesised (ids "
        f"{', '.join(str(t) for t in targets[missing[:10]])}{', ...' * (len(missing) > 10)})"
        + (f", of the share of process {lacking} of {count}" if count > 1 else "")
        + f"; synthesise them first: {command}"
        + (", with the same processes again or one alone" if count > 1 else "")
    )


def read_metamers(run: runs.Run, network: str, stage: str) -> evaluation.StageMetamers:
    """Returns the finished metamers of one network and stage.

    Their arrays stay in the file: of many, look at a few at a time (`StageMetamers.rows`).

    Raises:
        ValueError: They have not been made yet.
    """
    path = _metamers_path(run, network, stage)
    if not runs.is_done(path):
        raise ValueError(
            f"{path} is not there: synthesise the metamers first "
            f"(python -m experiments.synthesize --workdir={run.folder})"
        )
    arrays = runs.map_npz(path, check=False)
    made = metamers.Synthesis(**{name: arrays[name] for name in metamers.Synthesis._fields})
    return evaluation.StageMetamers(
        stage, made, np.array(arrays["target_id"]), np.array(arrays["seed"])
    )


# Verification.

_VERIFICATION_FILES = (
    "null.json",
    "null_histograms.npz",
    "stages.csv",
    "yields.csv",
    "metamers.csv",
)


class Natural(NamedTuple):
    """The natural recordings whose pairs make null distributions, the same for every network.

    Attributes:
        ids: [recording] indices into the recordings.
        cochleagrams: [recording, channel, frame], exact.
        known: Null distributions that are no network's: of the stage `cochleagram`, where the
            run has it.
    """

    ids: np.ndarray
    cochleagrams: np.ndarray
    known: dict[str, verification.NullDistribution]


def natural_sounds(
    run: runs.Run, recordings: Recordings, *, stop: StopRequested = lambda: False
) -> Natural:
    """Draws the recordings of the null distribution, from every split, and hears them.

    Runs that differ in their networks and `seed` alone share what this returns.
    """
    config = run.config
    count = min(config.verification.null_recordings, len(recordings))
    order = np.random.default_rng([config.resolved_target_seed, 1]).permutation(len(recordings))
    ids = np.sort(order[:count])
    with progress.bar(count, "natural recordings", unit="sound") as bar:
        made = _exact_cochleagrams(run, recordings.waveforms[ids], bar, stop)
    known = {}
    if "cochleagram" in config.stages:
        known["cochleagram"] = verification.null_distribution(
            made, **_null_settings(run, recordings, ids)
        )
    return Natural(ids, made, known)


def _null_settings(run, recordings, ids):
    return {
        "speakers": recordings.speakers[ids],
        "fingerprints": verification.fingerprints(recordings.waveforms[ids]),
        "seed": run.config.resolved_target_seed,
    }


def _exact_cochleagrams(run, waveforms, bar, stop):
    if stop():
        _exit()
    return evaluation.dense_cochleagrams(
        waveforms,
        run.config.cochleagram,
        batch_size=run.config.verification.batch_size,
        on_batch=bar.update,
    )


def verify_metamers(
    run: runs.Run,
    recordings: Recordings,
    *,
    natural: Natural | None = None,
    stop: StopRequested = lambda: False,
) -> None:
    """Checks every metamer on the exact model, as made and as it will be played.

    Leaves verification/ and the sounds as they will be played, metamers/<network>/<stage>/wav/
    and targets/wav/: 16-bit, all at one level.

    Args:
        run: The run.
        recordings: Its recordings.
        natural: From `natural_sounds`, to be shared by several runs; None: made here.
        stop: Says whether to end before the next batch.
    """
    if runs.is_done(*(run.path("verification", name) for name in _VERIFICATION_FILES)):
        return
    import pandas as pd

    networks = {
        network: load_network(run, network, len(recordings.words))
        for network in run.config.networks
    }
    targets = _chosen_targets(run, recordings)
    _write_targets(run, recordings, targets)
    conditions = [
        (network, stage)
        for network, (model, _) in networks.items()
        for stage in _stages(run, model)
    ]
    found = {}
    for condition in conditions:
        if any(run.path("metamers", *condition).glob("batch_*.npz")):
            _join_batches(run, targets, *condition)
        found[condition] = read_metamers(run, *condition)
    level_db = _playback_level(run, recordings, targets, found)
    if natural is None:
        natural = natural_sounds(run, recordings, stop=stop)
    nulls = _null_distributions(run, recordings, natural, networks)
    num_seeds = len(run.config.synthesis.seeds)
    per_version = len(targets) * num_seeds
    total = len(targets) + len(found) * len(evaluation.VERSIONS) * per_version
    tables, long = {c: [] for c in conditions}, {c: [] for c in conditions}
    with progress.bar(total, "verifying", unit="sound") as bar:

        def exact_cochleagrams(waveforms):
            return _exact_cochleagrams(run, waveforms, bar, stop)

        for rows in _chunks(len(targets), max(1, _VERIFIED_AT_ONCE // num_seeds)):
            _play_targets(run, recordings, targets[rows], level_db)
            target_cochleagrams = exact_cochleagrams(recordings.waveforms[targets[rows]])
            for network, (model, variables) in networks.items():
                heard_targets = evaluation.hear(model, variables, target_cochleagrams)
                for stage in _stages(run, model):
                    metamer = found[network, stage].rows(rows)
                    waveforms = {
                        "raw": metamer.made.waveform,
                        "played": _play(run, recordings, network, metamer, level_db),
                    }
                    versions = {
                        version: evaluation.hear(
                            model,
                            variables,
                            exact_cochleagrams(sounds.reshape(-1, sounds.shape[-1])),
                        )
                        for version, sounds in waveforms.items()
                    }
                    table, measured = evaluation.assess(
                        model,
                        heard_targets,
                        versions,
                        metamer,
                        null=nulls[network][stage],
                        words=recordings.words,
                        config=run.config.verification,
                    )
                    tables[network, stage].append(table.assign(network=network))
                    long[network, stage].append(measured.assign(network=network))
    summaries = {
        network: {stage: null.summary() for stage, null in of_network.items()}
        for network, of_network in nulls.items()
    }
    histograms = {
        f"{network}/{stage}/{name}": values
        for network, of_network in nulls.items()
        for stage, null in of_network.items()
        for name, values in null.histograms().items()
    }
    tables = [table for parts in tables.values() for table in parts]
    long = [_by_version(parts) for parts in long.values()]
    table = pd.concat(tables, ignore_index=True)
    table = table.assign(**evaluation.recording_columns(table["target_id"], recordings))
    table["target_correct"] = table["target_prediction"] == table["word"]
    table = _first_columns(
        table, "network stage stage_index word target_id target_name speaker seed".split()
    )
    stages = _first_columns(pd.concat(long, ignore_index=True), ["network"])
    folder = run.path("verification")
    runs.write_json(folder / "null.json", summaries)
    runs.write_npz(folder / "null_histograms.npz", histograms)
    runs.write_csv(folder / "stages.csv", stages)
    runs.write_csv(folder / "yields.csv", verification.yields(table))
    runs.write_csv(folder / "metamers.csv", table)
    passed = (table["verdict"] == "pass").sum()
    logging.info("%d of %d metamers verified", passed, len(table))


def _first_columns(table, names):
    return table[names + [name for name in table.columns if name not in names]]


def _null_distributions(run, recordings, natural, networks):
    """Returns {network: {stage: null distribution}}."""
    return {
        network: evaluation.null_distributions(
            model,
            variables,
            natural.cochleagrams,
            _stages(run, model),
            **_null_settings(run, recordings, natural.ids),
            known=natural.known,
        )
        for network, (model, variables) in networks.items()
    }


# Sounds of one network and stage that are verified together: what bounds the memory, since every
# stage's activations of targets, metamers and metamers as played are kept so long.
_VERIFIED_AT_ONCE = 128


def _chunks(count, size):
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _by_version(parts):
    """Joins tables of chunks into one in the order version, stage, target."""
    import pandas as pd

    groups = [part.groupby(["version", "measured_stage"], sort=False) for part in parts]
    keys = list(groups[0].groups)
    return pd.concat([group.get_group(key) for key in keys for group in groups])


def _playback_level(run, recordings, targets, found):
    """Returns the highest level, up to the one asked for, at which no sound clips; saves it."""
    level_db = run.config.verification.playback_level_db
    sounds = [recordings.waveforms, *(metamer.made.waveform for metamer in found.values())]
    for number, source in enumerate(sounds):
        rows = targets if number == 0 else np.arange(len(targets))
        for chunk in _chunks(len(rows), _VERIFIED_AT_ONCE):
            waveforms = np.array(source[rows[chunk]])
            level_db = audio.to_playback(waveforms, level_db)[1]
    runs.write_json(run.path("metamers", "playback.json"), {"level_db": level_db, "bits": 16})
    return level_db


def _play_targets(run, recordings, ids, level_db):
    """Writes targets as they will be played."""
    samples, _ = audio.to_playback(recordings.waveforms[ids], level_db)
    for target_id, sound in zip(ids, samples, strict=True):
        word = recordings.words[recordings.labels[target_id]]
        path = run.path("targets", "wav", f"{target_id}_{word}.wav")
        audio.write_wav(path, sound, recordings.sample_rate_hz)


def _play(run, recordings, network, metamer, level_db):
    """Writes metamers as they will be played, and returns them as a network is given them.

    A network takes any recording at mean 0 and rms 0.1: so also these, once they are read back.
    """
    folder = run.path("metamers", network, metamer.stage, "wav")
    samples, _ = audio.to_playback(metamer.made.waveform, level_db)
    for target_id, of_target in zip(metamer.target_ids, samples, strict=True):
        word = recordings.words[recordings.labels[target_id]]
        for seed, sound in zip(metamer.seeds, of_target, strict=True):
            path = folder / f"{target_id}_{seed}_{word}.wav"
            audio.write_wav(path, sound, recordings.sample_rate_hz)
    return audio.normalize(audio.from_int16(samples)).astype(np.float32)


# Report.


def write_report(run: runs.Run) -> pathlib.Path:
    """Writes report.html and figures/ from what the run folder holds so far."""
    from metamer_jax import report

    return report.write_report(run.folder, seed=run.config.seed)


def _report_is_current(run):
    report, table = run.path("report.html"), run.path("verification", "metamers.csv")
    return report.exists() and report.stat().st_mtime >= table.stat().st_mtime


def _key(run, purpose):
    return jax.random.fold_in(jax.random.key(run.config.seed), purpose)


def _exit():
    logging.warning("told to end: saved; run the same command again to continue")
    raise SystemExit(runs.EXIT_STOPPED)
