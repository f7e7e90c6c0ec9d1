"""The page's JSON: alone, in a server's store, in what JATOS exports."""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from metamer_jax.listening.responses.answers import Answer, Session
from metamer_jax.listening.responses.csv_rows import ResponseError, joined
from metamer_jax.listening.serving import sessions, store


def documents(content: bytes, place: str) -> list[tuple[str, Any]]:
    """Returns JSON values that follow each other, with a name each if there are several."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ResponseError(place, f"not UTF-8 text: {error}") from error
    if not text.strip():
        raise ResponseError(place, "empty")
    decoder = json.JSONDecoder()
    found, at = [], 0
    while at < len(text):
        if text[at].isspace() or text[at] == ",":  # Some exports put commas between results.
            at += 1
            continue
        line = text.count("\n", 0, at) + 1
        try:
            value, at = decoder.raw_decode(text, at)
            sessions.check_value(value)
        except sessions.SessionError as error:
            raise ResponseError(f"{place}, line {line}", str(error)) from error
        except (ValueError, RecursionError) as error:
            problem = getattr(error, "msg", str(error))
            line = text.count("\n", 0, getattr(error, "pos", at)) + 1
            raise ResponseError(f"{place}, line {line}", f"not JSON: {problem}") from error
        found.append((f"line {line}", value))
    return found if len(found) > 1 else [("", found[0][1])]


def from_json(doc: object, file: str, where: str, source: str) -> Session:
    """Makes a session of parsed JSON.

    Returns:
        The session.

    Raises:
        ResponseError: It is not what the page saves.
    """
    try:
        session = sessions.check_session(doc)
    except sessions.SessionError as error:
        raise ResponseError(joined(file, where), str(error)) from error
    answers = [
        Answer(
            where=f"trials[{i}]",
            stimulus_id=trial["stimulus_id"],
            response=trial.get("response"),
            choices=trial.get("choice_order"),
            trial=trial.get("trial"),
            rt_ms=math.nan if trial.get("rt_ms") is None else float(trial["rt_ms"]),
            reloaded=bool(trial.get("reloaded")),
            confidence=trial.get("confidence"),
        )
        for i, trial in enumerate(session["trials"])
    ]
    headphone = session.get("headphone")
    passed = headphone.get("passed") if isinstance(headphone, dict) else None
    return Session(
        file=file,
        where=where,
        # Whatever way they take, simulated answers are not taken for a person's.
        source="simulated" if session.get("simulated") else source,
        session=session["session_id"],
        participant=session["participant"] or session["session_id"],
        condition=session["condition"],
        answers=answers,
        complete=session.get("complete") if isinstance(session.get("complete"), bool) else None,
        headphones=passed if isinstance(passed, bool) else None,
        started=str(session.get("started") or ""),
        finished=str(session.get("finished") or ""),
        design={name: session[name] for name in ("experiment_id", "design_sha256")},
        told=_told(session),
    )


def _told(session: Mapping[str, Any]) -> dict[str, object]:
    questions = session.get("questionnaire") or {}
    consent = session.get("consent") or {}
    about = {name: value for name, value in questions.items() if name != "answered"}
    about["consent_version"] = consent.get("version")
    about |= {name: session.get(name) or None for name in ("language", "comments")}
    return about if any(value is not None for value in about.values()) else {}


def read_store(path: pathlib.Path) -> list[tuple[str, Any]]:
    """Returns where each session of a server's database stands, and its JSON.

    Raises:
        ResponseError: It cannot be read, or holds what is no JSON.
    """
    try:
        bodies = store.read_bodies(path)
    except ValueError as error:
        raise ResponseError(path, str(error)) from error
    found = []
    for session_id, body in bodies:
        where = f"session {session_id}"
        try:
            found.append((where, sessions.parse_json(body)))
        except sessions.SessionError as error:
            raise ResponseError(f"{path}, {where}", str(error)) from error
    return found


def longest(found: Sequence[Session], *, equals: bool = True) -> list[Session]:
    """Leaves out states of a session that a later state holds wholly.

    A page that is loaded again, or a component that appends its data, leaves every state that the
    session was in. What differs in an answer that both have is no earlier state: both stay, to be
    reported as duplicates.

    Args:
        found: Sessions in the order in which they stand.
        equals: Whether the first of two equal states goes too.

    Returns:
        The states that remain, in the order in which each session first came.
    """
    held: dict[str, list[Session]] = {}
    for session in found:
        states = held.setdefault(session.session, [])
        for i, other in enumerate(states):
            if _continues(session, other) and (equals or not _continues(other, session)):
                states[i] = session
                break
            if _continues(other, session) and (equals or not _continues(session, other)):
                break
        else:
            states.append(session)
    return [session for states in held.values() for session in states]


def _continues(later: Session, earlier: Session) -> bool:
    """Says whether a session's state has all answers of another, and the same identity."""

    def identity(session):
        return session.participant, session.condition, session.design

    if identity(later) != identity(earlier) or (earlier.complete and later.complete is False):
        return False
    given = {(a.stimulus_id, a.trial): a.response for a in later.answers}
    # A sound that was playing is there without an answer, which may come afterwards.
    return len(later.answers) >= len(earlier.answers) and all(
        (a.stimulus_id, a.trial) in given and a.response in (None, given[a.stimulus_id, a.trial])
        for a in earlier.answers
    )
