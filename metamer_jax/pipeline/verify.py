"""Metamers are checked as they are played: from metamers/ to 16-bit files, and to verification/.

What counts is the file: read back, brought to the level at which networks take sounds by the gain
that undoes its own, and compared with its target's file. Metamers of a publication's recipe were
optimised as waveforms of any level with any ends, and are not those sounds: of them the gap between
the waveform and the file is measured too.

While a sound's exact cochleagram is there, every network of the run hears it: heard.csv says which
word each takes it for, and recognition.csv how often that is the word that was spoken.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import numpy as np
from absl import logging

from metamer_jax import audio, runs, storage, verification
from metamer_jax.auditory import exact
from metamer_jax.configs import AugmentConfig
from metamer_jax.data import Recordings
from metamer_jax.own_models.saved import is_saved
from metamer_jax.pipeline import assessment, hearing
from metamer_jax.pipeline.common import (
    StopRequested,
    chosen_targets,
    leave,
    metamer_wav,
    stages_of,
    target_wav,
    write_targets,
)
from metamer_jax.pipeline.shards import join_batches, read_metamers
from metamer_jax.pipeline.train import build_network, class_names, load_network
from metamer_jax.runs import manifest
from metamer_jax.runtime import progress
from metamer_jax.training.clips import augmented

# Sounds of one network and stage that are verified together: what bounds the memory, since every
# stage's activations of targets and metamers are kept so long.
_VERIFIED_AT_ONCE = 128


class Natural(NamedTuple):
    """The natural recordings whose pairs make null distributions, the same for every network.

    Attributes:
        ids: [recording] indices into the recordings.
        sounds: The recordings, with exact cochleagrams if a network of the run hears these.
        known: Null distributions that are no network's: of the stage `cochleagram`, where the
            run has it.
    """

    ids: np.ndarray
    sounds: exact.Sounds
    known: dict[str, verification.NullDistribution]


def natural_sounds(
    run: runs.Run, recordings: Recordings, *, stop: StopRequested = lambda: False
) -> Natural:
    """Draws the recordings of the null distribution, from every split, and makes cochleagrams.

    Runs that differ in their networks and `seed` alone share what this returns.

    Args:
        run: The run.
        recordings: Its recordings.
        stop: Function that says whether to end before the work.

    Returns:
        The recordings drawn, and the null distributions that need no network.
    """
    config = run.config
    count = min(config.verification.null_recordings, len(recordings))
    order = np.random.default_rng([config.resolved_target_seed, 1]).permutation(len(recordings))
    ids = np.sort(order[:count])
    if stop():
        leave()
    sounds = prepare_sounds(run, _null_sounds(run, recordings, ids), "natural recordings")
    known = {}
    if "cochleagram" in config.stages and not _all_saved(run):
        known["cochleagram"] = verification.null_distribution(
            sounds.cochleagrams, **_null_settings(run, recordings, ids)
        )
    return Natural(ids, sounds, known)


def prepare_sounds(run: runs.Run, waveforms: np.ndarray, description: str) -> exact.Sounds:
    """Returns sounds with their exact cochleagrams, if a network of the run hears those.

    Args:
        run: The run.
        waveforms: [sound, time], at least one.
        description: What they are, for the bar that shows how far the cochleagrams are.
    """
    if _all_saved(run):
        return _sounds(run, waveforms)
    with progress.bar(len(waveforms), description, unit="sound") as bar:
        sounds = _sounds(run, waveforms, bar.update)
        _ = sounds.cochleagrams  # Made now, while the bar is there.
    return sounds


def _all_saved(run):
    """Whether every network is somebody's own model, which hears sounds."""
    return all(is_saved(run.path("networks", network)) for network in run.config.networks)


def _sounds(run, waveforms, on_batch=None):
    return exact.Sounds(
        waveforms,
        run.config.cochleagram,
        batch_size=run.config.verification.batch_size,
        on_batch=on_batch,
    )


def _null_sounds(run, recordings, ids):
    """The null's recordings [recording, time], mixed with noise where the settings say so."""
    snr_db = run.config.verification.null_noise_snr_db
    if snr_db is None:
        return storage.take(recordings.waveforms, ids)
    mixing = AugmentConfig(background_snr_db=snr_db)
    seed = jax.random.key(run.config.resolved_target_seed)
    keys = jax.vmap(functools.partial(jax.random.fold_in, seed))(ids)
    return np.asarray(augmented(keys, recordings.waveforms[ids], recordings.noise, mixing))


def _null_settings(run, recordings, ids):
    return {
        "speakers": recordings.speakers[ids],
        "fingerprints": verification.fingerprints(recordings.waveforms[ids]),
        "seed": run.config.resolved_target_seed,
    }


def verify_metamers(
    run: runs.Run,
    recordings: Recordings,
    *,
    natural: Natural | None = None,
    targets: np.ndarray | None = None,
    stop: StopRequested = lambda: False,
) -> None:
    """Checks every metamer on the exact model, as it is played.

    Leaves verification/ and the sounds as they are played, metamers/<network>/<stage>/wav/ and
    targets/wav/: 16-bit, at the level of `PlaybackConfig`.

    Args:
        run: The run.
        recordings: Its recordings.
        natural: Recordings of the null distribution from `natural_sounds`, to be shared by several
            runs; None: made here.
        targets: Indices [target] into the recordings; None: those that the settings choose.
        stop: Function that says whether to end before the next batch.
    """
    targets = chosen_targets(run, recordings) if targets is None else targets
    write_targets(run, recordings, targets)
    conditions = [
        (network, stage)
        for network in run.config.networks
        for stage in stages_of(run, build_network(run, network, len(recordings.words)))
    ]
    made = manifest.verification_of(conditions)
    if run.is_done(*made):
        return
    import pandas as pd

    networks = {
        network: load_network(run, network, len(recordings.words))
        for network in run.config.networks
    }
    found = {}
    for condition in conditions:
        if any(run.path("metamers", *condition).glob("batch_*.npz")):
            join_batches(run, targets, *condition)
        found[condition] = read_metamers(run, *condition)
    _write_playback(run)
    if natural is None:
        natural = natural_sounds(run, recordings, stop=stop)
    nulls = _null_distributions(run, recordings, natural, networks)
    tables, long, heard = _assess_all(run, recordings, targets, networks, found, nulls, stop)
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
    storage.write_csv(folder / "heard.csv", heard)
    recognized = hearing.recognition(heard, chance=1 / len(recordings.words))
    storage.write_csv(folder / "recognition.csv", recognized)
    storage.write_csv(folder / "metamers.csv", table)
    run.record(*made)
    passed = (table["verdict"] == "pass").sum()
    logging.info("%d of %d metamers verified, as they are played", passed, len(table))
    quieter = (table["level_db"] < run.config.playback.level_db - 0.01).sum()
    if quieter:
        logging.warning(
            "%d metamers are played at less than %g dB re full scale, each at the highest level at "
            "which its own peak is not clipped (level_db in verification/metamers.csv)",
            *(quieter, run.config.playback.level_db),
        )


def _assess_all(run, recordings, targets, networks, found, nulls, stop):
    """Measures every metamer as it is played (and writes it so), and where the recipe made other
    waveforms of them, as it was optimised.

    Returns:
        Tables of each network and stage, in the order of `found`: one row a metamer; and one row a
        metamer, version and stage at which it is measured. Then, in one table, what every network
        hears in every metamer and target as played.
    """
    import pandas as pd

    num_seeds = len(run.config.synthesis.seeds)
    num_versions = 1 if run.config.synthesis.as_played else 2
    total = len(targets) * num_versions * (1 + len(found) * num_seeds)
    tables, long = {c: [] for c in found}, {c: [] for c in found}
    heard = {c: [] for c in (*found, hearing.NATURAL)}
    words = np.asarray(recordings.words)
    names = {name: np.asarray(class_names(run, name, recordings.words)) for name in networks}
    with progress.bar(total, "verifying", unit="sound") as bar:

        def prepare(waveforms):
            if stop():
                leave()
            return _sounds(run, waveforms.reshape(-1, waveforms.shape[-1]), bar.update)

        for rows in _chunks(len(targets), max(1, _VERIFIED_AT_ONCE // num_seeds)):
            originals = _target_versions(run, recordings, targets[rows])
            originals = {version: prepare(sounds) for version, sounds in originals.items()}
            spoken = words[recordings.labels[targets[rows]]]
            heard[hearing.NATURAL].append(
                hearing.of_targets(
                    targets[rows], spoken, _said(networks, names, originals["played"])
                )
            )
            for network, (model, variables) in networks.items():
                respond = functools.partial(exact.run_network, model, variables)
                natural = {version: respond(made) for version, made in originals.items()}
                for stage in stages_of(run, model):
                    metamer = found[network, stage].rows(rows)
                    sounds, level_db = _metamer_versions(run, recordings, network, metamer)
                    sounds = {version: prepare(made) for version, made in sounds.items()}
                    versions = {
                        version: assessment.Compared(natural[version], respond(made))
                        for version, made in sounds.items()
                    }
                    table, measured = assessment.assess(
                        model,
                        versions,
                        metamer,
                        null=nulls[network][stage],
                        words=tuple(names[network].tolist()),
                        config=run.config.verification,
                    )
                    table = table.assign(network=network, level_db=level_db.ravel())
                    tables[network, stage].append(table)
                    said = {network: names[network][versions["played"].metamers.predictions]}
                    others = {name: each for name, each in networks.items() if name != network}
                    said |= _said(others, names, sounds["played"])
                    of_words = np.repeat(spoken, num_seeds)
                    heard[network, stage].append(hearing.of_metamers(table, of_words, said))
                    long[network, stage].append(measured.assign(network=network))
    return (
        [table for parts in tables.values() for table in parts],
        [_by_version(parts) for parts in long.values()],
        pd.concat([table for parts in heard.values() for table in parts], ignore_index=True),
    )


def _said(networks, names, sounds):
    """Returns {network: [sound] which of its classes, by name, it hears in sounds}."""
    return {
        name: names[name][exact.run_network(model, variables, sounds, stages=()).predictions]
        for name, (model, variables) in networks.items()
    }


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
            natural.sounds,
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


def _write_playback(run):
    """Leaves how sounds are played, where the sounds are."""
    playback = dataclasses.asdict(run.config.playback)
    storage.write_json(run.path("metamers", "playback.json"), {**playback, "bits": 16})


def _target_versions(run, recordings, ids):
    """Writes targets as they are played, and returns them as a network is given them.

    Returns:
        The sounds [target, time] as "played" and, where the recipe did not make metamers of
        these, those that it made them of, "optimised".
    """
    waveforms = storage.take(recordings.waveforms, ids)
    samples, level_db = audio.to_playback(waveforms, recordings.sample_rate_hz, run.config.playback)
    for target_id, sound in zip(ids, samples, strict=True):
        word = recordings.words[recordings.labels[target_id]]
        audio.write_wav(target_wav(run, target_id, word), sound, recordings.sample_rate_hz)
    return _versions(run, waveforms, audio.heard(samples, level_db))


def play_metamers(run: runs.Run, waveforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 16-bit sounds that are played of a run's metamers.

    Args:
        run: The run.
        waveforms: Metamers [..., time] as they were synthesised.

    Returns:
        Sounds [..., time] int16, and their levels [...], dB re full scale.
    """
    if run.config.synthesis.as_played:  # The mean is out and the ramps are on already.
        return audio.to_int16(waveforms, run.config.playback)
    return audio.to_playback(waveforms, run.config.data.sample_rate_hz, run.config.playback)


def _metamer_versions(run, recordings, network, metamer):
    """Writes metamers as they are played, and returns them as a network is given them.

    Returns:
        The sounds [target, seed, time], as `_target_versions`, and the level [target, seed] of
        the files, dB.
    """
    sounds = metamer.made.waveform
    samples, level_db = play_metamers(run, sounds)
    for target_id, of_target in zip(metamer.target_ids, samples, strict=True):
        word = recordings.words[recordings.labels[target_id]]
        for seed, sound in zip(metamer.seeds, of_target, strict=True):
            path = metamer_wav(run, network, metamer.stage, target_id, seed, word)
            audio.write_wav(path, sound, recordings.sample_rate_hz)
    return _versions(run, sounds, audio.heard(samples, level_db)), level_db


def _versions(run, optimised, played):
    if run.config.synthesis.as_played:
        return {"played": played}
    return {"played": played, "optimised": optimised}
