"""Metamers of one stage, from the files of their batches, whichever process made them."""

import itertools

import numpy as np
from absl import logging

from metamer_jax import metamers, runs, storage
from metamer_jax.pipeline import assessment
from metamer_jax.pipeline.common import metamers_path
from metamer_jax.runs import manifest

FILE = "shares.json"  # How many processes there were, to say which has not done its part.


def finished(run, network, stage):
    """Says which file, and which row of it, holds each target that is done: {id: (path, row)}."""
    found = {}
    for path in sorted(run.path("metamers", network, stage).glob("batch_*.npz")):
        if storage.is_done(path):
            arrays = storage.map_npz(path, check=False)
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


def join_batches(run, targets, network, stage):
    """Makes metamers.npz of the batches, a file at a time, and removes them."""
    path = metamers_path(run, network, stage)
    if not run.is_done(manifest.metamers_of(network, stage)):
        found = finished(run, network, stage)
        _require_all(run, targets, found, path)
        seeds = np.asarray(run.config.synthesis.seeds)
        storage.write_npz(
            path,
            {"target_id": targets, "seed": seeds, **_joined([found[t] for t in targets.tolist()])},
        )
        run.record(manifest.metamers_of(network, stage))
    for leftover in (*path.parent.glob("batch_*.npz"), *path.parent.glob("state*.npz")):
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
                missing = [(0, 0)] * (values.ndim - 1) + [(0, len(trace_step) - values.shape[-1])]
                values = np.pad(values, missing, constant_values=np.nan)
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
    try:
        count = storage.read_json(run.path("metamers", FILE))["processes"]
    except (FileNotFoundError, storage.DamagedFileError):
        count = 1
    whose = np.concatenate(
        [np.full(len(part), i) for i, part in enumerate(np.array_split(targets, count))]
    )
    command = f"metamer-jax synthesize --workdir={run.folder}"
    lacking = ", ".join(str(i) for i in np.unique(whose[missing]))
    raise ValueError(
        f"{path} cannot be made: {len(missing)} of {len(targets)} targets are not synthesised (ids "
        f"{', '.join(str(t) for t in targets[missing[:10]])}{', ...' * (len(missing) > 10)})"
        + (f", of the share of process {lacking} of {count}" if count > 1 else "")
        + f"; synthesise them first: {command}"
        + (", with the same processes again or one alone" if count > 1 else "")
    )


def read_metamers(run: runs.Run, network: str, stage: str) -> assessment.StageMetamers:
    """Returns the finished metamers of one network and stage.

    Their arrays stay in the file: of many, look at a few at a time (`StageMetamers.rows`).

    Raises:
        ValueError: They have not been made yet.
    """
    path = metamers_path(run, network, stage)
    if not run.is_done(manifest.metamers_of(network, stage)):
        raise ValueError(
            f"{path} is not there: synthesise the metamers first "
            f"(metamer-jax synthesize --workdir={run.folder})"
        )
    arrays = storage.map_npz(path, check=False)
    made = metamers.Synthesis(**{name: arrays[name] for name in metamers.Synthesis._fields})
    return assessment.StageMetamers(
        stage, made, np.array(arrays["target_id"]), np.array(arrays["seed"])
    )
