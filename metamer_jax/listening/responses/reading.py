"""Files and folders of responses: each is told by its content, and read by the module for it."""

import collections
import dataclasses
import functools
import os
import pathlib
import unicodedata
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from metamer_jax import storage
from metamer_jax.listening.responses import (
    csv_rows,
    google_form,
    joining,
    jspsych,
    page_json,
    trial_table,
)
from metamer_jax.listening.responses.answers import AnswerKey, Session
from metamer_jax.listening.responses.csv_rows import Path, ResponseError, Source, joined
from metamer_jax.listening.responses.trial_table import COLUMNS, REJECTED_COLUMNS, SESSION_COLUMNS
from metamer_jax.listening.serving import sessions, store

_JATOS_FOLDERS = ("study_result_", "comp-result_")
_MOST_BYTES = 1 << 28  # Of one file or entry of an archive: more is no answers to questions.
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
    # REJECTED_COLUMNS; a row per session that cannot be of the experiment. None: there are none.
    rejected: pd.DataFrame | None = None
    # A row per session: what its listener told; a row per answer that has a confidence. None: as
    # none of it was asked.
    questionnaire: pd.DataFrame | None = None
    confidence: pd.DataFrame | None = None


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
            Of states of one session that continue each other the longest is taken anyway.
        where: Rows of a table of proportions to take: column to value or values.

    Returns:
        Trials, sessions, and what was left out or passed over.

    Raises:
        ResponseError: Something does not fit; the message names file and row.
        ValueError: An argument is not what it should be.
    """
    if duplicates not in ("error", "first"):
        raise ValueError(f"duplicates must be 'error' or 'first', got {duplicates!r}")
    given = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    reader = _Reader(where)
    files = [pathlib.Path(path) for path in given]
    for path in files:
        reader.read(path)
    if not files:
        raise ValueError("paths must name at least one file or folder of responses")
    if not reader.sessions and not reader.tables and not reader.rejected:
        passed_over = f" ({'; '.join(reader.notes)})" if reader.notes else ""
        raise ResponseError(", ".join(map(str, files)), f"no responses found{passed_over}")
    if reader.sessions and experiment is None:
        raise ValueError(
            f"experiment must be given: {reader.sessions[0].file} holds answers, and only the "
            f"experiment's folder tells which are right"
        )
    questionnaire = confidence = None
    kept, dropped = joining.without_duplicates(reader.sessions, duplicates)
    tables, about, rejected = list(reader.tables), [], list(reader.rejected)
    if kept and experiment is not None:
        trials, summary, unfit = joining.join(kept, AnswerKey(experiment))
        rejected += unfit
        out = {row["session"] for row in unfit}
        questionnaire, confidence = joining.told([s for s in kept if s.session not in out])
        if len(summary):
            tables, about = [trials, *tables], [summary]
    if not tables:  # Not one bad session among others: what was given is not of this experiment.
        csv_rows.raise_again(rejected[0]["reason"])
    trials = pd.concat(tables, ignore_index=True) if len(tables) > 1 else tables[0]
    trial_table.check_sessions_differ(tables)
    about += [trial_table.summarize(table) for table in reader.tables]
    notes = [*reader.notes, *_alike(trials["participant"].unique())]
    notes += [f"session left out: {row['reason']}" for row in rejected]
    return Responses(
        trials.reset_index(drop=True),
        pd.concat(about, ignore_index=True)[list(SESSION_COLUMNS)],
        dropped,
        tuple(notes),
        pd.DataFrame(rejected, columns=list(REJECTED_COLUMNS)),
        questionnaire,
        confidence,
    )


def _alike(participants: Iterable[str]) -> list[str]:
    """Tells of participants whose names differ by case, spaces or the form of an accent only."""
    found = collections.defaultdict(list)
    for name in participants:
        found["".join(unicodedata.normalize("NFKC", str(name)).casefold().split())].append(name)
    return [
        f"participants {', '.join(map(repr, names))} are counted as {len(names)} people, though "
        f"their names differ by case or spaces alone"
        for names in found.values()
        if len(names) > 1
    ]


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

    Returns:
        As `read`.

    Raises:
        ResponseError: As `read`.
    """
    parsed = [page_json.from_json(doc, f"{name} {i}", "", source) for i, doc in enumerate(found)]
    kept, _ = joining.without_duplicates(parsed, "error")
    if not kept:
        raise ResponseError(name, "no responses found")
    trials, summary, rejected = joining.join(kept, AnswerKey(experiment))
    if rejected:
        csv_rows.raise_again(rejected[0]["reason"])
    return Responses(trials, summary)


def _is_ours(name: pathlib.PurePath) -> bool:
    """Says whether a file is not a system's own beside those of people (Finder, Explorer)."""
    own = "__MACOSX" in name.parts or name.name.lower() in ("thumbs.db", "desktop.ini")
    return not own and not name.name.startswith(".")


class _Reader:
    """Collects sessions and tidy tables from files."""

    def __init__(self, where: Mapping[str, Any] | None):
        self.sessions: list[Session] = []
        self.tables: list[pd.DataFrame] = []
        self.rejected: list[dict[str, Any]] = []
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
            for where, doc in page_json.read_store(path):
                self._session(doc, str(path), where, "server")
        elif start[:4] in (b"PK\3\4", b"PK\5\6"):
            self._zip(path)
        else:
            self._content(Source(path, path.read_bytes()), None)

    def _folder(self, folder: pathlib.Path) -> None:
        """A server's folder, an unzipped archive of JATOS, or collected files."""
        inside = sorted(path for path in folder.iterdir() if _is_ours(path))
        if any(path.is_dir() and path.name.startswith(_JATOS_FOLDERS) for path in inside):
            self._archive(
                folder,
                [
                    (path.relative_to(folder), path.stat().st_size, path.read_bytes)
                    for path in sorted(folder.rglob("*"))
                    if path.is_file()
                ],
            )
            return
        stored: dict[str, int] = {}
        first = len(self.sessions)
        database = folder / store.DATABASE
        if database in inside:
            self.read(database)
            stored = {session.session: len(session.answers) for session in self.sessions[first:]}
        for path in inside:
            if path.name.startswith(store.DATABASE):
                continue
            if path.is_dir() or path.suffix.lower() not in _SUFFIXES:
                what = "a folder in a folder" if path.is_dir() else "not a kind of file"
                self.notes.append(f"{path} passed over: {what} that holds responses")
                continue
            before = len(self.sessions)
            self.read(path)
            new = self.sessions[before:]
            # The server's own copies; one with more trials than the database is not a copy.
            self.sessions[before:] = [s for s in new if len(s.answers) > stored.get(s.session, -1)]
        self._keep_longest(first, str(folder), equals=False)

    def _keep_longest(self, first: int, place: str, *, equals: bool = True) -> None:
        found = self.sessions[first:]
        self.sessions[first:] = page_json.longest(found, equals=equals)
        fewer = len(found) + first - len(self.sessions)
        if fewer:
            self.notes.append(f"{place}: {fewer} earlier states of sessions passed over")

    def _content(self, given: Source, source: str | None) -> None:
        """Reads what a file or an archive's entry holds; `source` is where answers came from."""
        if csv_rows.looks_like_csv(given.content) or (
            given.name.suffix.lower() in (".csv", ".tsv")
            and given.content.lstrip(b"\xef\xbb\xbf \r\n")[:1] not in (b"{", b"[")
        ):
            self._csv(given, source)
        else:
            self._text(given, source)

    def _csv(self, given: Source, source: str | None) -> None:
        header = csv_rows.read_header(given)
        if set(COLUMNS) <= set(header):
            self.tables.append(trial_table.read_trials(given))
        elif "stimulus_id" in header or "trial_type" in header:
            self.sessions += jspsych.read(given, source or "jspsych")
        elif (columns := google_form.columns_of(header)) is not None:
            found, ignored = google_form.read(given, header, columns)
            self.sessions += found
            if ignored:
                self.notes.append(f"{given}: columns passed over: {', '.join(map(repr, ignored))}")
        elif {"participant", "model", "layer"} <= set(header):
            self.tables.append(trial_table.read_proportions(given, self._where))
        else:
            raise ResponseError(
                given,
                f"not a table of responses: expected the columns of a trial table (participant, "
                f"model, layer, ...), of jsPsych (trial_type, stimulus_id) or of a Google form "
                f"(Timestamp, Participant, Condition, 1, 2, ...), got "
                f"{sessions.brief(header, 200)}",
            )

    def _text(self, given: Source, source: str | None) -> None:
        """Reads JSON: one session, several, or jsPsych's data."""
        file = str(given.path)
        docs = page_json.documents(given.content, str(given))
        before = len(self.sessions)
        for at, doc in docs:
            here = joined(given.inside, at)
            if jspsych.is_jspsych(doc):
                rows = [(f"trial {i}", jspsych.as_text(row)) for i, row in enumerate(doc)]
                name = given.path.stem
                self.sessions += jspsych.sessions_of(rows, file, name, here, source or "jspsych")
            elif isinstance(doc, list):
                for i, each in enumerate(doc):
                    self._session(each, file, joined(here, f"item {i}"), source or "page")
            else:
                self._session(doc, file, here, source or "page")
        if len(docs) > 1:  # JSON lines: data that are appended leave every state.
            self._keep_longest(before, str(given))

    def _session(self, doc: object, file: str, where: str, source: str) -> None:
        """Takes one session, or says why it is none: others are not lost for it."""
        try:
            self.sessions.append(page_json.from_json(doc, file, where, source))
        except ResponseError as error:
            told = doc if isinstance(doc, dict) else {}
            about = {name: str(told.get(name) or "")[:200] for name in ("participant", "condition")}
            about |= {"session": str(told.get("session_id") or "")[:200], "source": source}
            self.rejected.append({**about, "file": file, "reason": str(error)})

    def _zip(self, path: pathlib.Path) -> None:
        try:
            with zipfile.ZipFile(path) as archive:
                self._archive(
                    path,
                    [
                        (
                            pathlib.PurePosixPath(entry.filename.replace("\\", "/")),
                            entry.file_size,
                            functools.partial(archive.read, entry),
                        )
                        for entry in archive.infolist()
                        if not entry.is_dir()
                    ],
                )
        except ResponseError:
            raise
        except (ValueError, OSError, *storage.ZIP_DAMAGE) as error:
            raise ResponseError(path, f"not a readable archive: {error}") from error

    def _archive(
        self,
        path: pathlib.Path,
        entries: Sequence[tuple[pathlib.PurePath, int, Callable[[], bytes]]],
    ) -> None:
        """JATOS's results, study_result_1/comp-result_2/data.txt and the like, or zipped files.

        Args:
            path: The archive, or the folder that it was unzipped to.
            entries: Name, size in bytes, and what reads its content, of each file.

        Raises:
            ResponseError: A file is too long, or there are no results.
        """
        empty, first, before = 0, len(self.sessions), self._found()
        for name, size, content_of in entries:
            known = name.suffix.lower() in (".txt", ".json", ".jsonl", ".csv", ".tsv")
            if not known or not _is_ours(name) or name.name == "metadata.json":
                continue
            if "files" in name.parts[:-1]:
                continue
            if size > _MOST_BYTES:
                raise ResponseError(f"{path}, {name}", f"longer than {_MOST_BYTES} bytes")
            content = content_of()
            if not content.strip():
                empty += 1
                continue
            of_jatos = any(part.startswith(_JATOS_FOLDERS) for part in name.parts)
            try:
                self._content(Source(path, content, str(name)), "jatos" if of_jatos else None)
            except ResponseError as error:
                about = dict.fromkeys(("participant", "session", "condition"), "")
                about |= {"source": "jatos" if of_jatos else "", "file": str(path)}
                self.rejected.append({**about, "reason": str(error)})
        self._keep_longest(first, str(path))
        if empty:
            self.notes.append(f"{path}: {empty} results without data (nothing was answered)")
        if self._found() == before and not empty:
            raise ResponseError(
                path,
                "no results in this archive: expected JATOS's export of results, with "
                "study_result_*/comp-result_*/data.txt (a study's own .jzip holds none)",
            )

    def _found(self) -> int:
        return len(self.sessions) + len(self.tables) + len(self.rejected)
