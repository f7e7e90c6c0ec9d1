"""Answers meet the manifest: sessions become trials that are right or wrong."""

import collections
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from metamer_jax.listening.responses import google_form, trial_table
from metamer_jax.listening.responses.answers import Answer, AnswerKey, Session
from metamer_jax.listening.responses.csv_rows import ResponseError
from metamer_jax.listening.responses.trial_table import COLUMNS, REJECTED_COLUMNS, SESSION_COLUMNS
from metamer_jax.listening.serving import sessions

# Tables that went through a person's hands, who can mend the row that an error names. Whatever else
# comes is as a participant's browser sent it, and one that does not fit is no reason to stop.
_MENDABLE = ("google_form", "jspsych")


def without_duplicates(found: Sequence[Session], duplicates: str) -> tuple[list[Session], int]:
    """Returns the first of the sessions of each name, and how many came again.

    Raises:
        ResponseError: One came again, and `duplicates` is "error".
    """
    kept: dict[str, Session] = {}
    dropped = 0
    for session in found:
        first = kept.setdefault(session.session, session)
        if first is session:
            continue
        if duplicates == "error":
            raise ResponseError(
                session.place(),
                f"duplicate session {session.session!r}: first in {first.place()}",
            )
        dropped += 1
    return list(kept.values()), dropped


def join(
    found: Sequence[Session], key: AnswerKey
) -> tuple[pd.DataFrame, pd.DataFrame, list[dict[str, Any]]]:
    """Joins answers with the manifest.

    Args:
        found: Sessions, each of another name.
        key: What was presented.

    Returns:
        The trial table, a row about each session, and a row (REJECTED_COLUMNS) about each session
        that cannot be of this experiment, none of whose trials are in the table.

    Raises:
        ResponseError: A session of a table does not fit.
    """
    rows, about, rejected = [], [], []
    for session in found:
        try:
            _check_belongs(session, key.experiment)
            if session.source == "google_form":
                session = google_form.resolve(session, key)
            rows += _trials(session, key)
        except ResponseError as error:
            if session.source in _MENDABLE:
                raise
            rejected.append(_facts(session, REJECTED_COLUMNS) | {"reason": str(error)})
            continue
        about.append(_facts(session, SESSION_COLUMNS) | {"trials": len(session.answers)})
    trials = trial_table.typed(pd.DataFrame(rows, columns=list(COLUMNS)))
    return trials, pd.DataFrame(about, columns=list(SESSION_COLUMNS)), rejected


def _facts(session: Session, names: Sequence[str]) -> dict[str, Any]:
    """What a session itself says of these columns."""
    return {name: getattr(session, name) for name in names if hasattr(session, name)}


def told(found: Sequence[Session]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns what listeners told besides their answers.

    Args:
        found: Sessions that were joined.

    Returns:
        A row per session that has a questionnaire, a consent's version or comments; and a row per
        answer that has a confidence. Either may be empty.
    """
    about, sure = [], []
    for session in found:
        identity = _facts(session, ("participant", "session", "condition"))
        if session.told:
            about.append(identity | dict(session.told))
        sure += [
            identity | {"trial": a.trial, "stimulus_id": a.stimulus_id, "confidence": a.confidence}
            for a in session.answers
            if a.confidence is not None
        ]
    return pd.DataFrame(about), pd.DataFrame(sure)


def _trials(session: Session, key: AnswerKey) -> list[dict[str, Any]]:
    """Returns a session's rows of the trial table.

    Raises:
        ResponseError: An answer is to no sound of the session's condition, to one that was
            answered before, or none of those offered.
    """
    rows = []
    answered: collections.Counter[tuple[str, object]] = collections.Counter()
    for answer in session.answers:
        place = session.place(answer.where)
        try:
            entry = key.find(answer.stimulus_id, session.condition, answer.trial)
            response = _word(answer, key.experiment.words)
        except LookupError as error:
            raise ResponseError(place, str(error.args[0])) from error
        presentation = (answer.stimulus_id, entry["trial"])
        answered[presentation] += 1
        if answered[presentation] > 1:
            raise ResponseError(place, f"stimulus {answer.stimulus_id!r} is answered twice")
        rows.append(
            {
                **entry,
                **_facts(session, ("participant", "session", "condition", "headphones", "source")),
                "trial": answer.trial if entry["trial"] is None else entry["trial"],
                "stimulus_id": answer.stimulus_id,
                "response": response,
                "correct": float(response == entry["answer"]) if response else math.nan,
                "rt_ms": answer.rt_ms,
                "reloaded": answer.reloaded,
            }
        )
    return rows


def _check_belongs(session: Session, experiment: sessions.Experiment) -> None:
    for name, value in session.design.items():
        expected = getattr(experiment, name)
        if value != expected:
            raise ResponseError(
                session.place(),
                f"{name} must be {expected!r}, that of {experiment.folder}, got {value!r}: "
                f"session {session.session!r} was taken with another design",
            )
    if session.condition not in experiment.conditions:
        raise ResponseError(
            session.place(),
            f"condition must be one of {list(experiment.conditions)}, got {session.condition}",
        )


def _word(answer: Answer, words: Sequence[str]) -> str:
    """Returns the word that was chosen, "" for none.

    Raises:
        LookupError: It was not offered.
    """
    choices = sessions.choices(answer.choices, words)
    word = sessions.chosen_word(answer.response, choices, words)
    if word is None:
        raise LookupError(
            f"response {sessions.brief(answer.response)} was not offered; the words are "
            f"{', '.join(map(str, choices))[:300]}"
        )
    return word
