"""Files and folders of responses: each is told by its content, and read by the module for it."""

import dataclasses
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from metamer_jax.listening.responses import (
    csv_rows,
    google_form,
    joining,
    jspsych,
    page_json,
    trial_table,
)
from metamer_jax.listening.responses.answers import AnswerKey, Session
from metamer_jax.listening.responses.csv_rows import Path, ResponseError
from metamer_jax.listening.responses.trial_table import COLUMNS, SESSION_COLUMNS
from metamer_jax.listening.serving import sessions, store

_MOST_BYTES = 1 << 28  # Of one file or entry of an archive: more is no answers to questions.
# Cut short, altered, encrypted, or packed in a way that zipfile does not know.
_BAD_ARCHIVE = (
    *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError),
)
_SUFFIXES = (
    *(".json", ".jsonl", ".txt", ".csv", ".tsv", ".zip", ".jzip", ".jrzip", ".sqlite", ".db"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Responses:
    """What was read."""

    trials: pd.DataFrame  # COLUMNS; a row per trial (per cell, of a table of proportions).
    sessions: pd.DataFrame  # SESSION_COLUMNS; a row per session.
    duplicates: int = 0  # Sessions that came again and were left out.
    notes: tuple[str, ...] = ()  # For people: what was passed over.


def read(
    paths: Path | Iterable[Path],
    experiment: sessions.Experiment | None = None,
    *,
    duplicates: str = "error",
    where: Mapping[str, Sequence[str] | str] | None = None,
) -> Responses:
    """Reads files and folders of responses, telling by their content what they are.

    Args:
        paths: One or several: session JSON, a server's folder or sessions.sqlite, a JATOS archive
            (.zip, .jzip, .jrzip) or its plain text, jsPsych's CSV or JSON, a Google form's CSV,
            tables of trials or of proportions.
        experiment: What they are responses to; only tidy tables can do without.
        duplicates: A session that comes twice: "error", or "first" keeps the first and counts.
        where: Rows of a table of proportions to take: column to value or values.

    Raises:
        ResponseError: Something does not fit; the message names file and row.
        ValueError: An argument is not what it should be.
    """
    if duplicates not in ("error", "first"):
        raise ValueError(f"duplicates must be 'error' or 'first', got {duplicates!r}")
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    reader = _Reader(where)
    paths = [pathlib.Path(path) for path in paths]
    for path in paths:
        reader.read(path)
    if not paths:
        raise ValueError("paths must name at least one file or folder of responses")
    if not reader.sessions and not reader.tables:
        passed_over = f" ({'; '.join(reader.notes)})" if reader.notes else ""
        raise ResponseError(", ".join(map(str, paths)), f"no responses found{passed_over}")
    if reader.sessions and experiment is None:
        raise ValueError(
            f"experiment must be given: {reader.sessions[0].file} holds answers, and only the "
            f"experiment's folder tells which are right"
        )
    kept, dropped = joining.without_duplicates(reader.sessions, duplicates)
    tables, about = list(reader.tables), []
    if kept:
        trials, summary = joining.join(kept, AnswerKey(experiment))
        tables, about = [trials, *tables], [summary]
    trials = pd.concat(tables, ignore_index=True) if len(tables) > 1 else tables[0]
    trial_table.check_sessions_differ(tables)
    about += [trial_table.summarize(table) for table in reader.tables]
    return Responses(
        trials.reset_index(drop=True),
        pd.concat(about, ignore_index=True)[list(SESSION_COLUMNS)],
        dropped,
        tuple(reader.notes),
    )


def from_sessions(
    found: Iterable[Mapping[str, Any]],
    experiment: sessions.Experiment,
    *,
    source: str = "page",
    name: str = "session",
) -> Responses:
    """Makes the same of sessions that are in memory, each as the page would save it.

    Args:
        found: Parsed session JSON.
        experiment: What they are responses to.
        source: Where they come from, for the column of that name.
        name: What errors call them.

    Raises:
        ResponseError: As `read`.
    """
    parsed = [page_json.from_json(doc, f"{name} {i}", "", source) for i, doc in enumerate(found)]
    kept, _ = joining.without_duplicates(parsed, "error")
    if not kept:
        raise ResponseError(name, "no responses found")
    trials, summary = joining.join(kept, AnswerKey(experiment))
    return Responses(trials, summary)


class _Reader:
    """Collects sessions and tidy tables from files."""

    def __init__(self, where: Mapping[str, Any] | None):
        self.sessions: list[Session] = []
        self.tables: list[pd.DataFrame] = []
        self.notes: list[str] = []
        self._where = where

    def read(self, path: pathlib.Path) -> None:
        if path.is_dir():
            self._folder(path)
            return
        if not path.is_file():
            raise ResponseError(path, "no such file or folder")
        if path.stat().st_size > _MOST_BYTES:
            raise ResponseError(path, f"longer than {_MOST_BYTES} bytes: not a file of responses")
        with open(path, "rb") as file:
            start = file.read(16)
        if start == b"SQLite format 3\0":
            self.sessions += page_json.read_store(path)
        elif start[:4] in (b"PK\3\4", b"PK\5\6"):
            self._jatos(path)
        elif path.suffix.lower() in (".csv", ".tsv"):
            self._csv(path)
        else:
            self._text(path.read_bytes(), str(path), "", None)

    def _folder(self, folder: pathlib.Path) -> None:
        """A server's folder, or one in which people collected files."""
        names = sorted(path for path in folder.iterdir() if path.is_file())
        stored: dict[str, int] = {}
        database = folder / store.DATABASE
        if database in names:
            found = page_json.read_store(database)
            stored = {session.session: len(session.answers) for session in found}
            self.sessions += found
        for path in names:
            if path.name.startswith(".") or path.name.startswith(store.DATABASE):
                continue
            if path.suffix.lower() not in _SUFFIXES:
                self.notes.append(f"{path} passed over: not a kind of file that holds responses")
                continue
            before = len(self.sessions)
            self.read(path)
            new = self.sessions[before:]
            # The server's own copies; one with more trials than the database is not a copy.
            self.sessions[before:] = [s for s in new if len(s.answers) > stored.get(s.session, -1)]

    def _csv(self, path: pathlib.Path) -> None:
        header = csv_rows.read_header(path)
        if set(COLUMNS) <= set(header):
            self.tables.append(trial_table.read_trials(path))
        elif "stimulus_id" in header or "trial_type" in header:
            self.sessions += jspsych.read(path)
        elif google_form.columns_of(header) is not None:
            self._form(path, header)
        elif {"participant", "model", "layer"} <= set(header):
            self.tables.append(trial_table.read_proportions(path, where=self._where))
        else:
            raise ResponseError(
                path,
                f"not a table of responses: expected the columns of a trial table (participant, "
                f"model, layer, ...), of jsPsych (trial_type, stimulus_id) or of a Google form "
                f"(Timestamp, Participant, Condition, 1, 2, ...), got "
                f"{sessions.brief(header, 200)}",
            )

    def _form(self, path: pathlib.Path, header: list[str]) -> None:
        found, ignored = google_form.read(path, header)
        self.sessions += found
        if ignored:
            self.notes.append(f"{path}: columns passed over: {', '.join(map(repr, ignored))}")

    def _text(self, content: bytes, file: str, where: str, source: str | None) -> int:
        """Reads JSON: one session, several, or jsPsych's data. Returns how many sessions."""
        place = f"{file}, {where}" if where else file
        docs = page_json.documents(content, place)
        before = len(self.sessions)
        for at, doc in docs:
            here = ", ".join(part for part in (where, at) if part)
            if jspsych.is_jspsych(doc):
                rows = [(f"trial {i}", jspsych.as_text(row)) for i, row in enumerate(doc)]
                name = pathlib.PurePath(file).stem
                self.sessions += jspsych.sessions_of(rows, file, name, here, source or "jspsych")
            elif isinstance(doc, list):
                for i, each in enumerate(doc):
                    inner = ", ".join(part for part in (here, f"item {i}") if part)
                    self.sessions.append(page_json.from_json(each, file, inner, source or "page"))
            else:
                self.sessions.append(page_json.from_json(doc, file, here, source or "page"))
        if source == "jatos":  # A component that appends its data leaves every state it was in.
            self.sessions[before:] = page_json.longest(self.sessions[before:])
        return len(self.sessions) - before

    def _jatos(self, path: pathlib.Path) -> None:
        """A results archive: study_result_1/comp-result_2/data.txt, metadata.json, files/."""
        empty = 0
        before = len(self.sessions)
        try:
            with zipfile.ZipFile(path) as archive:
                entries = [e for e in archive.infolist() if not e.is_dir()]
                for entry in entries:
                    name = pathlib.PurePosixPath(entry.filename)
                    known = name.suffix.lower() in (".txt", ".json", ".csv")
                    if name.name == "metadata.json" or "files" in name.parts[:-1] or not known:
                        continue
                    if entry.file_size > _MOST_BYTES:
                        raise ResponseError(f"{path}, {name}", f"longer than {_MOST_BYTES} bytes")
                    content = archive.read(entry)
                    if not content.strip():
                        empty += 1
                    elif jspsych.looks_like_csv(content):
                        self.sessions += jspsych.read(
                            path, content=content, where=str(name), source="jatos"
                        )
                    else:
                        self._text(content, str(path), str(name), "jatos")
        except _BAD_ARCHIVE as error:
            raise ResponseError(path, f"not a readable archive: {error}") from error
        if empty:
            self.notes.append(f"{path}: {empty} results without data (nothing was answered)")
        if len(self.sessions) == before and not empty:
            raise ResponseError(
                path,
                "no results in this archive: expected JATOS's export of results, with "
                "study_result_*/comp-result_*/data.txt (a study's own .jzip holds none)",
            )
