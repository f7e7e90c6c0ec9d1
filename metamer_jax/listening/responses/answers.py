"""Answers as they were given, whatever file they came in, and the key to them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from metamer_jax import storage
from metamer_jax.listening.responses import csv_rows
from metamer_jax.listening.responses.csv_rows import ResponseError
from metamer_jax.listening.serving import sessions

_MANIFEST = (
    *("condition", "batch", "trial", "stimulus_id", "kind", "model", "layer", "layer_index"),
    *("target_id", "word"),
)


@dataclasses.dataclass(frozen=True)
class Answer:
    """What was answered to one sound."""

    where: str  # Within the file: "trials[3]", "row 7".
    stimulus_id: str
    response: object  # A word, its place in `choices`, or None.
    choices: Sequence[object] | None = None
    trial: int | None = None
    rt_ms: float = math.nan
    reloaded: bool = False
    confidence: int | None = None  # 1 (guessed) to 5 (certain), where it was asked.


@dataclasses.dataclass(frozen=True)
class Session:
    """One listener's answers in one condition, before they are compared with the key."""

    file: str
    where: str  # Within the file; "" where a file is one session.
    source: str
    session: str
    participant: str
    condition: int | None
    answers: Sequence[Answer]
    complete: bool | None = None
    headphones: bool | None = None
    started: str = ""
    finished: str = ""
    # experiment_id and design_sha256, as far as the file tells them.
    design: Mapping[str, str] = dataclasses.field(default_factory=dict)
    # What listeners told of themselves: questionnaire, consent's version, language, comments.
    told: Mapping[str, object] = dataclasses.field(default_factory=dict)

    def place(self, more: str = "") -> str:
        """Where it stands, in words: the file, the place in it and, given `more`, in that."""
        return csv_rows.joined(self.file, self.where, more)


def read_manifest(experiment: sessions.Experiment) -> pd.DataFrame:
    """Returns private/manifest.csv as texts."""
    return pd.read_csv(experiment.private / "manifest.csv", dtype=str, keep_default_na=False)


def read_design(experiment: sessions.Experiment) -> dict[str, Any]:
    """Returns private/design.json."""
    return storage.read_json(experiment.private / "design.json")


class AnswerKey:
    """The manifest: what was presented, and the word it was made from."""

    def __init__(self, experiment: sessions.Experiment):
        """Reads private/manifest.csv.

        Raises:
            ResponseError: It is not there or lacks something.
        """
        self.experiment = experiment
        self._by_condition: dict[int | None, dict[str, list[dict[str, Any]]]] = {}
        self._conditions_of: dict[str, set[int | None]] = {}
        self._onsets: dict[int | None, list[tuple[float, str]]] = {}
        for where, row in csv_rows.read_rows(experiment.private / "manifest.csv", _MANIFEST):
            condition = csv_rows.whole(row, "condition", where, blank=True)
            stimulus = row["stimulus_id"]
            entry = {name: row[name] for name in ("kind", "model", "layer", "word")} | {
                name: csv_rows.whole(row, name, where, blank=True)
                for name in ("batch", "trial", "layer_index")
            }
            entry["target_id"] = csv_rows.whole_or_text(row["target_id"])
            # What is right: the word, but where sounds are compared.
            entry["answer"] = row.get("answer") or row["word"]
            if not stimulus:
                raise ResponseError(where, "stimulus_id is empty")
            if condition not in experiment.conditions:
                condition = None  # Practice, the same for everybody.
            of_stimulus = self._by_condition.setdefault(condition, {})
            of_stimulus.setdefault(stimulus, []).append(entry)
            self._conditions_of.setdefault(stimulus, set()).add(condition)
            onset = csv_rows.number(row.get("onset_in_condition_wav_s", ""), where, "onset")
            if condition is not None and math.isfinite(onset):
                self._onsets.setdefault(condition, []).append((onset, stimulus))

    def presented(self) -> dict[int, int]:
        """Returns by condition how many sounds are presented, practice aside."""
        return {number: len(self.stimuli(number)) for number in self.experiment.conditions}

    def stimuli(self, condition: int) -> list[tuple[str, Mapping[str, Any]]]:
        """Returns a condition's presentations, practice aside, in the order of the manifest."""
        return [
            (stimulus, entry)
            for stimulus, entries in self._by_condition.get(condition, {}).items()
            for entry in entries
            if entry["kind"] != "practice"
        ]

    def in_wav(self, condition: int | None) -> list[str]:
        """Returns the stimuli of a condition's WAV in the order in which they are heard."""
        return [stimulus for _, stimulus in sorted(self._onsets.get(condition, []))]

    def find(self, stimulus: str, condition: int | None, trial: int | None) -> Mapping[str, Any]:
        """Returns the row of a presentation.

        Raises:
            LookupError: No such stimulus, or not in this condition.
        """
        for place in (condition, None):
            entries = self._by_condition.get(place, {}).get(stimulus)
            if entries:
                same = [entry for entry in entries if entry["trial"] == trial]
                return (same or entries)[0]
        elsewhere = sorted(c for c in self._conditions_of.get(stimulus, ()) if c is not None)
        if elsewhere:
            raise LookupError(
                f"stimulus {stimulus!r} belongs to condition {', '.join(map(str, elsewhere))}, "
                f"and this is condition {condition}"
            )
        raise LookupError(
            f"unknown stimulus {sessions.brief(stimulus)}: private/manifest.csv has none of that id"
        )
