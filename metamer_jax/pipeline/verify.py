"""Metamers are checked: from metamers/ to verification/, and to the sounds as played."""

from typing import NamedTuple

import numpy as np
from absl import logging

from metamer_jax import audio, runs, storage, verification
from metamer_jax.auditory import exact
from metamer_jax.data import Recordings
from metamer_jax.pipeline import assessment
from metamer_jax.pipeline.common import (
    StopRequested,
    chosen_targets,
    leave,
    stages_of,
    write_targets,
)
from metamer_jax.pipeline.shards import join_batches, read_metamers
from metamer_jax.pipeline.train import load_network
from metamer_jax.runtime import progress

_VERIFICATION_FILES = (
    "null.json",
    "null_histograms.npz",
    "stages.csv",
    "yields.csv",
    "metamers.csv",
)
# Sounds of one network and stage that are verified together: what bounds the memory, since every
# stage's activations of targets, metamers and metamers as played are kept so long.
_VERIFIED_AT_ONCE = 128


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
        leave()
    return exact.dense_cochleagrams(
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
    if storage.is_done(*(run.path("verification", name) for name in _VERIFICATION_FILES)):
        return
    import pandas as pd

    networks = {
        network: load_network(run, network, len(recordings.words))
        for network in run.config.networks
    }
    targets = chosen_targets(run, recordings)
    write_targets(run, recordings, targets)
    conditions = [
        (network, stage)
        for network, (model, _) in networks.items()
        for stage in stages_of(run, model)
    ]
    found = {}
    for condition in conditions:
        if any(run.path("metamers", *condition).glob("batch_*.npz")):
            join_batches(run, targets, *condition)
        found[condition] = read_metamers(run, *condition)
    level_db = _playback_level(run, recordings, targets, found)
    if natural is None:
        natural = natural_sounds(run, recordings, stop=stop)
    nulls = _null_distributions(run, recordings, natural, networks)
    tables, long = _assess_all(run, recordings, targets, networks, found, nulls, level_db, stop)
    table = pd.concat(tables, ignore_index=True)
    table = table.assign(**assessment.recording_columns(table["target_id"], recordings))
    table["target_correct"] = table["target_prediction"] == table["word"]
    table = _first_columns(
        table, "network stage stage_index word target_id target_name speaker seed".split()
    )
    _write_nulls(run, nulls)
    folder = run.path("verification")
    storage.write_csv(folder / "stages.csv", _first_columns(pd.concat(long), ["network"]))
    storage.write_csv(folder / "yields.csv", verification.yields(table))
    storage.write_csv(folder / "metamers.csv", table)
    passed = (table["verdict"] == "pass").sum()
    logging.info("%d of %d metamers verified", passed, len(table))


def _assess_all(run, recordings, targets, networks, found, nulls, level_db, stop):
    """Hears every metamer, raw and as it is played (and writes it so).

    Returns:
        Tables of each network and stage, in the order of `found`: one row a metamer; and one row a
        metamer, version and stage at which it is measured.
    """
    num_seeds = len(run.config.synthesis.seeds)
    total = len(targets) * (1 + len(found) * len(assessment.VERSIONS) * num_seeds)
    tables, long = {c: [] for c in found}, {c: [] for c in found}
    with progress.bar(total, "verifying", unit="sound") as bar:

        def hear(model, variables, waveforms):
            sounds = waveforms.reshape(-1, waveforms.shape[-1])
            cochleagrams = _exact_cochleagrams(run, sounds, bar, stop)
            return exact.run_network(model, variables, cochleagrams)

        for rows in _chunks(len(targets), max(1, _VERIFIED_AT_ONCE // num_seeds)):
            _play_targets(run, recordings, targets[rows], level_db)
            natural = _exact_cochleagrams(run, recordings.waveforms[targets[rows]], bar, stop)
            for network, (model, variables) in networks.items():
                heard_targets = exact.run_network(model, variables, natural)
                for stage in stages_of(run, model):
                    metamer = found[network, stage].rows(rows)
                    played = _play(run, recordings, network, metamer, level_db)
                    versions = {"raw": metamer.made.waveform, "played": played}
                    table, measured = assessment.assess(
                        model,
                        heard_targets,
                        {name: hear(model, variables, made) for name, made in versions.items()},
                        metamer,
                        null=nulls[network][stage],
                        words=recordings.words,
                        config=run.config.verification,
                    )
                    tables[network, stage].append(table.assign(network=network))
                    long[network, stage].append(measured.assign(network=network))
    return (
        [table for parts in tables.values() for table in parts],
        [_by_version(parts) for parts in long.values()],
    )


def _write_nulls(run, nulls):
    """Leaves what the null distributions of {network: {stage: ...}} say, and their histograms."""
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
    storage.write_json(run.path("verification", "null.json"), summaries)
    storage.write_npz(run.path("verification", "null_histograms.npz"), histograms)


def _first_columns(table, names):
    return table[names + [name for name in table.columns if name not in names]]


def _null_distributions(run, recordings, natural, networks):
    """Returns {network: {stage: null distribution}}."""
    return {
        network: assessment.null_distributions(
            model,
            variables,
            natural.cochleagrams,
            stages_of(run, model),
            **_null_settings(run, recordings, natural.ids),
            known=natural.known,
        )
        for network, (model, variables) in networks.items()
    }


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
    storage.write_json(run.path("metamers", "playback.json"), {"level_db": level_db, "bits": 16})
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
