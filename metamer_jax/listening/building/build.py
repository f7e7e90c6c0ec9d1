"""From material to the files of an experiment: page, condition recordings, forms, key.

    material = load(open_run("runs/mine"), config)     # listening.material
    write(make(material, config), "listening/mine")

The same material, settings and seed make the same files, byte for byte.
"""

import dataclasses
import logging
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from metamer_jax import storage
from metamer_jax.listening.building import design, files, selection, sounds
from metamer_jax.listening.building.files import Experiment
from metamer_jax.listening.building.manifest import (
    INTEGER_COLUMNS,
    KEY_COLUMNS,
    MANIFEST_COLUMNS,
    SCHEMA_VERSION,
    describe_sounds,
    digest,
)
from metamer_jax.listening.building.material import Material
from metamer_jax.listening.config import ListeningConfig

if TYPE_CHECKING:
    import pandas as pd
# Of one trial's six, how many must be right (Woods et al., 2017; Milne et al., 2021).
HEADPHONE_LIMITS = {"antiphase": 5, "huggins": 6}
_IDS = 20  # Stream of random numbers for ids; `design` has the ones below 10.
_log = logging.getLogger(__name__)


def make(material: Material, config: ListeningConfig) -> Experiment:
    """Designs the experiment: who hears what, under which names.

    Raises:
        ValueError: No metamer may be played, or too few natural recordings.
    """
    import pandas as pd

    plan, choice = selection.choose(material, config)
    extras = config.natural_trials + config.catch_trials
    for name, wanted, table in (
        ("natural_trials + catch_trials", extras, material.naturals),
        ("practice_trials", config.practice_trials, material.practice),
    ):
        if len(table) < wanted:
            raise ValueError(f"{name} is {wanted}, but the material has only {len(table)} for it")
    ordered = design.order(plan, extras=extras, seed=config.seed)
    used = sorted(set(choice.row[ordered.source[ordered.source >= 0]]))
    checks = _headphone_checks(material, config)
    names = _Names(config.seed)
    metamer_id = {row: names.new() for row in used}
    natural_id = [names.new() for _ in range(extras)]
    practice_id = [names.new() for _ in range(config.practice_trials)]
    samples = {metamer_id[row]: material.metamer_sounds[row] for row in used}
    samples |= dict(zip(natural_id, material.natural_sounds, strict=False))
    samples |= dict(zip(practice_id, material.practice_sounds, strict=False))

    rows = []
    for c, b, position, trial, source in zip(*ordered, strict=True):
        place = {
            "condition": c + 1,
            "batch": b + 1,
            "position_in_batch": position + 1,
            "trial": trial + 1,
        }
        if source >= 0:
            row = choice.row[source]
            about = {"kind": "metamer", **material.metamers.iloc[row].to_dict()}
            rows.append({**place, "stimulus_id": metamer_id[row], **about})
        else:
            extra = -1 - source
            kind = "natural" if extra < config.natural_trials else "catch"
            about = {"kind": kind, **material.naturals.iloc[extra].to_dict()}
            rows.append({**place, "stimulus_id": natural_id[extra], **about})
    for i, stimulus_id in enumerate(practice_id):
        place = {"condition": 0, "batch": 0, "position_in_batch": i + 1, "trial": i + 1}
        about = {"kind": "practice", **material.practice.iloc[i].to_dict()}
        rows.append({**place, "stimulus_id": stimulus_id, **about})
    manifest = pd.DataFrame(rows)

    audio = {
        stimulus_id: sounds.encode_wav(sound, material.sample_rate_hz)
        for stimulus_id, sound in samples.items()
    }
    headphone = []
    for check, trials in checks.items():
        for sound, correct in zip(trials.sounds, trials.correct, strict=True):
            stimulus_id = names.new()
            audio[stimulus_id] = sounds.encode_wav(sounds.to_int16(sound), material.sample_rate_hz)
            headphone.append(
                {"check": check, "stimulus_id": stimulus_id, "correct": int(correct) + 1}
            )
    noise = sounds.calibration_noise(
        config.calibration_s,
        material.sample_rate_hz,
        level_db=material.playback.level_db,
        seed=config.seed,
    )
    calibration = names.new()
    audio[calibration] = sounds.encode_wav(sounds.to_int16(noise), material.sample_rate_hz)

    manifest = describe_sounds(
        manifest, samples, audio, material.sample_rate_hz, material.playback.level_db, config
    )
    design_digest = digest(manifest, material.words, headphone, calibration, audio)
    experiment_id = config.experiment_id or f"{files.slug(config.title)}-{design_digest[:8]}"
    manifest = manifest.assign(experiment_id=experiment_id)
    manifest = manifest.reindex(columns=MANIFEST_COLUMNS)
    for name in INTEGER_COLUMNS:
        manifest[name] = manifest[name].astype("Int64")
    for name in ("model", "layer", "speaker_id", "model_prediction", "verdict"):
        manifest[name] = manifest[name].fillna("")

    private = {
        "schema_version": SCHEMA_VERSION,
        "experiment_id": experiment_id,
        "design_sha256": design_digest,
        "words": list(material.words),
        "conditions": config.conditions,
        "trials": {
            str(c): int(n)
            for c, n in manifest[manifest["condition"] > 0].groupby("condition").size().items()
        },
        **selection.account(plan, choice, material, config, manifest),
        "headphone": headphone,
        "headphone_limits": {check: HEADPHONE_LIMITS[check] for check in checks},
        "calibration": calibration,
        "level_db": material.playback.level_db,
        "ramp_s": material.playback.ramp_s,
        "sample_rate_hz": material.sample_rate_hz,
        "config": dataclasses.asdict(config),
        "run": material.source,
    }
    public = _public(private, manifest, config)
    return Experiment(
        experiment_id,
        design_digest,
        config,
        manifest,
        public,
        private,
        dict(sorted(audio.items())),
        samples,
        material.sample_rate_hz,
    )


class _Names:
    """Opaque ids, all different; they follow from the seed and the order of asking alone."""

    def __init__(self, seed: int):
        self._random = np.random.default_rng([seed, _IDS])
        self._taken: set[str] = set()

    def new(self) -> str:
        while True:
            name = "s" + self._random.bytes(6).hex()
            if name not in self._taken:
                self._taken.add(name)
                return name


def _headphone_checks(
    material: Material, config: ListeningConfig
) -> dict[str, sounds.HeadphoneTrials]:
    makers = {"antiphase": sounds.antiphase_check, "huggins": sounds.huggins_check}
    wanted = {"both": tuple(makers), "none": ()}.get(
        config.headphone_check, (config.headphone_check,)
    )
    return {
        name: makers[name](
            material.sample_rate_hz, level_db=material.playback.level_db, seed=config.seed
        )
        for name in wanted
    }


def _public(
    private: Mapping[str, Any], manifest: "pd.DataFrame", config: ListeningConfig
) -> dict[str, Any]:
    """What the page needs; of test sounds nothing but their opaque ids."""
    conditions = {}
    for condition, rows in manifest[manifest["condition"] > 0].groupby("condition"):
        batches = [list(batch["stimulus_id"]) for _, batch in rows.groupby("batch")]
        conditions[str(condition)] = batches
    practice = manifest[manifest["condition"] == 0]
    return {
        "schema_version": SCHEMA_VERSION,
        "experiment_id": private["experiment_id"],
        "design_sha256": private["design_sha256"],
        "title": config.title,
        "words": private["words"],
        "conditions": conditions,
        "practice": [
            {"stimulus_id": row.stimulus_id, "word": row.word} for row in practice.itertuples()
        ],
        "headphone": private["headphone"],
        "headphone_limits": private["headphone_limits"],
        "calibration": private["calibration"],
        "choice_order": config.choice_order,
        "fullscreen": config.fullscreen,
        "server": config.server,
        "completion_url": config.completion_url,
        "consent_html": config.consent_html,
        "contact": config.contact,
    }


def write(experiment: Experiment, folder: str | os.PathLike) -> pathlib.Path:
    """Writes public/, conditions/, private/ and study.jzip; an earlier build is replaced.

    Args:
        experiment: From `make`.
        folder: Where; a folder of its own.

    Returns:
        The folder.

    Raises:
        ValueError: The folder has responses to another design.
        StorageError: A file could not be written.
    """
    folder = pathlib.Path(folder)
    _check_folder(experiment, folder)
    for part in ("public", "conditions"):
        shutil.rmtree(folder / part, ignore_errors=True)
    public = dict(files.public_files(experiment))
    for name, content in public.items():
        path = folder / "public" / name
        storage.write_bytes(path, content)
        os.utime(path, (0, 0))  # When a sound was written would tell its place in the design.
    for name, content in files.condition_files(experiment):
        storage.write_bytes(folder / "conditions" / name, content)
    private = folder / "private"
    storage.write_csv(private / "manifest.csv", experiment.manifest)
    storage.write_csv(private / "answer_key.csv", experiment.manifest, columns=KEY_COLUMNS)
    storage.write_text(private / "report.html", files.report(experiment))
    storage.write_bytes(folder / "study.jzip", files.jatos_study(experiment, public))
    # Last: who finds it finds everything.
    storage.write_json(private / "design.json", experiment.private)
    for warning in experiment.private["warnings"]:
        _log.warning("%s", warning)
    return folder


def _check_folder(experiment: Experiment, folder: pathlib.Path) -> None:
    path = folder / "private" / "design.json"
    if not path.is_file():
        return
    before = storage.read_json(path).get("design_sha256")
    responses = folder / "responses"
    if before != experiment.design_sha256 and responses.is_dir() and any(responses.iterdir()):
        raise ValueError(
            f"{folder} holds responses to another design ({str(before)[:12]}, this one is "
            f"{experiment.design_sha256[:12]}): give this experiment a folder of its own"
        )
