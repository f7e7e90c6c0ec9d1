"""The answers as a Psych-DS dataset: tables, a codebook, and nobody's name.

Psych-DS (psych-ds.github.io): data/ holds tables whose file names are pairs of keyword
and value, dataset_description.json describes each of their columns in the terms of schema.org.
Participants and sessions are numbered anew, as ids of a recruitment service are personal data.
"""

import dataclasses
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from metamer_jax import storage
from metamer_jax.figures import listening as plots
from metamer_jax.listening import responses
from metamer_jax.listening.building import page_texts
from metamer_jax.listening.responses import answers, trial_table
from metamer_jax.listening.results.tables import Results
from metamer_jax.listening.serving import sessions

DESCRIPTION = "dataset_description.json"
# What schema.org's Dataset has for the lab to say; what stands there is kept.
RECOMMENDED = ("author", "citation", "license", "funder", "url", "identifier", "privacyPolicy")
_MISSING = "nan"  # As all tables of ours have it.


@dataclasses.dataclass(frozen=True)
class Variable:
    """What the codebook says of a column."""

    description: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    levels: bool = False  # The values that occur are named.


_WHO = {
    "row_id": Variable("Number of the row in its file.", low=1),
    "participant": Variable("Participant, numbered in the order in which sessions were read."),
    "session": Variable("Session, numbered likewise; a participant may have several."),
    "condition": Variable("List of sounds that was heard; 0 of practice sounds.", low=0),
    "kept": Variable("Whether the session counts in the analysis.", levels=True),
    "source": Variable("How the answers were collected; 'simulated': no person.", levels=True),
}
_SOUND = {
    "batch": Variable("Part of the session, between breaks; 0 of practice sounds.", low=0),
    "position_in_batch": Variable("Place within that part.", low=1),
    "trial": Variable("Place of the sound in the session.", low=0),
    "stimulus_id": Variable("Sound as it was played; names the file of the sound."),
    "kind": Variable(
        "metamer; natural: the recording; catch: a recording that checks attention; practice.",
        levels=True,
    ),
    "model": Variable("Network that the metamer was made from; empty of others.", levels=True),
    "layer": Variable("Stage of the network that the metamer matches.", levels=True),
    "layer_index": Variable("Place of that stage in its network, from 0.", low=0),
    "target_id": Variable("Recording that the metamer was made for, or that was played."),
    "word": Variable("Word that is spoken in that recording.", levels=True),
}
_ANSWER = {
    "response": Variable("What was answered; missing: nothing.", levels=True),
    "correct": Variable("1: the right answer; 0: another; or a share of right ones.", "", 0, 1),
    "rt_ms": Variable("From the beginning of the sound to the answer.", "ms", 0),
    "headphones": Variable("Whether the session's headphone check was passed.", levels=True),
    "reloaded": Variable(
        "Whether the page was loaded again right before or during the sound.", levels=True
    ),
    "confidence": Variable("How sure the answer was: 1, guessed, to 5, certain.", "", 1, 5),
}
_ACCOUNT = {
    "presented": Variable("Sounds of the session's condition, practice aside.", "sounds", 0),
    "answered": Variable("Of these, how many were answered.", "sounds", 0),
    "complete": Variable("Whether the session was taken to its end.", levels=True),
    "taken_s": Variable("From consent to the last answer.", "s", 0),
    "reference_trials": Variable("Metamers of the reference layer answered.", "sounds", 0),
    "reference_correct": Variable("Share of right answers to these.", "", 0, 1),
    "catch_trials": Variable("Catch trials answered.", "sounds", 0),
    "catch_correct": Variable("Share of right answers to these.", "", 0, 1),
    "repeat": Variable("Whether the participant took the condition before.", levels=True),
    "reason": Variable(
        "First exclusion rule that the session failed; 'unfit': its answers cannot be of this "
        "experiment and stand in no other table.",
        levels=True,
    ),
}
_MATERIAL = {
    "speaker_id": Variable("Voice of the recording."),
    "metamer_seed": Variable("Which of several metamers of one recording.", low=0),
    "sample_rate_hz": Variable("Sample rate of the sound file.", "Hz", 0),
    "duration_s": Variable("Length.", "s", 0),
    "rms": Variable("Root mean square of the sound file; full scale is 1.", "", 0, 1),
    "peak": Variable("Largest absolute sample; full scale is 1.", "", 0, 1),
    "onset_in_condition_wav_s": Variable("Onset in the condition's recording.", "s", 0),
    "model_prediction": Variable("Word that the network hears in the sound as played."),
    "class_match": Variable("Whether that is the word of the recording.", levels=True),
    "spearman": Variable(
        "Rank correlation of the stage's responses to metamer and recording.", "", -1, 1
    ),
    "null_percentile": Variable(
        "Share of pairs of different recordings that correlate less.", "percent", 0, 100
    ),
    "relative_error": Variable(
        "Norm of the difference of the stage's responses, relative to the recording's.", "", 0
    ),
    "verdict": Variable("Whether the metamer passed verification as played.", levels=True),
    "sha256": Variable("SHA-256 of the sound file."),
    "answer": Variable("What is right: the word, but where sounds are compared.", levels=True),
}
_TOLD = {
    "consent_version": Variable("Version of the consent text that was agreed to.", levels=True),
    "language": Variable("Language of the page.", levels=True),
}
_KNOWN = _WHO | _SOUND | _ANSWER | _ACCOUNT | _MATERIAL | _TOLD
_ASKED = "asked_"  # Questions are the lab's: their names may be those of other columns.
_MOST_LEVELS = 50
_LEFT_OUT = (
    "ids of participants and sessions (numbered anew), names of files, dates and times (`taken_s` "
    "is the duration), comments, browsers, and single answers of the headphone check"
)
_CHANGES = """# Changes

1.0.0: written by metamer_jax from the answers. What changes afterwards is for the lab to note here.
"""


def write(
    results: Results,
    read: responses.Responses,
    folder: str | os.PathLike,
    experiment: sessions.Experiment | None = None,
) -> pathlib.Path:
    """Writes the answers, who counts, questionnaires and sounds as a Psych-DS dataset.

    Every session is there, whether it counts or not. An earlier export is replaced; what the lab
    wrote into its description (`RECOMMENDED`, and further fields) stays.

    Args:
        results: From `analyze`.
        read: What it was given.
        folder: A folder of its own, new or with an earlier export.
        experiment: What was answered to; tells of the sounds. None: of tables of proportions.

    Returns:
        The folder.

    Raises:
        ValueError: The folder holds something else.
    """
    folder = pathlib.Path(folder)
    before = earlier(folder)
    study = "listening" if experiment is None else experiment.experiment_id
    stem = f"study-{re.sub('[^A-Za-z0-9]', '', study) or 'listening'}"
    design = {} if experiment is None else answers.read_design(experiment)
    questions = _questions(design)
    tables = _tables(results, read, experiment)
    known = _KNOWN | questions
    files = {f"{stem}_description-{name}_data.csv": table for name, table in tables.items()}
    variables = _variables(files, known)
    title = (design.get("config") or {}).get("title") or "Listening experiment"
    label = plots.LABELS.get(results.source, "")
    about = {
        "@context": "https://schema.org/",
        "@type": "Dataset",
        "name": f"{label.split(':')[0]} · {title}" if label else title,
        "description": _about(results, label),
        "keywords": ["model metamers", "auditory networks", "speech recognition", "listening test"],
        "measurementTechnique": "Listening experiment in the browser or with condition recordings",
        "variableMeasured": variables,
    }
    for path in (folder / "data").glob("study-*_description-*_data.csv"):
        if path.name not in files:
            path.unlink()
    for name, table in files.items():
        storage.write_csv(folder / "data" / name, responses.neutral(table))
    storage.write_text(folder / "README.md", _readme(about, files))
    storage.write_text(folder / "CHANGES.md", _CHANGES)
    storage.write_text(folder / "documentation" / "codebook.md", _codebook(variables, files))
    storage.write_json(folder / DESCRIPTION, before | about)
    return folder


def earlier(folder: str | os.PathLike) -> dict[str, Any]:
    """Reads the description of an earlier export, if the folder may take another.

    Args:
        folder: The folder.

    Returns:
        The description; empty of a new folder.

    Raises:
        ValueError: The folder holds files, and no dataset's description.
    """
    folder = pathlib.Path(folder)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return {}
    found = storage.read_json(folder / DESCRIPTION) if (folder / DESCRIPTION).is_file() else None
    if not isinstance(found, dict):
        raise ValueError(
            f"{folder} must be a new folder or an earlier export with {DESCRIPTION}: it holds "
            f"something else"
        )
    return found


def _tables(
    results: Results, read: responses.Responses, experiment: sessions.Experiment | None
) -> dict[str, pd.DataFrame]:
    """Returns the tables by the value of their file's keyword `description`."""
    people, given = _Numbers("p"), _Numbers("s")
    account = results.exclusions.sessions
    identity = list(trial_table.SESSION)

    def renamed(table: pd.DataFrame) -> pd.DataFrame:
        table = table.assign(
            participant=people.of(table["participant"]), session=given.of(table["session"])
        )
        front = [name for name in _WHO if name in table]
        return _numbered(table[front + [name for name in table if name not in front]])

    times = read.sessions.assign(taken_s=trial_table.durations_s(read.sessions))
    account = account.merge(times[[*identity, "complete", "taken_s"]], how="left", on=identity)
    account["reason"] = account["reason"].str.replace(r"^unfit: .*", "unfit", regex=True)
    trials = read.trials.merge(account[[*identity, "kept"]], how="left", on=identity)
    if read.confidence is not None and len(read.confidence):
        keys = ["participant", "session", "condition", "trial", "stimulus_id"]
        trials = trials.merge(read.confidence[[*keys, "confidence"]], how="left", on=keys)
    tables = {"sessions": renamed(account), "trials": renamed(trials)}
    if read.questionnaire is not None and len(read.questionnaire):
        told = read.questionnaire.drop(columns="comments", errors="ignore")
        tables["questionnaire"] = renamed(
            told.rename(columns=lambda name: name if name in _WHO | _TOLD else _ASKED + name)
        )
    if experiment is not None:
        manifest = answers.read_manifest(experiment).replace({"": _MISSING})
        tables["sounds"] = _numbered(manifest[[name for name in manifest if name in _KNOWN]])
    return tables


def _numbered(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers the rows, before all other columns."""
    table = table.drop(columns="row_id", errors="ignore").reset_index(drop=True)
    table.insert(0, "row_id", table.index + 1)
    return table


class _Numbers:
    """Numbers in place of names, the same name the same number; no name stays none."""

    def __init__(self, letter: str):
        self._letter = letter
        self._numbers: dict[str, str] = {"": ""}

    def of(self, names: pd.Series) -> list[str]:
        return [
            self._numbers.setdefault(name, f"{self._letter}{len(self._numbers):03d}")
            for name in names.fillna("")
        ]


def _questions(design: Mapping[str, Any]) -> dict[str, Variable]:
    """Describes the questionnaire's columns, by name."""
    config = design.get("config") or {}
    asked = config.get("questionnaire")
    if asked is None:
        said = config.get("translation") or page_texts.load(config.get("language", "en"))
        asked = said.get("questionnaire", ())
    found = {}
    for question in asked:
        found[_ASKED + question["name"]] = Variable(
            f"Asked of the participant: {question['label']}",
            low=question.get("min"),
            high=question.get("max"),
            levels=question["type"] == "choice",
        )
    return found


def _variables(
    files: Mapping[str, pd.DataFrame], known: Mapping[str, Variable]
) -> list[dict[str, Any]]:
    """Describes every column of the files in schema.org's terms, each once."""
    values: dict[str, list[pd.Series]] = {}
    for table in files.values():
        for name in map(str, table):
            values.setdefault(name, []).append(table[name])
    found = []
    for name, columns in values.items():
        variable = known.get(name, Variable("Told by the participant."))
        about: dict[str, Any] = {"@type": "PropertyValue", "name": name}
        about["description"] = variable.description
        facts = {"minValue": variable.low, "maxValue": variable.high}
        facts = {"unitText": variable.unit or None, **facts}
        about |= {field: value for field, value in facts.items() if value is not None}
        levels = sorted({str(v) for column in columns for v in column.dropna()} - {"", _MISSING})
        if variable.levels and 0 < len(levels) <= _MOST_LEVELS:
            about["valueReference"] = levels
        found.append(about)
    return found


def _about(results: Results, label: str) -> str:
    kept = results.exclusions
    return (
        f"{label + '. ' if label else ''}Answers to model metamers: sounds that a network cannot "
        f"tell from a recording. {len(kept.sessions)} sessions, of which "
        f"{int(kept.sessions['kept'].sum())} count in the analysis; columns kept and reason say "
        f"why the others do not. Empty cells and 'nan' are missing values."
    )


def _readme(about: Mapping[str, Any], files: Mapping[str, pd.DataFrame]) -> str:
    listed = "\n".join(f"- `data/{name}`: {len(table)} rows" for name, table in files.items())
    return f"""# {about["name"]}

{about["description"]}

{listed}

`documentation/codebook.md` and `{DESCRIPTION}` describe every column.

Left out on purpose: {_LEFT_OUT}. Answers to open questions stand as they were given: read
them before anybody else does.

For the lab to add to `{DESCRIPTION}` (a new export keeps it): {", ".join(RECOMMENDED)}.
"""


def _codebook(variables: list[dict[str, Any]], files: Mapping[str, pd.DataFrame]) -> str:
    """Returns the description of the columns as people read it."""

    def cell(text: object) -> str:
        return " ".join(str(text).split()).replace("|", "\\|")

    lines = [
        "# Codebook",
        "",
        "Empty cells and `nan` are missing values.",
        "",
        "| column | tables | meaning | unit | values |",
        "|---|---|---|---|---|",
    ]
    for about in variables:
        where = [
            name.split("_description-")[1].split("_")[0]
            for name, table in files.items()
            if about["name"] in table
        ]
        limits = [f"{about[k]:g}" if k in about else "" for k in ("minValue", "maxValue")]
        span = f"{limits[0]} to {limits[1]}".strip() if any(limits) else ""
        levels = ", ".join(about.get("valueReference", ()))
        said = (about["description"], about.get("unitText", ""), levels or span)
        row = (f"`{about['name']}`", ", ".join(where), *said)
        lines.append("| " + " | ".join(map(cell, row)) + " |")
    return "\n".join(lines) + "\n"
