"""An experiment as its folder describes it, and a session as the page sends it.

Nothing here knows what a right answer is: the server uses only this.
"""

import collections
import csv
import dataclasses
import json
import os
import pathlib
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

SCHEMA_VERSION = 1

_JATOS_NAMESPACE = uuid.UUID("5a3b0c8e-55a1-4e0f-9d3c-1f4a2b7c9e10")

# Session ids become file names: no dots, no separators.
SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
PARTICIPANT_LENGTH = 200
MAX_TRIALS = 10_000
LONGEST_MS = 1e11  # Three years.
_DEEPEST = 50  # Lists and objects within each other; the page's are five.


_TOO_DEEP = "not JSON of a session: nested too deeply"


class SessionError(ValueError):
    """A session that cannot be of this experiment, or is not a session."""


class OtherDesignError(SessionError):
    """A session of another experiment, or of this one as it was built before."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What private/design.json says that a session must agree with."""

    folder: pathlib.Path
    experiment_id: str
    design_sha256: str
    words: tuple[str, ...]  # The choices, in the order of the answer buttons.
    conditions: tuple[int, ...]

    @property
    def identity(self) -> dict[str, Any]:
        """What every session of it says, by the fields of a session."""
        return {
            "schema_version": SCHEMA_VERSION,
            "experiment_id": self.experiment_id,
            "design_sha256": self.design_sha256,
        }

    @property
    def public(self) -> pathlib.Path:
        """The only part that participants may see."""
        return self.folder / "public"

    @property
    def private(self) -> pathlib.Path:
        """What tells the answers: manifest and design."""
        return self.folder / "private"

    @property
    def responses(self) -> pathlib.Path:
        """Where the server keeps the sessions."""
        return self.folder / "responses"

    @property
    def jatos(self) -> pathlib.Path:
        """Where results go that are downloaded from JATOS."""
        return self.folder / "jatos"


def jatos_uuid(design_sha256: str, what: str) -> str:
    """Returns the id that a design's study, component or batch has in JATOS."""
    return str(uuid.uuid5(_JATOS_NAMESPACE, f"{design_sha256}/{what}"))


def load_experiment(folder: str | os.PathLike) -> Experiment:
    """Reads which experiment a folder holds.

    Args:
        folder: What `metamer-jax listen build` wrote, with public/ and private/.

    Returns:
        The experiment.

    Raises:
        ValueError: private/design.json is not there, or lacks something.
    """
    folder = pathlib.Path(folder)
    path = folder / "private" / "design.json"
    try:
        design = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ValueError(
            f"{path} is not there: give the folder that metamer-jax listen build wrote"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(design, dict):
        raise ValueError(f"{path} must hold an object, got {type(design).__name__}")
    for name in ("experiment_id", "design_sha256"):
        if not isinstance(design.get(name), str) or not design[name]:
            raise ValueError(f"{path}: {name} must be a text, got {design.get(name)!r}")
    words = design.get("words")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words) or not words:
        raise ValueError(f"{path}: words must be a list of words, got {words!r}")
    return Experiment(
        folder=folder,
        experiment_id=design["experiment_id"],
        design_sha256=design["design_sha256"],
        words=tuple(words),
        conditions=_conditions(design.get("conditions"), path),
    )


def _conditions(found: object, path: pathlib.Path) -> tuple[int, ...]:
    """Condition numbers, given as a list of them, as a count, or by a description of each."""
    if isinstance(found, Mapping):
        found = [int(name) if str(name).isdecimal() else name for name in found]
    if is_whole(found):
        found = list(range(1, found + 1))
    if isinstance(found, list):
        given = [c.get("condition") if isinstance(c, dict) else c for c in found]
        numbers = [c for c in given if is_whole(c)]
        if given and len(set(numbers)) == len(given):
            return tuple(numbers)
    raise ValueError(f"{path}: conditions must be distinct whole numbers, got {found!r}")


def is_whole(value: object) -> TypeGuard[int]:
    """Says whether a value is an integer (booleans are not)."""
    return isinstance(value, int) and not isinstance(value, bool)


def parse_json(content: bytes | str) -> Any:
    """Reads JSON strictly: UTF-8, no NaN, no bottomless nesting, no text that UTF-8 cannot hold.

    Returns:
        The value.

    Raises:
        SessionError: It is something else.
    """
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        value = json.loads(text, parse_constant=_no_constant)
        check_value(value)
    except RecursionError as error:
        raise SessionError(_TOO_DEEP) from error
    except SessionError:
        raise
    except ValueError as error:  # Of decoding and parsing.
        raise SessionError(f"not JSON: {error}") from error
    return value


def check_value(value: object) -> None:
    """Checks that a value read from JSON can be written again, here and by anybody.

    Raises:
        SessionError: It is nested too deeply, or holds half a character, which UTF-8 has not.
    """
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(_DEEPEST):
        inside = [each.values() if isinstance(each, dict) else each for each in level]
        level = [e for each in inside for e in each if isinstance(e, (dict, list))]
        if not level:
            break
    else:
        raise SessionError(_TOO_DEEP)
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise SessionError(f"not JSON: {error}") from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def check_session(session: object, experiment: Experiment | None = None) -> dict[str, Any]:
    """Checks the form of a session, and with `experiment` that it belongs to it.

    Whether its answers can be is said by `check_answers`.

    Args:
        session: What the page sent or saved, parsed.
        experiment: None: of any experiment.

    Returns:
        The same session.

    Raises:
        SessionError: A field is missing or has a value that cannot be; the message names it.
        OtherDesignError: It is of another experiment or design.
    """
    if not isinstance(session, dict):
        raise SessionError(f"expected a session object, got {type(session).__name__}")
    version = session.get("schema_version")
    if not is_whole(version) or version != SCHEMA_VERSION:  # True is 1 to Python.
        raise SessionError(f"schema_version must be {SCHEMA_VERSION}, got {brief(version)}")
    for name, field in _FIELDS.items():
        if name not in session:
            raise SessionError(f"no field {name}: expected {field[1]}")
        _check_value(session[name], name, field)
    for name, field in _OPTIONAL_FIELDS.items():
        _check_value(session.get(name), name, field)
    for number, trial in enumerate(session["trials"]):
        if not isinstance(trial, dict):
            raise SessionError(f"trials[{number}] must be an object, got {brief(trial)}")
        for name, field in _TRIAL_FIELDS.items():
            _check_value(trial.get(name), f"trials[{number}]: {name}", field)
    if experiment is not None:
        check_design(session, experiment)
        if session["condition"] not in experiment.conditions:
            raise SessionError(
                f"condition must be one of {list(experiment.conditions)}, "
                f"got {session['condition']}"
            )
    return session


def _check_value(value: object, name: str, field: "_Field") -> None:
    accepts, expected = field
    if not accepts(value):
        raise SessionError(f"{name} must be {expected}, got {brief(value)}")


def check_withdrawal(found: object) -> str:
    """Returns the id of the session that a listener wants deleted.

    Args:
        found: What the page sent, parsed.

    Raises:
        SessionError: It names no session.
    """
    session_id = found.get("session_id") if isinstance(found, dict) else None
    _check_value(session_id, "session_id", _FIELDS["session_id"])
    return str(session_id)


def load_presented(experiment: Experiment) -> dict[int, dict[str, int]]:
    """Reads which sounds each condition has, and nothing of what they are.

    Args:
        experiment: What `load_experiment` returned.

    Returns:
        By condition, how often each stimulus id is presented; practice (a condition that is none
        of the experiment's) is in every one.

    Raises:
        ValueError: private/manifest.csv is not there or lacks a column.
    """
    path = experiment.private / "manifest.csv"
    presented = {condition: collections.Counter() for condition in experiment.conditions}
    try:
        with open(path, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                named = row["condition"].strip()
                condition = int(named) if named.isdecimal() else None
                for place in [condition] if condition in presented else presented:
                    presented[place][row["stimulus_id"]] += 1
    except FileNotFoundError as error:
        raise ValueError(f"{path} is not there: the experiment was not built whole") from error
    except KeyError as error:
        raise ValueError(f"{path}, row 1: no column {error.args[0]}") from error
    return {condition: dict(counts) for condition, counts in presented.items()}


def check_answers(
    session: Mapping[str, Any],
    experiment: Experiment,
    presented: Mapping[int, Mapping[str, int]],
) -> None:
    """Checks that the experiment can have given a session's answers.

    Args:
        session: As `check_session` returns it.
        experiment: What it is a session of.
        presented: From `load_presented`.

    Raises:
        SessionError: A stimulus is unknown, of another condition, or answered more often than it
            is presented; or an answer is none of those offered.
    """
    played, words = presented[session["condition"]], experiment.words
    answered: collections.Counter[str] = collections.Counter()
    for number, trial in enumerate(session["trials"]):
        stimulus, response = trial["stimulus_id"], trial.get("response")
        offered = choices(trial.get("choice_order"), words)
        answered[stimulus] += 1
        if stimulus not in played:
            problem = f"condition {session['condition']} has no stimulus {brief(stimulus)}"
        elif answered[stimulus] > played[stimulus]:
            problem = f"stimulus {brief(stimulus)} is answered twice"
        elif chosen_word(response, offered, words) is None:
            problem = f"response {brief(response)} was not offered"
        else:
            continue
        raise SessionError(f"trials[{number}]: {problem}")


def choices(order: Sequence[object] | None, words: Sequence[str]) -> list[object]:
    """What was offered, in the order of the buttons.

    Args:
        order: [button] words, or places in `words`; None: all words as they are.
        words: The experiment's.

    Returns:
        [button] words; what is neither stays as it is.
    """
    return [
        words[choice] if is_whole(choice) and 0 <= choice < len(words) else choice
        for choice in (words if order is None else order)
    ]


def chosen_word(response: object, offered: Sequence[object], words: Sequence[str]) -> str | None:
    """The word that was chosen.

    Args:
        response: A word, or the place of its button; None or "": none was chosen.
        offered: From `choices`.
        words: The experiment's.

    Returns:
        The word, "" for none; None where it was not offered.
    """
    if response is None or response == "":
        return ""
    if is_whole(response) and 0 <= response < len(offered):
        response = offered[response]
    if isinstance(response, str) and response in offered and response in words:
        return response
    return None


def check_design(found: Mapping[str, Any], experiment: Experiment) -> None:
    """Raises OtherDesignError unless experiment_id and design_sha256 are the experiment's."""
    for name in ("experiment_id", "design_sha256"):
        expected = getattr(experiment, name)
        if found[name] != expected:
            raise OtherDesignError(
                f"{name} must be {expected!r}, got {brief(found[name])}: the page was built with "
                f"another design"
            )


def brief(value: object, most: int = 60) -> str:
    """A value as an error message can hold it."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."


def _text(longest: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and len(value) <= longest


def _optional(accepts: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or accepts(value)


def _is_small(value: object) -> bool:
    """Says whether a value is an integer that every table and database holds."""
    return is_whole(value) and abs(value) < 2**31


def _is_duration(value: object) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 <= value < LONGEST_MS  # False of NaN, and of numbers of 400 digits.


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


_Field = tuple[Callable[[object], bool], str]  # Whether a value may be, and what may.
_FIELDS: Mapping[str, _Field] = {
    "experiment_id": (_text(200), "a text"),
    "design_sha256": (_text(200), "a text"),
    "session_id": (
        lambda value: isinstance(value, str) and SESSION_ID.fullmatch(value) is not None,
        "1 to 64 letters, digits, - and _",
    ),
    "participant": (
        _optional(_text(PARTICIPANT_LENGTH)),
        f"a text of at most {PARTICIPANT_LENGTH} characters",
    ),
    "condition": (_is_small, "a whole number"),
    "trials": (
        lambda value: isinstance(value, list) and len(value) <= MAX_TRIALS,
        f"a list of at most {MAX_TRIALS} trials",
    ),
}


def _is_flat(value: object) -> bool:
    """Says whether a value is an object of a few short texts and numbers."""
    return (
        isinstance(value, dict)
        and len(value) <= 100
        and all(
            len(name) <= 100
            and (each is None or _text(1000)(each) or _is_flag(each) or _is_modest(each))
            for name, each in value.items()
        )
    )


def _is_modest(value: object) -> bool:
    return isinstance(value, (int, float)) and -1e15 < value < 1e15


_OPTIONAL_FIELDS: Mapping[str, _Field] = {
    "questionnaire": (_optional(_is_flat), "an object of texts and numbers"),
    "consent": (_optional(_is_flat), "an object of texts"),
    "language": (_optional(_text(40)), "a short text"),
    "complete": (_optional(_is_flag), "true or false"),
    "simulated": (_optional(_is_flag), "true or false"),
    "comments": (_optional(_text(10_000)), "a text of at most 10000 characters"),
}

_TRIAL_FIELDS: Mapping[str, _Field] = {
    "trial": (_optional(_is_small), "a whole number"),
    "stimulus_id": (
        lambda value: isinstance(value, str) and 0 < len(value) <= 200,
        "the name of a stimulus",
    ),
    "response": (
        _optional(lambda value: _is_small(value) or _text(200)(value)),
        "a word, its place in choice_order, or null",
    ),
    "choice_order": (
        _optional(lambda value: isinstance(value, list) and len(value) <= 1000),
        "a list",
    ),
    "rt_ms": (_optional(_is_duration), "a number of ms, at least 0"),
    "reloaded": (_optional(_is_flag), "true or false"),
    "confidence": (
        _optional(lambda value: is_whole(value) and 1 <= value <= 5),
        "a whole number from 1 to 5",
    ),
}
