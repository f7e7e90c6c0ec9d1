"""Metamers of any models as a run folder, on which report, listening test and all else work."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Mapping

import numpy as np

from metamer_jax import audio, pipeline, runs, storage, verification
from metamer_jax import data as data_sets
from metamer_jax.configs import DataConfig, ExperimentConfig
from metamer_jax.data import Recordings
from metamer_jax.own_models import saved
from metamer_jax.pipeline import common
from metamer_jax.pipeline.own_models import MetamerSet
from metamer_jax.pipeline.verify import verify_metamers
from metamer_jax.runs import manifest


def save_run(
    folder: str | os.PathLike,
    found: MetamerSet | Mapping[str, MetamerSet],
    *,
    data: DataConfig | None = None,
) -> pathlib.Path:
    """Makes a run folder of metamers of any models, on which everything else works.

    The folder is what `metamer-jax reproduce` leaves: report, listening test, machine listeners and
    analyses take it. The metamers are verified once more, from the 16-bit files that are played.
    The models go along as programs (`own_models.saved`), so that nobody needs their code. What
    cannot stand in a file's name, "/", becomes "." in names of stages.

    Args:
        folder: Where; it must not hold another run.
        found: From `make_metamers`; of several models by their names, of the same sounds.
        data: Settings of the data set that the sounds are from, so that a listening test has
            natural sounds and machine listeners something to learn from. `target_ids` then are
            indices into what `load_recordings(data)` returns. None: nothing but the sounds and
            recordings of `found` is known.

    Returns:
        The report's path.

    Raises:
        ValueError: The models' sounds or settings differ, names cannot be told apart, there are no
            recordings, or a target is not the recording that its id says.
    """
    sets = {"model": found} if isinstance(found, MetamerSet) else dict(found)
    first = _check_alike(sets)
    stages = {name: _stage_names(each) for name, each in sets.items()}
    recordings, target_ids = _recordings_given(first)
    folder = pathlib.Path(folder)
    if data is not None:
        recordings, target_ids = _recordings_of(data, first)
    else:
        words = recordings.words if len(recordings.words) > 1 else ()
        data = DataConfig(
            dataset="wav_folder", data_dir=str(folder / "recordings"), words=words, **_timing(first)
        )
    config = ExperimentConfig(
        preset="own",
        seed=first.seed,
        networks=tuple(sets),
        stages=tuple(dict.fromkeys(name for names in stages.values() for name in names)),
        data=data,
        cochleagram=dataclasses.replace(first.picture_config, **_timing(first)),
        synthesis=first.config,
        verification=first.criteria,
    )
    with runs.open_run(folder, config) as run:
        if run.path("verification", "metamers.csv").exists():
            raise ValueError(f"folder must be a new one, {folder} holds verified metamers already")
        storage.write_json(run.path("data", "summary.json"), recordings.summary)
        for name, each in sets.items():
            _write_model(run, name, each, stages[name])
            for stage, of_model in stages[name].items():
                made = each.made[of_model]
                made = made._replace(waveform=made.waveform * _gain(each))
                arrays = {"target_id": target_ids, "seed": np.asarray(each.config.seeds)}
                file = manifest.metamers_of(name, stage)
                storage.write_npz(run.path(file), {**arrays, **made._asdict()})
                run.record(file)
        verify_metamers(run, recordings, targets=target_ids)
        report = pipeline.write_report(run)
    print(f"Report: {report.resolve()}")
    return report


def _timing(found):
    duration_s = found.sounds.shape[1] / found.sample_rate_hz
    return {"sample_rate_hz": found.sample_rate_hz, "duration_s": duration_s}


def _gain(found):
    """What brings the model's sounds to the level of recordings; its program takes it back."""
    return np.float32(1.0 if found.level is None else audio.RMS / found.level)


def _check_alike(sets):
    """Returns one of the sets, after a look at what they must have in common."""
    if not sets:
        raise ValueError("found must hold metamers of one model or more, got none")
    first = next(iter(sets.values()))
    for name, each in sets.items():
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise ValueError(f"models must have names of letters, digits, _ . and -, got {name!r}")
        for field in ("target_ids", "words", "sample_rate_hz", "config", "criteria", "seed"):
            if not np.array_equal(getattr(each, field), getattr(first, field)):
                raise ValueError(f"models must have the same {field}, {name!r} has others")
        sounds = each.sounds * _gain(each), first.sounds * _gain(first)
        if sounds[0].shape != sounds[1].shape or not np.allclose(*sounds, atol=1e-6):
            raise ValueError(f"models must have the same sounds, {name!r} has others")
        if each.recordings is None:
            raise ValueError(f"{name!r} must have been verified, so that there are recordings")
    return first


def _stage_names(found):
    """Returns the model's names of stages by those that they have in the folder."""
    names = {stage.replace("/", "."): stage for stage in found.made}
    if len(names) < len(found.made):
        raise ValueError(f"stages must differ by more than / and ., got {[*found.made]}")
    return names


def _recordings_of(config, found):
    recordings = data_sets.load(config)
    ids = np.asarray(found.target_ids)
    timing = {"sample_rate_hz": config.sample_rate_hz, "duration_s": config.duration_s}
    same = timing == _timing(found) and np.all((ids >= 0) & (ids < len(recordings)))
    sounds = found.sounds * _gain(found)
    if not same or not np.allclose(recordings.waveforms[ids], sounds, atol=1e-5):
        raise ValueError(
            "data must be where the sounds are from: recordings at target_ids are other ones"
        )
    splits = recordings.splits.copy()
    splits[ids] = "test"  # What a listening test takes.
    return dataclasses.replace(recordings, splits=splits), ids


def _recordings_given(found):
    """The targets and, after them, the other recordings that are known."""
    known = set(verification.fingerprints(found.sounds))
    others = [
        index
        for index, fingerprint in enumerate(verification.fingerprints(found.recordings))
        if fingerprint not in known
    ]
    waveforms = np.concatenate([found.sounds, found.recordings[others]]) * _gain(found)
    words = tuple(dict.fromkeys(found.words))
    count, total = len(found.sounds), len(waveforms)
    labels = np.zeros(total, np.int32)
    labels[:count] = [words.index(word) for word in found.words]
    names = [f"{word}/{index}" for index, word in enumerate(found.words)]
    names += [f"recording/{index}" for index in others]
    summary = {
        "dataset": "own sounds",
        "recordings": total,
        "counts": {
            "test": {"all": count, **{word: found.words.count(word) for word in words}},
            "train": {"all": total - count, **dict.fromkeys(words, 0)},
        },
        **_timing(found),
    }
    recordings = Recordings(
        waveforms=waveforms,
        labels=labels,
        names=np.array(names),
        speakers=np.full(total, ""),
        splits=np.where(np.arange(total) < count, "test", "train"),
        words=words,
        sample_rate_hz=found.sample_rate_hz,
        summary=summary,
    )
    return recordings, np.arange(count)


def _write_model(run, name, found, stages):
    folder = run.path("networks", name)
    saved.save_model(
        folder, found.model, found.variables, stages, logits=found.logits, level=found.level
    )
    common.write_result(run, name, found.class_names or ("",), found.variables["model"])
    run.record(
        *(f"networks/{name}/{file}" for file in (saved.PROGRAM, saved.WEIGHTS, "result.json"))
    )
