"""Metamers are made: from targets and networks to metamers/<network>/<stage>/."""

import dataclasses
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from metamer_jax import auditory, metamers, runs, storage
from metamer_jax.data import Recordings
from metamer_jax.own_models.saved import SavedModel
from metamer_jax.pipeline import shards
from metamer_jax.pipeline.common import (
    START,
    StopRequested,
    chosen_targets,
    key_of,
    leave,
    stages_of,
    write_targets,
)
from metamer_jax.pipeline.train import conditions_of, load_network, wait_for_networks
from metamer_jax.runs import manifest
from metamer_jax.runtime import devices, progress

SAVE_INTERVAL_S = 30.0


def synthesize_metamers(
    run: runs.Run, recordings: Recordings, *, stop: StopRequested = lambda: False
) -> None:
    """Makes the metamers of every network and stage, on all devices of this process.

    Leaves targets/ and metamers/<network>/<stage>/metamers.npz; while a stage is under way also
    batch_*.npz, its finished batches, and state_*.npz, from which the next one continues. Where
    the run is shared among processes, each leaves batches that are its own, the same that one
    process would make, and `verify_metamers` joins them.

    Args:
        run: The run.
        recordings: Its recordings.
        stop: Function that says whether to end; asked after every chunk of steps.

    Raises:
        ValueError: A network is not trained, or metamers of another's model are missing.
        SystemExit: `stop` said so; everything done so far is saved.
    """
    targets = chosen_targets(run, recordings)
    wait_for_networks(run, stop)
    networks = {
        network: load_network(run, network, len(recordings.words))
        for network in run.config.networks
    }
    if run.shard.index == 0:
        write_targets(run, recordings, targets)
    mesh = devices.device_mesh()
    conditions = conditions_of(run, recordings)
    for network, (model, variables) in networks.items():
        missing = [
            stage
            for stage in stages_of(run, model)
            if not run.is_done(manifest.metamers_of(network, stage))
        ]
        if not missing:
            continue
        if isinstance(model, SavedModel):
            raise ValueError(
                f"{run.path('metamers', network)} lacks stages {missing}, and {network} is "
                "another's model: make_metamers makes its metamers, save_run saves them"
            )
        variables = auditory.with_filters(variables, model, run.config.cochleagram)
        for stage in missing:
            number = shards.number_of(conditions, network, stage)
            if run.shard.count > 1 and conditions[number] != (network, stage):
                continue  # Of the cochleagram: the first network's are those of all.
            if shards.take_from_another_network(run, network, stage):
                continue
            _synthesize_stage(
                run, recordings, targets, number, network, model, variables, stage, mesh, stop
            )
            if run.shard.count == 1:
                shards.join_batches(run, targets, network, stage)


def _synthesize_stage(
    run, recordings, targets, number, network, model, variables, stage, mesh, stop
):
    """Makes what is missing of this process's shard, one file a batch."""
    config = run.config.synthesis.for_stage(stage, network)
    folder = run.path("metamers", network, stage)
    stage_fn = metamers.parametrised(
        auditory.stage_fn(model, stage, run.config.cochleagram, relu_override=config.relu_override),
        _parametrisation(run),
    )
    of_every_batch = {
        "stage_fn": stage_fn,
        "variables": variables,
        "config": config,
        "mesh": mesh,
    }
    num_samples = recordings.waveforms.shape[1]
    size = metamers.choose_batch_size(
        len(targets), num_samples, len(config.seeds), **of_every_batch
    )
    if run.shard.count > 1:
        size = shards.agreed_size(run, network, stage, size)
    batch_of = np.arange(len(targets)) // size
    mine = targets[[run.shard.owns(number + batch) for batch in batch_of.tolist()]]
    # Batches are full but the last, and whole ones stay: so the rest falls into the same batches.
    left = mine[~np.isin(mine, [*shards.finished(run, network, stage)])]
    origin = shards.origin(run, network, stage)
    label = f"{network} {stage}" + (f" ({run.shard})" if run.shard.count > 1 else "")
    each = len(config.seeds) * config.steps
    with progress.bar(len(mine) * each, label, unit="step") as bar:
        bar.update((len(mine) - len(left)) * each)
        if not len(left):
            return
        for batch in metamers.batches(len(left), size):
            ids = left[batch]
            sounds = jnp.asarray(storage.take(recordings.waveforms, ids))
            state = metamers.init(key_of(run, START), sounds, ids, **of_every_batch)
            name = f"{np.flatnonzero(targets == ids[0])[0]:06d}.npz"
            made = _finish_batch(
                state,
                folder / f"state_{name}",
                ids,
                bar,
                stop,
                origin=origin,
                of_others=functools.partial(shards.of_others, run, network, stage),
            )
            count = len(np.unique(batch))
            arrays = made.rows(slice(count))._asdict()  # Without the padding.
            storage.write_npz(
                folder / f"batch_{name}", {"target_id": ids[:count], **origin, **arrays}
            )
            (folder / f"state_{name}").unlink(missing_ok=True)


def _parametrisation(run):
    """Returns what makes the sound as it is played of the optimised array, if that is asked for."""
    if not run.config.synthesis.as_played:
        return None
    return metamers.AsPlayed(run.config.cochleagram.sample_rate_hz, run.config.playback)


def _finish_batch(state, path, ids, bar, stop, *, origin, of_others):
    """Runs one batch, from where its saved state left it, and saves that now and then."""
    trace = metamers.empty_trace(state)
    if storage.is_done(path):
        try:
            state, trace = _restored(storage.read_npz(path), ids, state, trace, of_others)
        except ValueError as error:
            logging.warning("%s %s; it is made again", path, error)
    counted = len(np.unique(ids)) / len(ids)  # Padding is no progress.
    last_save, before = time.monotonic(), 0

    def on_chunk(state, info, trace):
        nonlocal last_save, before
        done = _steps_done(state)
        error = info.relative_error[-1]
        bar.update((done - before) * counted, median=np.nanmedian(error), worst=np.nanmax(error))
        before = done
        stopping = stop()
        if stopping or time.monotonic() - last_save > SAVE_INTERVAL_S:
            storage.write_npz(path, {**origin, **_saved(ids, state.metamer, trace)})
            last_save = time.monotonic()
        if stopping:
            leave()

    return metamers.run_batch(state, trace, on_chunk)


def _saved(ids, metamer, trace):
    leaves = enumerate(jax.tree.leaves(metamer))
    arrays = {f"metamer_{i:02d}": leaf for i, leaf in leaves}
    traces = {f"trace_{k}": v for k, v in trace._asdict().items()}
    return {"target_id": ids, **arrays, **traces}


def _restored(saved, ids, state, trace, of_others):
    """Returns the state and trace that were saved.

    Raises:
        ValueError: They are of another batch, or none that a synthesis can have come to.
    """
    if (reason := of_others(saved)) is not None:
        raise ValueError(reason)
    if not np.array_equal(saved["target_id"], ids):
        raise ValueError("is of another batch")
    structure = jax.tree.structure(state.metamer)
    leaves = [saved.get(f"metamer_{i:02d}") for i in range(structure.num_leaves)]
    traces = [saved.get(f"trace_{field}") for field in trace._fields]
    fits = all(
        old is not None and (old.shape, old.dtype) == (new.shape, new.dtype)
        for old, new in zip(leaves, jax.tree.leaves(state.metamer), strict=True)
    )
    if not fits or any(values is None for values in traces):
        raise ValueError("does not hold what a synthesis under way holds")
    metamer = jax.tree.unflatten(structure, leaves)
    running = metamer.outcome == metamers.Outcome.RUNNING
    if not np.isfinite(metamer.waveform[running]).all():
        raise ValueError("holds sounds that are not finite")
    if not ((metamer.step >= 0) & (metamer.step <= state.config.steps)).all():
        raise ValueError("holds numbers of steps that cannot be")
    state = dataclasses.replace(state, metamer=metamers.place(metamer, state.mesh))
    return state, metamers.Trace(*traces)


def _steps_done(state):
    """Steps behind the batch; a sound that stopped early has all of its behind it."""
    running = np.asarray(state.metamer.outcome) == metamers.Outcome.RUNNING
    return float(np.where(running, np.asarray(state.metamer.step), state.config.steps).sum())
