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
import itertools
import json
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

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
from metamer_jax.pipeline.shards import join_batches, join_shares, read_metamers
from metamer_jax.pipeline.train import (
    class_names,
    conditions_of,
    load_network,
    wait_for_networks,
)
from metamer_jax.runs import manifest
from metamer_jax.runtime import progress
from metamer_jax.training.clips import augmented

if TYPE_CHECKING:
    import pandas as pd

# Sounds of one network and stage that are verified together: what bounds the memory, since every
# stage's activations of targets and metamers are kept so long.
VERIFIED_AT_ONCE = 128


_PARTS = "verification", "parts"  # What shares leave for the first of them.


class _Checked(NamedTuple):
    """What is found of metamers of one network and stage."""

    table: "pd.DataFrame"  # A row a metamer.
    measured: "pd.DataFrame"  # A row a metamer, version and stage at which it is measured.
    heard: "pd.DataFrame"  # A row a metamer and network that hears it.
    null: dict[str, Any]  # Summary of the null distribution.
    histograms: dict[str, np.ndarray]


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
    targets/wav/: 16-bit, at the level of `PlaybackConfig`. Of several shares each checks metamers
    of some targets, networks and stages and leaves that in verification/parts/; the first waits for
    the others' and makes the tables of them.

    Args:
        run: The run.
        recordings: Its recordings.
        natural: Recordings of the null distribution from `natural_sounds`, to be shared by several
            runs; None: made here.
        targets: Indices [target] into the recordings; None: those that the settings choose.
        stop: Function that says whether to end before the next batch.
    """
    targets = chosen_targets(run, recordings) if targets is None else targets
    if run.shard.index == 0:
        write_targets(run, recordings, targets)
    wait_for_networks(run, stop)
    conditions = conditions_of(run, recordings)
    made = manifest.verification_of(conditions)
    if run.is_done(*made):
        return
    import pandas as pd

    networks = {
        network: load_network(run, network, len(recordings.words))
        for network in run.config.networks
    }
    if run.shard.count > 1:
        run.wait(lambda: {n: 0 for n in manifest.TARGETS if not run.manifest.is_sound(n)}, stop)
        join_shares(run, targets, conditions, stop)
    for condition in conditions if run.shard.count == 1 else ():
        if any(run.path("metamers", *condition).glob("batch_*.npz")):
            join_batches(run, targets, *condition)
    # What is dealt: some targets of a network and stage. In this order a share has, where it can,
    # the same targets of all of them.
    size = max(1, VERIFIED_AT_ONCE // len(run.config.synthesis.seeds))
    starts = range(0, len(targets), size)
    units = list(itertools.product(conditions, starts))
    mine = [unit for number, unit in enumerate(units) if run.shard.owns(number)]
    todo = [unit for unit in mine if run.shard.count == 1 or not _is_part(run, unit)]
    found = {condition: read_metamers(run, *condition) for condition, _ in todo}
    nulls = {}
    if todo:
        natural = natural_sounds(run, recordings, stop=stop) if natural is None else natural
        nulls = _null_distributions(run, recordings, natural, networks, found)
    parts, of_targets = _assess_all(
        run, recordings, targets, size, networks, found, nulls, todo, stop
    )
    if run.shard.count > 1:
        if run.shard.index > 0:
            logging.info("%s has done its part of the verification", run.shard)
            return
        run.wait(functools.partial(_parts_missing, run, units), stop)
        parts = {unit: _read_part(run, unit) for unit in units}
    checked = {c: _joined([parts[c, start] for start in starts]) for c in conditions}
    playback = {**dataclasses.asdict(run.config.playback), "bits": 16}
    storage.write_json(run.path("metamers", "playback.json"), playback)
    table = pd.concat([each.table for each in checked.values()], ignore_index=True)
    heard = pd.concat([*(each.heard for each in checked.values()), of_targets], ignore_index=True)
    long = [each.measured for each in checked.values()]
    table = table.assign(**assessment.recording_columns(table["target_id"].to_numpy(), recordings))
    table["target_correct"] = table["target_prediction"] == table["word"]
    table = assessment.first_columns(
        table, "network stage stage_index word target_id target_name speaker seed".split()
    )
    _write_nulls(run, checked)
    folder = run.path("verification")
    storage.write_csv(folder / "stages.csv", assessment.first_columns(pd.concat(long), ["network"]))
    storage.write_csv(folder / "yields.csv", verification.yields(table))
    storage.write_csv(folder / "heard.csv", heard)
    num_words = len(recordings.words)  # Of one, every guess would be right.
    recognized = hearing.recognition(heard, chance=1 / num_words if num_words > 1 else None)
    storage.write_csv(folder / "recognition.csv", recognized)
    storage.write_csv(folder / "metamers.csv", table)
    run.record(*made)
    if run.path(*_PARTS).exists():
        shutil.rmtree(run.path(*_PARTS))
    passed = (table["verdict"] == "pass").sum()
    logging.info("%d of %d metamers verified, as they are played", passed, len(table))
    quieter = (table["level_db"] < run.config.playback.level_db - 0.01).sum()
    if quieter:
        logging.warning(
            "%d metamers are played at less than %g dB re full scale, each at the highest level at "
            "which its own peak is not clipped (level_db in verification/metamers.csv)",
            *(quieter, run.config.playback.level_db),
        )


def _parts_missing(run, units):
    return {
        f"verification of {'/'.join(condition)} from target {start} on": number
        for number, (condition, start) in enumerate(units)
        if not _is_part(run, (condition, start))
    }


def _part(run, unit):
    condition, start = unit
    return run.path(*_PARTS, f"{'-'.join(condition)}-{start:06d}.npz")


def _is_part(run, unit):
    """Whether a part is there, of the settings and files of today."""
    path = _part(run, unit)
    return storage.is_done(path) and str(storage.map_npz(path, check=False)["made_of"]) == (
        run.manifest.made_of(manifest.VERIFICATION[-1])
    )


def _write_part(run, unit, checked):
    arrays = {
        f"{name}/{column}": values.to_numpy(None if values.dtype.kind in "biuf" else str)
        for name in ("table", "measured", "heard")
        for column, values in getattr(checked, name).items()
    }
    arrays |= {f"histograms/{name}": values for name, values in checked.histograms.items()}
    made_of = run.manifest.made_of(manifest.VERIFICATION[-1])
    null = json.dumps(checked.null)
    storage.write_npz(_part(run, unit), {**arrays, "null": null, "made_of": made_of})


def _read_part(run, unit):
    import pandas as pd

    groups = {"table": {}, "measured": {}, "heard": {}, "histograms": {}}
    arrays = storage.read_npz(_part(run, unit))
    null = json.loads(str(arrays.pop("null")))
    del arrays["made_of"]
    for path, values in arrays.items():
        group, _, name = path.partition("/")
        groups[group][name] = values
    histograms = groups.pop("histograms")
    tables = {
        group: pd.DataFrame(
            {n: v.astype(object) if v.dtype.kind == "U" else v for n, v in columns.items()}
        )
        for group, columns in groups.items()
    }
    return _Checked(**tables, null=null, histograms=histograms)


def _joined(parts):
    """One of several that are of some targets each, in order."""
    import pandas as pd

    return parts[0]._replace(
        table=pd.concat([each.table for each in parts], ignore_index=True),
        measured=_by_version([each.measured for each in parts]),
        heard=pd.concat([each.heard for each in parts], ignore_index=True),
    )


def _assess_all(run, recordings, targets, size, networks, found, nulls, todo, stop):
    """Measures metamers of `found` as they are played (and writes them so), and where the recipe
    made other waveforms of them, as they were optimised.

    Args:
        run: The run.
        recordings: Its recordings.
        targets: [target] indices into them.
        size: How many targets are looked at together.
        networks: {name: (module, variables)}.
        found: {condition: metamers}.
        nulls: {network: {stage: null distribution}}.
        todo: What is measured, (condition, number of the first of `size` targets).
        stop: Function that says whether to end.

    Returns:
        {unit of `todo`: _Checked}, which several shares leave in files as it comes; and of the
        first share a table of what every network hears in every target as played, None of others.
    """
    import pandas as pd

    num_seeds = len(run.config.synthesis.seeds)
    num_versions = 1 if run.config.synthesis.as_played else 2
    parts, of_targets = {}, []
    words = np.asarray(recordings.words)
    names = {name: np.asarray(class_names(run, name, recordings.words)) for name in networks}
    first = run.shard.index == 0  # It has the targets.
    starts = range(0, len(targets), size) if first else sorted({start for _, start in todo})
    looked_at = [*starts, *(start for _, start in todo for _ in range(num_seeds))]
    total = num_versions * sum(len(targets[start : start + size]) for start in looked_at)
    with progress.bar(total, "verifying", unit="sound") as bar:

        def prepare(waveforms):
            if stop():
                leave()
            return _sounds(run, waveforms.reshape(-1, waveforms.shape[-1]), bar.update)

        for start in starts:
            rows = slice(start, start + size)
            originals = _target_versions(run, recordings, targets[rows], write=first)
            originals = {version: prepare(sounds) for version, sounds in originals.items()}
            spoken = words[recordings.labels[targets[rows]]]
            if first:
                said = _said(networks, names, originals["played"])
                of_targets.append(hearing.of_targets(targets[rows], spoken, said))
            for network, (model, variables) in networks.items():
                respond = functools.partial(exact.run_network, model, variables)
                stages = [s for s in stages_of(run, model) if ((network, s), start) in todo]
                if not stages:
                    continue
                natural = {version: respond(made) for version, made in originals.items()}
                for stage in stages:
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
                    said = {network: names[network][versions["played"].metamers.predictions]}
                    others = {name: each for name, each in networks.items() if name != network}
                    said |= _said(others, names, sounds["played"])
                    of_words = np.repeat(spoken, num_seeds)
                    unit = (network, stage), start
                    parts[unit] = _Checked(
                        table,
                        measured.assign(network=network),
                        hearing.of_metamers(table, of_words, said),
                        nulls[network][stage].summary(),
                        nulls[network][stage].histograms(),
                    )
                    if run.shard.count > 1:
                        _write_part(run, unit, parts.pop(unit))
    return parts, pd.concat(of_targets, ignore_index=True) if first else None


def _said(networks, names, sounds):
    """Returns {network: [sound] which of its classes, by name, it hears in sounds}."""
    return {
        name: names[name][exact.run_network(model, variables, sounds, stages=()).predictions]
        for name, (model, variables) in networks.items()
    }


def _write_nulls(run, checked):
    """Leaves what the null distributions say, and their histograms."""
    summaries, histograms = {}, {}
    for (network, stage), each in checked.items():
        summaries.setdefault(network, {})[stage] = each.null
        for name, values in each.histograms.items():
            histograms[f"{network}/{stage}/{name}"] = values
    storage.write_json(run.path("verification", "null.json"), summaries)
    storage.write_npz(run.path("verification", "null_histograms.npz"), histograms)


def _null_distributions(run, recordings, natural, networks, conditions):
    """Returns {network: {stage: null distribution}} of some networks and stages."""
    return {
        network: assessment.null_distributions(
            networks[network][0],
            networks[network][1],
            natural.sounds,
            [stage for each, stage in conditions if each == network],
            **_null_settings(run, recordings, natural.ids),
            known=natural.known,
        )
        for network in dict.fromkeys(network for network, _ in conditions)
    }


def _by_version(parts):
    """Joins tables of chunks into one in the order version, stage, target."""
    import pandas as pd

    groups = [part.groupby(["version", "measured_stage"], sort=False) for part in parts]
    keys = list(groups[0].groups)
    return pd.concat([group.get_group(key) for key in keys for group in groups])


def _target_versions(run, recordings, ids, *, write):
    """Writes targets as they are played, if asked to, and returns them as a network is given them.

    Returns:
        The sounds [target, time] as "played" and, where the recipe did not make metamers of
        these, those that it made them of, "optimised".
    """
    waveforms = storage.take(recordings.waveforms, ids)
    samples, level_db = audio.to_playback(waveforms, recordings.sample_rate_hz, run.config.playback)
    for target_id, sound in zip(ids, samples, strict=True) if write else ():
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
