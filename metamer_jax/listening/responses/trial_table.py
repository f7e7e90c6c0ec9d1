"""The table of trials, its columns and their types, and tables that are tidy already."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from metamer_jax import storage
from metamer_jax.listening.responses import csv_rows
from metamer_jax.listening.responses.csv_rows import Path, ResponseError
from metamer_jax.listening.serving import sessions

COLUMNS = (
    *("participant", "session", "condition", "batch", "trial", "stimulus_id", "kind"),
    *("model", "layer", "layer_index", "target_id", "word", "response", "correct"),
    *("rt_ms", "headphones", "reloaded", "source"),
)
# Columns that stay text whatever they hold: a word may be "7", a participant "007".
TEXT = (
    *("participant", "session", "stimulus_id", "kind", "model", "layer", "word", "response"),
    "source",
)
SESSION = ("participant", "session", "condition", "source")  # What tells one from another.
SESSION_COLUMNS = (*SESSION, "file", "trials", "complete", "headphones", "started", "finished")
# Of sessions that cannot be of the experiment: who, and why.
REJECTED_COLUMNS = (*SESSION, "file", "reason")
_WHOLE = ("condition", "batch", "trial", "layer_index")
_PROPORTIONS = ("proportion_correct", "proportion", "p_correct", "correct")


def write_trials(path: Path, trials: pd.DataFrame) -> None:
    """Writes a trial table as CSV, all or nothing; `read_trials` reads it back."""
    storage.write_csv(path, neutral(trials), COLUMNS)


def neutral(table: pd.DataFrame) -> pd.DataFrame:
    """Returns a table whose texts no spreadsheet takes for formulas (`csv_rows.neutral`)."""
    return table.apply(
        lambda column: (
            column.map(lambda cell: csv_rows.neutral(cell) if isinstance(cell, str) else cell)
            if column.dtype == object or isinstance(column.dtype, pd.StringDtype)
            else column
        )
    )


def read_trials(source: Path | csv_rows.Source) -> pd.DataFrame:
    """Reads a trial table as `write_trials` writes it; further columns are left out.

    Args:
        source: The CSV file.

    Returns:
        The table, COLUMNS with their types.

    Raises:
        ResponseError: A value cannot be what its column says, or a trial comes twice.
    """
    rows, seen = [], {}
    for where, row in csv_rows.read_rows(source, COLUMNS):
        entry: dict[str, Any] = {name: csv_rows.restored(row[name]) for name in TEXT}
        for name in _WHOLE:
            entry[name] = csv_rows.whole(row, name, where, blank=True)
        entry["target_id"] = csv_rows.whole_or_text(row["target_id"])
        entry["correct"] = csv_rows.share(row["correct"], where, "correct", blank=True)
        entry["rt_ms"] = csv_rows.duration_ms(row["rt_ms"], where, "rt_ms")
        for name in ("headphones", "reloaded"):
            entry[name] = csv_rows.flag(row[name], where, name)
        if entry["session"] and entry["stimulus_id"]:
            identity = (entry["session"], entry["stimulus_id"], entry["trial"])
            if identity in seen:
                raise ResponseError(
                    where,
                    f"stimulus {entry['stimulus_id']!r} comes twice: first in {seen[identity]}",
                )
            seen[identity] = where
        rows.append(entry)
    if not rows:
        raise ResponseError(source, "no rows, only a header")
    return typed(pd.DataFrame(rows, columns=list(COLUMNS)))


def read_proportions(
    source: Path | csv_rows.Source, where: Mapping[str, Sequence[str] | str] | None = None
) -> pd.DataFrame:
    """Reads a table with a row per participant, model and layer, and the share of right answers.

    Args:
        source: CSV with participant, model, layer and proportion_correct (or proportion, p_correct,
            correct); layer_index, kind, condition, session and word are used if there.
        where: Rows to take: column to value or values, e.g. {"observer": "human"}.

    Returns:
        A trial table; `correct` holds the share.

    Raises:
        ResponseError: A column is missing, a share lies outside 0 to 1, or a cell comes twice.
    """
    header = csv_rows.read_header(source)
    scores = [name for name in _PROPORTIONS if name in header]
    if not scores:
        raise ResponseError(source, f"no column of proportions: expected one of {_PROPORTIONS}")
    wanted = {
        column: {values} if isinstance(values, str) else {str(value) for value in values}
        for column, values in (where or {}).items()
    }
    optional = ("session", "stimulus_id", "kind", "word", "response")
    identity = ("participant", "session", "condition", "kind", "model", "layer", "word", "trial")
    rows, seen = [], {}
    for at, row in csv_rows.read_rows(source, ("participant", "model", "layer", *wanted)):
        if any(row[column] not in values for column, values in wanted.items()):
            continue
        for column in ("participant", "model", "layer"):
            if not row[column]:
                raise ResponseError(at, f"{column} is empty")
        entry: dict[str, Any] = {column: row.get(column, "") for column in optional}
        entry |= {column: row[column] for column in ("participant", "model", "layer")}
        for column in _WHOLE:
            entry[column] = csv_rows.whole(row, column, at, blank=True)
        entry["target_id"] = csv_rows.whole_or_text(row.get("target_id", ""))
        entry["kind"] = entry["kind"] or "metamer"
        entry["correct"] = csv_rows.share(row[scores[0]], at, scores[0])
        entry |= {"rt_ms": math.nan, "headphones": None, "reloaded": None}
        entry["source"] = row.get("source", "") or "proportions"
        cell = tuple(entry[column] for column in identity)
        if cell in seen and not entry["stimulus_id"]:
            first, other = seen[cell]
            differ = [c for c in row if row[c] != other[c] and c != scores[0]]
            raise ResponseError(
                at,
                f"participant {entry['participant']!r}, model {entry['model']!r}, layer "
                f"{entry['layer']!r} come twice: first in {first}"
                + (f"; choose by column {', '.join(differ)} (where)" if differ else ""),
            )
        seen[cell] = at, row
        rows.append(entry)
    if not rows:
        raise ResponseError(source, f"no rows{f' with {dict(wanted)}' if wanted else ''}")
    return typed(pd.DataFrame(rows, columns=list(COLUMNS)))


def typed(trials: pd.DataFrame) -> pd.DataFrame:
    """Gives columns their types: whole numbers stay whole also where some are missing."""
    trials = trials[list(COLUMNS)].copy()
    for name in TEXT:
        trials[name] = trials[name].astype(object)
    for name in _WHOLE:
        trials[name] = trials[name].astype("Int64")
        if not trials[name].isna().any():
            trials[name] = trials[name].astype("int64")
    for name in ("correct", "rt_ms"):
        trials[name] = trials[name].astype(float)
    for name in ("headphones", "reloaded"):
        trials[name] = trials[name].astype("boolean")
        if not trials[name].isna().any():
            trials[name] = trials[name].astype(bool)
    trials["target_id"] = trials["target_id"].astype(object)
    if len(trials) and trials["target_id"].map(sessions.is_whole).all():
        trials["target_id"] = trials["target_id"].astype("int64")
    return trials


def check_sessions_differ(tables: Sequence[pd.DataFrame]) -> None:
    """Refuses a session (or, without sessions, a participant) that is in more than one table.

    Raises:
        ResponseError: One is.
    """
    seen: dict[tuple[str, ...], int] = {}
    for number, table in enumerate(tables):
        cells = zip(
            table["session"],
            table["participant"].where(table["session"] == "", ""),
            strict=True,
        )
        for cell in set(cells):
            if seen.setdefault(cell, number) != number:
                what = f"session {cell[0]!r}" if cell[0] else f"participant {cell[1]!r}"
                raise ResponseError("responses", f"{what} comes in more than one of the files")


def durations_s(found: pd.DataFrame) -> list[float]:
    """Seconds from the consent to the last answer of each session; NaN where it is not told."""
    return [
        (pd.to_datetime(end, utc=True) - pd.to_datetime(begin, utc=True)).total_seconds()
        if begin and end
        else math.nan
        for begin, end in zip(found["started"], found["finished"], strict=True)
    ]


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """A row about each session of a table that was tidy already."""
    found = trials.groupby(list(SESSION), sort=False, dropna=False, as_index=False).agg(
        trials=("correct", "size"), headphones=("headphones", "first")
    )
    return found.assign(file="", complete=None, started="", finished="")[list(SESSION_COLUMNS)]
