"""Prolific's list of submissions beside the sessions: who finished, who is missing, whom to pay.

Prolific's export (demographic data of a study, CSV) has a row per submission: Submission id,
Participant id, Status, ..., Completion code; older ones say session_id, entered_code. Its bulk
bonus payment takes lines of participant and amount.
"""

import os
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

import pandas as pd

from metamer_jax.listening import responses
from metamer_jax.listening.responses import csv_rows, trial_table

COLUMNS = (
    *("participant", "submission", "status", "completion_code", "sessions", "answered"),
    *("presented", "complete", "kept", "reason", "finding"),
)
_NAMES = {
    "participant": ("participant_id",),
    "submission": ("submission_id", "session_id"),
    "status": ("status",),
    "completion_code": ("completion_code", "entered_code"),
}
PAID = ("APPROVED", "AWAITING REVIEW")  # Who has handed in, and may get a bonus.
_UNDER_WAY = ("ACTIVE", "RESERVED")
# Findings, in the order in which they are told, and what to do.
FINDINGS = {
    "finished": "finished, with the completion code",
    "finished, another code": "finished, with no or another completion code (all answers are here)",
    "not finished": "handed in, but their answers stop before the end",
    "no answers": "handed in, and no answers of theirs were read: look where answers are kept, and "
    "ask them for the file that the page offers",
    "answers refused": "handed in, but their answers cannot be of this experiment (sessions.csv)",
    "answers, not handed in": "gave up at Prolific (returned, timed out, rejected), and there are "
    "answers of theirs: whether those may be used is for your consent text to say",
    "left": "gave up at Prolific, and no answers of theirs are here",
    "under way": "taking part",
    "not at Prolific": "have answers here and no submission in Prolific's list",
}


def read_submissions(path: str | os.PathLike) -> pd.DataFrame:
    """Reads Prolific's export of a study.

    Args:
        path: The CSV file.

    Returns:
        A row per submission, all texts: participant, submission, status, completion_code.

    Raises:
        responses.ResponseError: It is no such file, or a submission comes twice.
    """
    rows, seen = [], {}
    for where, row in csv_rows.read_rows(path):
        known = {re.sub(r"[^a-z]+", "_", name.lower().strip()): text for name, text in row.items()}
        entry = {}
        for name, titles in _NAMES.items():
            found = [known[title] for title in titles if title in known]
            if not found:
                raise responses.ResponseError(
                    f"{path}, row 1",
                    f"no column {' or '.join(titles)}: expected Prolific's export of a study, got "
                    f"{', '.join(list(row)[:8])}",
                )
            entry[name] = found[0].strip()
        entry["status"] = entry["status"].upper().replace("_", " ")
        if not entry["participant"]:
            raise responses.ResponseError(where, "the participant is empty")
        if entry["submission"] in seen:
            raise responses.ResponseError(
                where, f"the submission comes twice: first in {seen[entry['submission']]}"
            )
        seen[entry["submission"]] = where
        rows.append(entry)
    if not rows:
        raise responses.ResponseError(path, "no submissions, only a header")
    return pd.DataFrame(rows, columns=list(_NAMES))


def code_of(design: Mapping[str, Any]) -> str:
    """Returns the completion code in an experiment's completion_url, or ""."""
    url = (design.get("config") or {}).get("completion_url") or ""
    return urllib.parse.parse_qs(urllib.parse.urlsplit(url).query).get("cc", [""])[0]


def reconcile(
    submissions: pd.DataFrame, account: pd.DataFrame, sessions: pd.DataFrame, code: str = ""
) -> pd.DataFrame:
    """Sets Prolific's submissions beside the sessions; everybody is in one row or more.

    Args:
        submissions: From `read_submissions`.
        account: `Exclusions.sessions`: who counts, and why not.
        sessions: `Responses.sessions`: whether they are complete.
        code: The code that finishing gives; "": any.

    Returns:
        COLUMNS, a row per submission, then per participant whom Prolific does not list.
    """
    identity = list(trial_table.SESSION)
    table = account.merge(sessions[[*identity, "complete"]], how="left", on=identity)
    table["participant"] = table["participant"].str.strip()
    of_participant = {name: rows for name, rows in table.groupby("participant")}
    rows: list[dict[str, object]] = []
    for record in submissions.to_dict("records"):
        submission = {str(name): str(value) for name, value in record.items()}
        own = of_participant.get(submission["participant"])
        rows.append(submission | _about(own) | {"finding": _finding(submission, own, code)})
    listed = set(submissions["participant"])
    for name, own in of_participant.items():
        if name not in listed:
            about = {**_about(own), "participant": name, "finding": "not at Prolific"}
            rows.append(dict.fromkeys(_NAMES, "") | about)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _about(own: pd.DataFrame | None) -> dict[str, object]:
    """What is known of a participant's sessions; of several, the one that says most."""
    if own is None:
        nothing: dict[str, object] = {"sessions": 0, "answered": 0, "presented": 0}
        return nothing | {"complete": False, "kept": False, "reason": ""}
    best = own.sort_values(["kept", "answered"], kind="stable").iloc[-1]
    numbers = {
        name: 0 if pd.isna(best[name]) else int(best[name]) for name in ("answered", "presented")
    }
    return {
        "sessions": len(own),
        **numbers,
        "complete": _is_complete(best),
        "kept": bool(best["kept"]),
        "reason": best["reason"],
    }


def _is_complete(session: pd.Series) -> bool:
    """Whether it was taken to its end: as the page says, or else by its answers."""
    if not pd.isna(session["complete"]):
        return bool(session["complete"])
    return bool(session["presented"] > 0) and bool(session["answered"] >= session["presented"])


def _finding(submission: Mapping[str, str], own: pd.DataFrame | None, code: str) -> str:
    status = submission["status"]
    if status in _UNDER_WAY:
        return "under way"
    if status not in PAID:
        return "left" if own is None else "answers, not handed in"
    if own is None:
        return "no answers"
    about = _about(own)
    if not about["complete"]:
        return "answers refused" if str(about["reason"]).startswith("unfit") else "not finished"
    given = submission["completion_code"]
    right = given == code if code else given not in ("", "NOCODE")
    return "finished" if right else "finished, another code"


def in_words(table: pd.DataFrame) -> str:
    """Returns who is in which case, with the ids of those who need somebody to look."""
    lines = ["Prolific's list beside the sessions:"]
    for finding, meaning in FINDINGS.items():
        who = list(dict.fromkeys(table.loc[table["finding"] == finding, "participant"]))
        if who:
            named = "" if finding in ("finished", "under way", "left") else f" ({', '.join(who)})"
            lines.append(f"  {len(who)} {meaning}{named}")
    several = table[(table["sessions"] > 1) | table["participant"].duplicated(keep=False)]
    if len(several):
        who = ", ".join(dict.fromkeys(several["participant"]))
        lines.append(
            f"  {several['participant'].nunique()} with several sessions or submissions ({who})"
        )
    return "\n".join(lines)


def bonus_list(table: pd.DataFrame, amount: float) -> str:
    """Returns what Prolific's bulk bonus payment takes: a line per participant who counts.

    Args:
        table: From `reconcile`.
        amount: For each, in the study's currency.

    Raises:
        ValueError: The amount is none.
    """
    if not amount > 0 or round(amount, 2) != amount:
        raise ValueError(f"the bonus must be an amount above 0 with two decimals, got {amount!r}")
    paid = table[table["kept"] & table["status"].isin(PAID)]
    return "".join(f"{name},{amount:.2f}\n" for name in dict.fromkeys(paid["participant"]))
