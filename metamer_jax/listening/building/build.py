"""From material to the files of an experiment: page, condition recordings, forms, key.

    material = load(open_run("runs/mine"), config)     # listening.material
    write(make(material, config), "listening/mine")

The same material, settings and seed make the same files, byte for byte.
"""

import dataclasses
import io
import logging
import os
import pathlib
import wave
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from metamer_jax import storage
from metamer_jax.audio import encode_wav
from metamer_jax.listening.building import (
    comparisons,
    design,
    files,
    page_texts,
    placing,
    selection,
    sounds,
)
from metamer_jax.listening.building.files import ExperimentContent
from metamer_jax.listening.building.manifest import (
    KEY_COLUMNS,
    SCHEMA_VERSION,
    describe_sounds,
    digest,
    typed,
)
from metamer_jax.listening.building.material import Material
from metamer_jax.listening.config import ListeningConfig

# Of one trial's six, how many must be right (Woods et al., 2017; Milne et al., 2021).
HEADPHONE_LIMITS = {"antiphase": 5, "huggins": 6}
_HEADPHONE_CHECKS = {"antiphase": sounds.antiphase_check, "huggins": sounds.huggins_check}
_PAGE_SETTINGS = (
    *("choice_order", "fullscreen", "server", "datapipe_experiment", "completion_url"),
    *("contact", "confidence", "headphone_retry", "typed_beyond"),
)
_IDS = 20  # Stream of random numbers for ids; `design` has the ones below 10.
_log = logging.getLogger(__name__)


def make(material: Material, config: ListeningConfig) -> ExperimentContent:
    """Designs the experiment: who hears what, under which names.

    Args:
        material: Sounds to choose from and what is known about them.
        config: Settings of the experiment.

    Returns:
        Everything that the files will hold.

    Raises:
        ValueError: No metamer may be played, or too few natural recordings.
    """
    plan, choice = selection.choose(material, config)
    extras = config.natural_trials + config.catch_trials
    _check_naturals(material, config)
    ordered = design.order(plan, extras=extras, seed=config.seed)
    names = _Names(config.seed)
    used = sorted(set(choice.row[ordered.source[ordered.source >= 0]]))
    ids = _SoundIds(
        metamer={row: names.new() for row in used},
        natural=[names.new() for _ in range(extras)],
        practice=[names.new() for _ in range(config.practice_trials)],
    )
    samples = {ids.metamer[row]: material.metamer_sounds[row] for row in ids.metamer}
    samples |= dict(zip(ids.natural, material.natural_sounds, strict=False))
    samples |= dict(zip(ids.practice, material.practice_sounds, strict=False))
    manifest = _rows(ordered, choice, ids, material, config)
    answers = material.words
    if config.task != "words":
        answers = comparisons.TASKS[config.task].answers
        manifest, samples = comparisons.arrange(
            manifest,
            samples,
            material.originals,
            task=config.task,
            ids=[names.new() for _ in range(len(manifest))],
            sample_rate_hz=material.sample_rate_hz,
            seed=config.seed,
        )
    audio = {i: encode_wav(x, material.sample_rate_hz) for i, x in samples.items()}
    headphone = _add_headphone_trials(audio, names, material, config)
    calibration = _add_calibration(audio, names, material, config)

    manifest = describe_sounds(
        manifest, samples, audio, material.sample_rate_hz, material.playback.level_db, config
    )
    design_digest = digest(manifest, answers, headphone, calibration, audio)
    experiment_id = config.experiment_id or f"{files.slug(config.title)}-{design_digest[:8]}"
    manifest = typed(manifest.assign(experiment_id=experiment_id))
    private = {
        "schema_version": SCHEMA_VERSION,
        "experiment_id": experiment_id,
        "design_sha256": design_digest,
        "task": config.task,
        "words": list(answers),
        "conditions": config.conditions,
        "trials": {
            str(c): int(n)
            for c, n in manifest[manifest["condition"] > 0].groupby("condition").size().items()
        },
        **selection.account(plan, choice, material, config, manifest),
        "headphone": headphone,
        "headphone_limits": {check: HEADPHONE_LIMITS[check] for check in _checks(config)},
        "calibration": calibration,
        "level_db": material.playback.level_db,
        "ramp_s": material.playback.ramp_s,
        "sample_rate_hz": material.sample_rate_hz,
        "config": dataclasses.asdict(config),
        "run": material.source,
    }
    return ExperimentContent(
        experiment_id,
        design_digest,
        config,
        manifest,
        _public(private, manifest, config, _longest_s(audio)),
        private,
        dict(sorted(audio.items())),
        samples,
        material.sample_rate_hz,
    )


def _check_naturals(material: Material, config: ListeningConfig) -> None:
    extras = config.natural_trials + config.catch_trials
    for name, wanted, table in (
        ("natural_trials + catch_trials", extras, material.naturals),
        ("practice_trials", config.practice_trials, material.practice),
    ):
        if len(table) < wanted:
            raise ValueError(f"{name} is {wanted}, but the material has only {len(table)} for it")


@dataclasses.dataclass(frozen=True)
class _SoundIds:
    """Under which id each sound of the material is played."""

    metamer: dict[int, str]  # Row of the material's metamers to id.
    natural: list[str]  # Natural trials, then catch trials.
    practice: list[str]


def _rows(
    ordered: design.Ordered,
    choice: selection.Choice,
    ids: _SoundIds,
    material: Material,
    config: ListeningConfig,
) -> pd.DataFrame:
    """Returns the manifest's rows, in the order of hearing, practice (condition 0) last."""
    rows = []
    for c, b, position, trial, source in zip(*ordered, strict=True):
        if source >= 0:
            row = choice.row[source]
            about = {"kind": "metamer", **material.metamers.iloc[row].to_dict()}
            stimulus_id = ids.metamer[row]
        else:
            extra = -1 - source
            kind = "natural" if extra < config.natural_trials else "catch"
            about = {"kind": kind, **material.naturals.iloc[extra].to_dict()}
            stimulus_id = ids.natural[extra]
        rows.append((c + 1, b + 1, position + 1, trial + 1, stimulus_id, about))
    for i, stimulus_id in enumerate(ids.practice):
        about = {"kind": "practice", **material.practice.iloc[i].to_dict()}
        rows.append((0, 0, i + 1, i + 1, stimulus_id, about))
    place = ("condition", "batch", "position_in_batch", "trial", "stimulus_id")
    table = pd.DataFrame([dict(zip(place, row[:-1], strict=True)) | row[-1] for row in rows])
    return table.assign(answer=table["word"])


def _add_headphone_trials(
    audio: dict[str, bytes], names: "_Names", material: Material, config: ListeningConfig
) -> list[dict[str, Any]]:
    """Adds the headphone check's sounds to `audio`; returns its trials, answers counted from 1."""
    trials = []
    for check in _checks(config):
        made = _HEADPHONE_CHECKS[check](
            material.sample_rate_hz, level_db=material.playback.level_db, seed=config.seed
        )
        for sound, correct in zip(made.sounds, made.correct, strict=True):
            stimulus_id = names.new()
            audio[stimulus_id] = encode_wav(sound, material.sample_rate_hz)
            trials.append({"check": check, "stimulus_id": stimulus_id, "correct": int(correct) + 1})
    return trials


def _add_calibration(
    audio: dict[str, bytes], names: "_Names", material: Material, config: ListeningConfig
) -> str:
    """Adds the noise by which listeners set their volume to `audio`; returns its id."""
    noise = sounds.calibration_noise(
        config.calibration_s,
        material.sample_rate_hz,
        level_db=material.playback.level_db,
        seed=config.seed,
    )
    stimulus_id = names.new()
    audio[stimulus_id] = encode_wav(noise, material.sample_rate_hz)
    return stimulus_id


def _longest_s(audio: Mapping[str, bytes]) -> float:
    """Returns how long the longest sound lasts: one that has not ended then did not play."""
    longest = 0.0
    for content in audio.values():
        with wave.open(io.BytesIO(content)) as file:
            longest = max(longest, file.getnframes() / file.getframerate())
    return longest


def _checks(config: ListeningConfig) -> tuple[str, ...]:
    """Returns the names of the headphone checks that are done."""
    every = {"both": tuple(_HEADPHONE_CHECKS), "none": ()}
    return every.get(config.headphone_check, (config.headphone_check,))


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


def _public(
    private: Mapping[str, Any],
    manifest: pd.DataFrame,
    config: ListeningConfig,
    longest_s: float,
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
        "task": config.task,
        "words": private["words"],
        "conditions": conditions,
        "practice": [
            {"stimulus_id": row.stimulus_id, "word": row.answer} for row in practice.itertuples()
        ],
        "headphone": private["headphone"],
        "headphone_limits": private["headphone_limits"],
        "calibration": private["calibration"],
        **{name: getattr(config, name) for name in _PAGE_SETTINGS},
        "longest_s": longest_s,
        **_said(config),
    }


def _said(config: ListeningConfig) -> dict[str, Any]:
    """What the page says and asks, in its language.

    Returns:
        Language, texts, consent, debrief and questions, as trials.js holds them.

    Raises:
        ValueError: There is no such language, or a translation or question lacks something.
    """
    if config.translation is None:
        said = page_texts.load(config.language)
    else:
        said = page_texts.check_translation(config.translation)
    questions = said["questionnaire"] if config.questionnaire is None else config.questionnaire
    consent = config.consent_html or said["texts"]["consent"]
    return {
        "language": said["language"],
        "texts": said["texts"],
        "questionnaire": list(page_texts.check_questionnaire(questions)),
        "consent_html": config.consent_html,
        "consent_version": config.consent_version or page_texts.version_of(consent),
        "debrief_html": config.debrief_html,
    }


def write(experiment: ExperimentContent, folder: str | os.PathLike) -> pathlib.Path:
    """Writes public/, conditions/, private/ and study.jzip; an earlier build is replaced.

    Everything is written beside what is there and takes its place at the end. Only an earlier
    build is ever replaced: other files under these names are an error, and stay.

    Args:
        experiment: From `make`.
        folder: Where; a folder of its own.

    Returns:
        The folder.

    Raises:
        ValueError: The folder has responses to another design, or files that no build made.
        StorageError: A file could not be written.
    """
    folder = pathlib.Path(folder)
    placing.check_replaceable(folder)
    _check_design(experiment, folder)
    with placing.beside(folder) as new:
        public = dict(files.public_files(experiment))
        for name, content in public.items():
            path = new / "public" / name
            storage.write_bytes(path, content)
            os.utime(path, (0, 0))  # When a sound was written would tell its place in the design.
        for name, content in files.condition_files(experiment):
            storage.write_bytes(new / "conditions" / name, content)
        private = new / "private"
        storage.write_csv(private / "manifest.csv", experiment.manifest)
        storage.write_csv(private / "answer_key.csv", experiment.manifest, columns=KEY_COLUMNS)
        storage.write_text(private / "report.html", files.report(experiment))
        storage.write_bytes(new / "study.jzip", files.jatos_study(experiment, public))
        storage.write_json(private / "design.json", experiment.private)
    for warning in experiment.private["warnings"]:
        _log.warning("%s", warning)
    return folder


def _check_design(experiment: ExperimentContent, folder: pathlib.Path) -> None:
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
