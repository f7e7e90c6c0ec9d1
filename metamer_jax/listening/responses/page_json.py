"""The page's JSON: alone, in a server's store, in what JATOS exports."""

import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

from metamer_jax.listening.responses.answers import Answer, Session
from metamer_jax.listening.responses.csv_rows import ResponseError
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
        except (ValueError, RecursionError) as error:
            problem = getattr(error, "msg", str(error))
            line = text.count("\n", 0, getattr(error, "pos", at)) + 1
            raise ResponseError(f"{place}, line {line}", f"not JSON: {problem}") from error
        found.append((f"line {line}", value))
    return found if len(found) > 1 else [("", found[0][1])]


def from_json(doc: object, file: str, where: str, source: str) -> Session:
    """Makes a session of parsed JSON.

    Raises:
        ResponseError: It is not what the page saves.
    """
    try:
        session = sessions.check_session(doc)
    except sessions.SessionError as error:
        raise ResponseError(", ".join(filter(None, (file, where))), str(error)) from error
    answers = [
        Answer(
            where=f"trials[{i}]",
            stimulus_id=trial["stimulus_id"],
            response=trial.get("response"),
            choices=trial.get("choice_order"),
            trial=trial.get("trial"),
            rt_ms=math.nan if trial.get("rt_ms") is None else float(trial["rt_ms"]),
            reloaded=bool(trial.get("reloaded")),
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
    )


def read_store(path: pathlib.Path) -> list[Session]:
    """Returns the sessions of a server's database.

    Raises:
        ResponseError: It cannot be read, or holds what is no session.
    """
    try:
        bodies = store.read_bodies(path)
    except ValueError as error:
        raise ResponseError(path, str(error)) from error
    found = []
    for session_id, body in bodies:
        where = f"session {session_id}"
        try:
            found.append(from_json(sessions.parse_json(body), str(path), where, "server"))
        except sessions.SessionError as error:
            raise ResponseError(f"{path}, {where}", str(error)) from error
    return found


def longest(found: Sequence[Session]) -> list[Session]:
    """Returns of each session its state with most trials, the last of equals."""
    best: dict[str, Session] = {}
    for session in found:
        held = best.get(session.session)
        if held is None or len(session.answers) >= len(held.answers):
            best[session.session] = session
    return list(best.values())
