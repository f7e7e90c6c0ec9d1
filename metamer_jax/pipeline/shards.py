"""Metamers of one stage, from the files of their batches, whichever process made them."""

import functools
import itertools

import numpy as np
from absl import logging

from metamer_jax import metamers, runs, storage
from metamer_jax.metamers.batching import lengthened
from metamer_jax.pipeline import assessment
from metamer_jax.runs import manifest
from metamer_jax.runtime import pasting

_UNDER_WAY = ("batch_*.npz", "state*.npz", "batches.json")
_SIZE = "batches.json"  # Of a stage that shares work at: how many targets a batch has.


def finished(run, network, stage):
    """Says which file, and which row of it, holds each target that is done: {id: (path, row)}."""
    found = {}
    for path in sorted(run.path("metamers", network, stage).glob("batch_*.npz")):
        if storage.is_done(path):
            try:
                arrays = storage.map_npz(path, check=False)
            except FileNotFoundError:  # Another share has joined them.
                continue
            reason = of_others(run, network, stage, arrays)
            if reason is None and not set(metamers.Synthesis._fields) <= set(arrays):
                reason = "holds no batch"
            if reason is not None:
                logging.warning("%s %s; it is made again", path, reason)
                continue
            ids = arrays["target_id"]
            found |= {int(target_id): (path, row) for row, target_id in enumerate(ids)}
    return found


def origin(run, network, stage):
    """What a batch or its state under way carries, to be known by: {"made_of": digest}."""
    return {"made_of": run.manifest.made_of(manifest.metamers_of(network, stage))}


def of_others(run, network, stage, arrays):
    """Says why arrays of a batch, or its state, are not of this run's stage; None: they are."""
    if "target_id" not in arrays:
        return "holds no batch"
    if "made_of" not in arrays and run.manifest.adopted:  # Of an earlier version.
        return None
    if str(arrays.get("made_of")) != origin(run, network, stage)["made_of"]:
        return "follows from other settings or files than those of today"
    return None


def number_of(conditions, network, stage):
    """Number of the unit of work (network, stage): of the cochleagram's, the first network's."""
    if stage == "cochleagram":
        return [each for _, each in conditions].index(stage)
    return conditions.index((network, stage))


def agreed_size(run, network, stage, size):
    """Targets in a batch, as the first share to come says: other devices would take others."""
    path = run.path("metamers", network, stage, _SIZE)
    if not storage.is_done(path):
        storage.write_json(path, {"size": size})
    return storage.read_json(path)["size"]


def take_from_another_network(run, network, stage):
    """Copies the metamers of a stage that no network has a part in: same targets, same noise."""
    for other in run.config.networks if stage == "cochleagram" else ():
        made = run.path(manifest.metamers_of(other, stage))
        if other != network and run.is_done(manifest.metamers_of(other, stage)):
            storage.copy_file(made, run.path(manifest.metamers_of(network, stage)))
            run.record(manifest.metamers_of(network, stage))
            logging.info("%s: metamers of the %s are those of %s", network, stage, other)
            return True
    return False


def join_shares(run, targets, conditions, stop):
    """Joins what shares have made of the stages, each some of them, and waits for the others'."""

    def unsound(some):
        names = {condition: manifest.metamers_of(*condition) for condition in some}
        return {
            names[condition]: conditions.index(condition)
            for condition in some
            if not run.manifest.is_sound(names[condition])
        }

    def batches_missing(condition, number):
        missing = ~np.isin(targets, [*finished(run, *condition)])
        path = run.path("metamers", *condition, _SIZE)
        size = storage.read_json(path)["size"] if storage.is_done(path) else len(targets)
        return {
            f"batch {batch} of {'/'.join(condition)}": number + batch
            for batch in np.unique(np.flatnonzero(missing) // size).tolist()
        }

    for number, condition in enumerate(conditions):
        if not run.shard.owns(number) or not unsound([condition]):
            continue
        first = conditions[number_of(conditions, *condition)]
        if first != condition:
            run.wait(functools.partial(unsound, [first]), stop)
            take_from_another_network(run, *condition)
        else:
            run.wait(functools.partial(batches_missing, condition, number), stop)
            join_batches(run, targets, *condition)
    run.wait(functools.partial(unsound, conditions), stop)


def join_batches(run, targets, network, stage):
    """Makes metamers.npz of the batches, a file at a time, and removes them."""
    path = run.path(manifest.metamers_of(network, stage))
    if not run.is_done(manifest.metamers_of(network, stage)):
        found = finished(run, network, stage)
        _require_all(run, targets, found, path)
        seeds = np.asarray(run.config.synthesis.seeds)
        storage.write_npz(
            path,
            {"target_id": targets, "seed": seeds, **_joined([found[t] for t in targets.tolist()])},
        )
        run.record(manifest.metamers_of(network, stage))
    for leftover in (each for name in _UNDER_WAY for each in path.parent.glob(name)):
        leftover.unlink(missing_ok=True)


def _joined(places):
    """Returns the fields of `metamers.Synthesis` of (path, row) after (path, row), as streams."""
    by_file = [
        (path, [row for _, row in rows])
        for path, rows in itertools.groupby(places, key=lambda place: place[0])
    ]
    steps = [np.array(storage.map_npz(path, check=False)["trace_step"]) for path, _ in by_file]
    trace_step = max(steps, key=len)

    def parts(name):
        for path, rows in by_file:
            values = np.array(storage.map_npz(path, check=False)[name])[rows]
            if name.startswith("trace_"):  # Shorter where all of a batch stopped early.
                values = lengthened(values, len(trace_step))
            yield values

    def rows(name):
        one = next(parts(name))
        return storage.Rows((len(places), *one.shape[1:]), one.dtype, parts(name))

    streams = {name: rows(name) for name in metamers.Synthesis._fields if name != "trace_step"}
    return {**streams, "trace_step": trace_step}


def _require_all(run, targets, found, path):
    missing = [position for position, t in enumerate(targets.tolist()) if t not in found]
    if not missing:
        return
    raise ValueError(
        f"{path} cannot be made: {len(missing)} of {len(targets)} targets are not synthesised (ids "
        f"{', '.join(str(t) for t in targets[missing[:10]])}{', ...' * (len(missing) > 10)}); "
        f"synthesise them first: {pasting.command('synthesize', f'--workdir={run.folder}')} (with "
        "the same shares again, or one process alone)"
    )


def read_metamers(run: runs.Run, network: str, stage: str) -> assessment.StageMetamers:
    """Returns the finished metamers of one network and stage.

    Their arrays stay in the file: of many, look at a few at a time (`StageMetamers.rows`).

    Raises:
        ValueError: They have not been made yet.
    """
    path = run.path(manifest.metamers_of(network, stage))
    if not run.is_done(manifest.metamers_of(network, stage)):
        raise run.missing(path, "synthesise the metamers", "synthesize")
    arrays = storage.map_npz(path, check=False)
    made = metamers.Synthesis(**{name: arrays[name] for name in metamers.Synthesis._fields})
    return assessment.StageMetamers(
        stage, made, np.array(arrays["target_id"]), np.array(arrays["seed"])
    )
