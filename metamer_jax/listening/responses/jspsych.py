"""jsPsych's data, as CSV or JSON."""

import collections
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from metamer_jax.listening.responses import csv_rows
from metamer_jax.listening.responses.answers import Answer, Session
from metamer_jax.listening.responses.csv_rows import ResponseError
from metamer_jax.listening.serving import sessions

# What the columns may be called: by our page, by recruiting services, by hosts of jsPsych.
_NAMES: dict[str, tuple[str, ...]] = {
    "session": ("session_id", "run_id"),
    "participant": ("participant", "participant_id", "PROLIFIC_PID", "subject_id", "subject"),
    "headphones": ("headphones_passed", "headphone_passed", "headphones"),
}
_NAMES |= {
    name: (name,)
    for name in "condition started finished simulated complete experiment_id design_sha256".split()
}


def is_jspsych(doc: object) -> bool:
    """Says whether JSON holds jsPsych's rows."""
    return (
        isinstance(doc, list)
        and bool(doc)
        and all(isinstance(row, dict) and "trials" not in row for row in doc)
        and any("stimulus_id" in row or "trial_type" in row for row in doc)
    )


def as_text(row: Mapping[str, Any]) -> dict[str, str]:
    """Values as jsPsych's CSV would show them."""

    def text(value):
        if value is None:
            return ""
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    return {name: text(value) for name, value in row.items()}


def read(table: csv_rows.Source, source: str) -> list[Session]:
    """Returns the sessions of a CSV file, which came from `source`."""
    file = str(table.path)
    rows = csv_rows.read_rows(table, ("stimulus_id",))
    name = table.name.parent.name if table.inside else table.name.stem
    return sessions_of(
        [(at.removeprefix(f"{file}, "), row) for at, row in rows], file, name, "", source
    )


def sessions_of(
    rows: Sequence[tuple[str, Mapping[str, str]]], file: str, name: str, where: str, source: str
) -> list[Session]:
    """Rows with a stimulus_id are answers; each session's other rows may tell more about it."""

    def value(row, field):
        return next((row[n] for n in _NAMES[field] if row.get(n, "")), "")

    grouped: dict[str, list[tuple[str, Mapping[str, str]]]] = collections.defaultdict(list)
    known = {value(row, "session") for _, row in rows} - {""}
    for at, row in rows:
        # One session: rows that do not say so belong to it too.
        session = value(row, "session") or (next(iter(known)) if len(known) == 1 else name)
        grouped[session].append((at, row))
    found = []
    for session, members in grouped.items():
        answered = [(at, row) for at, row in members if row.get("stimulus_id", "")]
        if not answered:
            continue
        about, told_at = {}, {}
        for field in _NAMES:
            told = ((at, v) for at, row in members if (v := value(row, field)))
            at, about[field] = next(told, (answered[0][0], ""))
            told_at[field] = csv_rows.joined(file, where, at)
        flags = {
            name: csv_rows.flag(about[name], told_at[name], name)
            for name in ("simulated", "complete", "headphones")
        }
        place = csv_rows.joined(file, where, answered[0][0])
        if not about["condition"]:
            raise ResponseError(place, f"session {session!r} has no condition: a column is missing")
        answers = [_answer(row, at, f"{file}, {at}") for at, row in answered]
        found.append(
            Session(
                file=file,
                where=where,
                source="simulated" if flags["simulated"] else source,
                session=session,
                participant=about["participant"] or session,
                condition=csv_rows.whole(about, "condition", place),
                answers=answers,
                complete=flags["complete"],
                headphones=flags["headphones"],
                started=about["started"],
                finished=about["finished"],
                design={n: about[n] for n in ("experiment_id", "design_sha256") if about[n]},
            )
        )
    return found


def _answer(row: Mapping[str, str], at: str, place: str) -> Answer:
    return Answer(
        where=at,
        stimulus_id=row["stimulus_id"],
        response=_pressed(row),
        choices=_choices(row.get("choice_order", ""), place),
        trial=csv_rows.whole(row, "trial", place, blank=True),
        rt_ms=csv_rows.duration_ms(row.get("rt_ms") or row.get("rt", ""), place, "rt"),
        reloaded=csv_rows.flag(row.get("reloaded", ""), place, "reloaded") is True,
        confidence=_confidence(row, place),
    )


def _pressed(row: Mapping[str, str]) -> str | int | None:
    """The word that our page adds, else jsPsych's own `response`: a button's place, from 0.

    Digits there are a place whatever the words are, also where words are digits themselves.

    Returns:
        The word, or a button's place from 0; None: none was pressed.
    """
    word, response = row.get("response_word", ""), row.get("response", "").strip()
    # jsPsych writes "null" where no button was pressed; a word "null" stands among choices.
    if word and (word != "null" or '"null"' in row.get("choice_order", "")):
        return word
    if response in ("", "null"):
        return None
    return int(response.split(".")[0]) if re.fullmatch(r"-?\d{1,9}(\.0+)?", response) else response


def _confidence(row: Mapping[str, str], place: str) -> int | None:
    value = csv_rows.whole(row, "confidence", place, blank=True)
    if value is not None and not 1 <= value <= 5:
        raise ResponseError(place, f"confidence must be a whole number from 1 to 5, got {value}")
    return value


def _choices(text: str, place: str) -> Sequence[object] | None:
    if text in ("", "null"):
        return None
    try:
        choices = sessions.parse_json(text)
    except sessions.SessionError:
        choices = [word.strip() for word in text.split("|" if "|" in text else ",")]
    if not isinstance(choices, list):
        raise ResponseError(place, f"choice_order must be a list, got {sessions.brief(text)}")
    return choices
