"""Where a server keeps sessions: an SQLite database, and beside it one JSON file per session.

The database decides; the files are for people. A session is in it, on disk, before `save` returns.
"""

import contextlib
import json
import os
import pathlib
import secrets
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from metamer_jax import storage
from metamer_jax.listening.serving import limits, sessions

DATABASE = "sessions.sqlite"
# Someone who was given a condition and was not heard of for this long has left.
LEFT_AFTER_S = 2 * 3600.0
LEFTOVER_S = 3600.0  # No file takes as long to write.
FORGOTTEN_AFTER_S = 7 * 24 * 3600.0  # An assignment that was never used.

# A rollback journal, not a write-ahead log: that one does not work on network file systems, where
# labs keep their data, and the few writes a second of an experiment do not need it.
_PRAGMAS = ("journal_mode = DELETE", "synchronous = FULL")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS experiment (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sessions (
    session_id TEXT PRIMARY KEY,
    participant TEXT NOT NULL,
    condition INTEGER NOT NULL,
    updated REAL NOT NULL,                -- seconds since 1970: handed out, or last stored
    num_trials INTEGER NOT NULL,
    complete INTEGER NOT NULL,
    body TEXT                             -- JSON; NULL: handed out, nothing sent yet
);
CREATE TABLE IF NOT EXISTS withdrawn (session_id TEXT PRIMARY KEY);
CREATE INDEX IF NOT EXISTS by_participant ON sessions (participant);
"""


class ConflictError(ValueError):
    """A session under an id that another participant's session has."""


class WithdrawnError(ConflictError):
    """A session that its listener had deleted."""


class FullError(RuntimeError):
    """The store holds as many sessions as it was allowed to."""


class SessionStore:
    """The sessions of one experiment; any thread may call it."""

    def __init__(
        self,
        folder: str | os.PathLike,
        experiment: sessions.Experiment,
        *,
        max_sessions: int = limits.MAX_SESSIONS,
    ):
        """Opens the store in a folder, or makes one, and completes its JSON files.

        Raises:
            ValueError: The store there is of another design.
        """
        self.folder = pathlib.Path(folder)
        self.experiment = experiment
        self.max_sessions = max_sessions
        self._lock = threading.Lock()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(
            self.folder / DATABASE, timeout=30.0, isolation_level=None, check_same_thread=False
        )
        try:
            for pragma in _PRAGMAS:
                self._database.execute(f"PRAGMA {pragma}")
            self._database.executescript(_SCHEMA)
            self._check_experiment()
            self._complete_files()
        except BaseException:
            self._database.close()
            raise

    def assign(self, participant: str, *, now: float | None = None) -> tuple[int, str]:
        """Hands out the least-used condition that the participant has not taken yet.

        A participant who asks again before sending anything (a reply was lost, a page was loaded
        anew) gets the same condition and counts once. The session is always a new one: should two
        people go by one name, neither overwrites the other.

        Args:
            participant: Any text; "" is nobody in particular.
            now: Seconds since 1970. None: the clock's.

        Returns:
            The condition and a new session id.

        Raises:
            FullError: There are too many sessions.
        """
        now = time.time() if now is None else now
        session_id = secrets.token_hex(16)
        with self._transaction() as database:
            database.execute(
                "DELETE FROM sessions WHERE body IS NULL AND updated < ?",
                (now - FORGOTTEN_AFTER_S,),
            )
            self._forget_nameless(database)
            self._check_room(database, 10 * self.max_sessions)
            rows = database.execute(
                "SELECT participant, condition, complete OR updated > ?, body IS NULL "
                "FROM sessions ORDER BY updated",
                (now - LEFT_AFTER_S,),
            ).fetchall()
            own = [row for row in rows if participant and row[0] == participant]
            waiting = [condition for _, condition, _, unused in own if unused]
            if waiting:
                condition = waiting[-1]
                database.execute(
                    "DELETE FROM sessions WHERE participant = ? AND body IS NULL", (participant,)
                )
            else:
                condition = least_used(
                    self.experiment.conditions,
                    [(condition, bool(counts)) for _, condition, counts, _ in rows],
                    taken={condition for _, condition, _, _ in own},
                )
            database.execute(
                "INSERT INTO sessions VALUES (?, ?, ?, ?, 0, 0, NULL)",
                (session_id, participant, condition, now),
            )
        return condition, session_id

    def save(self, session: Mapping[str, Any]) -> bool:
        """Stores a checked session, in place of an earlier state of it.

        A state that the stored one holds wholly (a request that was overtaken by a later one)
        changes nothing, so requests may be repeated and may arrive in any order. What is stored is
        only ever added to: other answers to the same sounds, or a session that is finished no
        longer, are refused.

        Args:
            session: As `sessions.check_session` returns it.

        Returns:
            Whether it is now the stored state.

        Raises:
            ConflictError: The id belongs to a session of another participant or condition, or to
                one with other answers.
            WithdrawnError: The session was withdrawn.
            FullError: There are too many sessions.
        """
        body = json.dumps(session, ensure_ascii=False, indent=1) + "\n"
        session_id, participant = session["session_id"], session["participant"] or ""
        state = (len(session["trials"]), bool(session.get("complete")))
        with self._transaction() as database:
            row = database.execute(
                "SELECT participant, condition, body FROM sessions WHERE session_id = ?",
                (session_id,),
            ).fetchone()
            withdrawn = "SELECT 1 FROM withdrawn WHERE session_id = ?"
            if database.execute(withdrawn, (session_id,)).fetchone() is not None:
                raise WithdrawnError("this session was withdrawn by its listener")
            if row is None or row[2] is None:
                # Whoever was handed a condition has begun, and a flood of others does not stop
                # them.
                most = self.max_sessions * (1 if row is None else 2)
                self._check_room(database, most, "WHERE body IS NOT NULL")
            elif (row[0], row[1]) != (participant, session["condition"]):
                raise ConflictError(
                    f"session {session_id} is already that of another participant or condition"
                )
            else:
                stored = json.loads(row[2])
                if not holds(session, stored):
                    if holds(stored, session):
                        return False
                    raise ConflictError(f"session {session_id} has other answers already")
            database.execute(
                "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)",
                (session_id, participant, session["condition"], time.time(), *state, body),
            )
        self._write_file(session_id)
        return True

    def withdraw(self, session_id: str) -> bool:
        """Deletes a session, wholly; what of it is still on its way is refused from now on.

        The id is all that is kept. Whoever knows it is the listener: it is random, and only their
        page has it.

        Args:
            session_id: Of the session.

        Returns:
            Whether there was one.
        """
        with self._transaction() as database:
            database.execute("PRAGMA secure_delete = ON")
            deleted = database.execute(
                "DELETE FROM sessions WHERE session_id = ?", (session_id,)
            ).rowcount
            if deleted:
                database.execute("INSERT OR IGNORE INTO withdrawn VALUES (?)", (session_id,))
        with self._lock:
            (self.folder / f"{session_id}.json").unlink(missing_ok=True)
        return bool(deleted)

    def counts(self) -> dict[int, tuple[int, int]]:
        """Returns by condition how many sessions are complete, and how many have begun."""
        with self._transaction() as database:
            rows = database.execute(
                "SELECT condition, SUM(complete), COUNT(*) FROM sessions "
                "WHERE body IS NOT NULL GROUP BY condition"
            ).fetchall()
        found = {condition: (complete, begun) for condition, complete, begun in rows}
        return {condition: found.get(condition, (0, 0)) for condition in self.experiment.conditions}

    def close(self) -> None:
        """Closes the database; what was saved stays."""
        with self._lock:
            self._database.close()

    def __enter__(self) -> "SessionStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def _check_room(self, database: sqlite3.Connection, most: int, where: str = "") -> None:
        (count,) = database.execute(f"SELECT COUNT(*) FROM sessions {where}").fetchone()
        if count >= most:
            raise FullError(f"{self.folder} holds {count} sessions: no more than {most} are taken")

    def _forget_nameless(self, database: sqlite3.Connection) -> None:
        """Makes room by dropping the oldest conditions that nobody in particular was handed.

        Anybody may ask for them without end; the id that was handed out stays good.
        """
        database.execute(
            "DELETE FROM sessions WHERE session_id IN (SELECT session_id FROM sessions "
            "WHERE body IS NULL AND participant = '' ORDER BY updated DESC LIMIT -1 OFFSET ?)",
            (self.max_sessions,),
        )

    def _check_experiment(self) -> None:
        current = {name: str(value) for name, value in self.experiment.identity.items()}
        with self._transaction() as database:
            saved = dict(database.execute("SELECT name, value FROM experiment"))
            if not saved:
                database.executemany("INSERT INTO experiment VALUES (?, ?)", current.items())
            elif saved != current:
                found = [f"{n} {saved.get(n)}" for n in current if saved.get(n) != current[n]]
                raise ValueError(
                    f"{self.folder / DATABASE} holds sessions of another experiment or design "
                    f"({', '.join(found)}); move {self.folder} away before serving this one"
                )

    def _write_file(self, session_id: str) -> None:
        """Writes the JSON file of what the database holds."""
        # Read and written within one transaction, which keeps other processes out too: or an older
        # state could come last, or a session that another one withdrew come back.
        with self._transaction() as database:
            row = database.execute(
                "SELECT body FROM sessions WHERE session_id = ?", (session_id,)
            ).fetchone()
            if row is None:  # Withdrawn in between.
                return
            (body,) = row
            with storage.atomic_write(self.folder / f"{session_id}.json") as file:
                file.write(body.encode("utf-8"))

    def _complete_files(self) -> None:
        """Writes the JSON files that a killed server did not come to write."""
        for leftover in self.folder.glob(".*.json.*.tmp"):
            # A young one may belong to a server that runs beside this one.
            with contextlib.suppress(FileNotFoundError):
                if time.time() - leftover.stat().st_mtime > LEFTOVER_S:
                    leftover.unlink()
        for session_id, body in read_bodies(self.folder / DATABASE):
            path = self.folder / f"{session_id}.json"
            if not path.exists() or path.read_bytes() != body.encode("utf-8"):
                self._write_file(session_id)


def holds(later: Mapping[str, Any], earlier: Mapping[str, Any]) -> bool:
    """Says whether one state of a session has every answer of another, and may replace it.

    Args:
        later: A checked session.
        earlier: Another state of the same session.

    Returns:
        True also of equal states. A sound that was playing is there without an answer, which may
        come afterwards; a session that was finished stays so.
    """

    def answers(session):
        return {(t["stimulus_id"], t.get("trial")): t.get("response") for t in session["trials"]}

    given, before = answers(later), answers(earlier)
    return all(
        place in given and (response is None or given[place] == response)
        for place, response in before.items()
    ) and bool(later.get("complete")) >= bool(earlier.get("complete"))


def least_used(
    conditions: Sequence[int],
    sessions: Collection[tuple[int, bool]],
    taken: Collection[int] = (),
) -> int:
    """Picks the condition that fewest listeners have finished or are at.

    Args:
        conditions: All of them.
        sessions: Condition of each session, and whether it counts (a session that was left
            does not; it only decides between equals).
        taken: What this listener has had: avoided while there is something else.

    Returns:
        A condition; the first in order of equals.
    """
    candidates = [condition for condition in conditions if condition not in taken]

    def use(condition):
        own = [counts for c, counts in sessions if c == condition]
        return sum(own), len(own)

    return min(candidates or conditions, key=use)


def read_bodies(path: str | os.PathLike) -> list[tuple[str, str]]:
    """Reads all sessions of a store: pairs of session id and JSON, in the order of the ids.

    The server may be running.

    Returns:
        (session id, JSON).

    Raises:
        ValueError: The file is not such a store.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is not there")
    query = "SELECT session_id, body FROM sessions WHERE body IS NOT NULL ORDER BY session_id"
    try:
        return _query(path, query, "ro")
    except sqlite3.OperationalError:
        # A server was killed within a write: only who may write can roll that back.
        try:
            return _query(path, query, "rw")
        except sqlite3.Error as error:
            raise ValueError(f"{path} is not a readable store of sessions: {error}") from error
    except sqlite3.Error as error:
        raise ValueError(f"{path} is not a readable store of sessions: {error}") from error


def _query(path: pathlib.Path, query: str, mode: str) -> list[tuple[str, str]]:
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=30.0)) as database:
        return database.execute(query).fetchall()
