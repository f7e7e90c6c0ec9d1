"""What the page says: texts in several languages, and the questions about a listener."""

import hashlib
import importlib.resources
import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from metamer_jax.listening.config import LANGUAGES

_PAGE = importlib.resources.files("metamer_jax.listening") / "page"
_QUESTION_TYPES = ("number", "choice", "text")


def load(language: str) -> dict[str, Any]:
    """Returns a translation that the package has: language, texts, questionnaire.

    Args:
        language: One of `LANGUAGES`.

    Raises:
        ValueError: There is no such translation.
    """
    if language not in LANGUAGES:
        raise ValueError(
            f"language must be one of {LANGUAGES}, got {language!r}; other languages are one "
            f"JSON file (--translation), made like listening/page/texts_en.json"
        )
    return json.loads((_PAGE / f"texts_{language}.json").read_text("utf-8"))


def check_translation(given: object) -> dict[str, Any]:
    """Checks that a translation says everything that the English page says, with the same values.

    Args:
        given: Parsed JSON: {"language": "fr", "texts": {...}, "questionnaire": [...]}.

    Returns:
        The same.

    Raises:
        ValueError: A text is missing, unknown, or names other values than the English one.
    """
    if not isinstance(given, Mapping) or not isinstance(given.get("texts"), Mapping):
        raise ValueError("translation must be an object with language, texts and questionnaire")
    language, texts = given.get("language"), given["texts"]
    if not isinstance(language, str) or not re.fullmatch(
        r"[A-Za-z]{2,3}(-[A-Za-z0-9]+)*", language
    ):
        raise ValueError(f"translation: language must be a code such as 'fr', got {language!r}")
    english = load("en")["texts"]
    missing, unknown = sorted(set(english) - set(texts)), sorted(set(texts) - set(english))
    if missing or unknown:
        raise ValueError(f"translation: texts are missing ({missing}) or unknown ({unknown})")
    for key, text in texts.items():
        forms = text.values() if isinstance(text, Mapping) else [text]
        plural = isinstance(english[key], Mapping)
        if plural != isinstance(text, Mapping) or (plural and "other" not in text):
            what = "plural forms, 'other' among them" if plural else "a text"
            raise ValueError(f"translation: {key} must be {what}, got {text!r}")
        known = _values(english[key])
        if key.startswith("resume"):  # A language may say "3 of 8" in one way or the other.
            known |= {"n", "of", "sounds"}
        for form in forms:
            if not isinstance(form, str) or not form.strip() or _values(form) - known:
                raise ValueError(
                    f"translation: {key} must be a text with no other values than "
                    f"{sorted(known)}, got {form!r}"
                )
    check_questionnaire(given.get("questionnaire", ()))
    return dict(given)


def _values(text: str | Mapping[str, str]) -> set[str]:
    """Returns the names in braces, of all plural forms."""
    forms = text.values() if isinstance(text, Mapping) else [text]
    return {name for form in forms for name in re.findall(r"\{(\w+)\}", form)}


def check_questionnaire(questions: object) -> tuple[dict[str, Any], ...]:
    """Checks questions about the listener.

    Args:
        questions: A list of {"name", "type": "number", "choice" or "text", "label", "required",
            and "min", "max" of numbers, "choices": [{"value", "label"}, ...] of choices}.

    Returns:
        The same, as a tuple.

    Raises:
        ValueError: A question lacks something; the message says which.
    """
    if not isinstance(questions, Sequence) or isinstance(questions, str):
        raise ValueError(f"questionnaire must be a list of questions, got {questions!r}")
    names: set[str] = set()
    for i, question in enumerate(questions):
        where = f"questionnaire[{i}]"
        if not isinstance(question, Mapping):
            raise ValueError(f"{where} must be an object, got {question!r}")
        name, kind = question.get("name"), question.get("type")
        if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
            raise ValueError(
                f"{where}: name must be small letters, digits and '_' (it names a column), "
                f"got {name!r}"
            )
        if name in names or name == "answered":
            raise ValueError(f"{where}: the name {name!r} is taken")
        names.add(name)
        if kind not in _QUESTION_TYPES:
            raise ValueError(f"{where}: type must be one of {_QUESTION_TYPES}, got {kind!r}")
        if not isinstance(question.get("label"), str) or not question["label"].strip():
            raise ValueError(f"{where}: label must be the question, got {question.get('label')!r}")
        unknown = set(question) - {"name", "type", "label", "required", "min", "max", "choices"}
        if unknown:
            raise ValueError(f"{where}: unknown fields {sorted(unknown)}")
        for limit in ("min", "max"):
            value = question.get(limit, 0)
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                raise ValueError(f"{where}: {limit} must be a number, got {value!r}")
        if kind == "choice":
            _check_choices(question.get("choices"), where)
    return tuple(dict(question) for question in questions)


def _check_choices(choices: object, where: str) -> None:
    given = choices if isinstance(choices, Sequence) else ()
    values = [
        choice.get("value")
        for choice in given
        if isinstance(choice, Mapping) and isinstance(choice.get("label"), str)
    ]
    texts = [value for value in values if isinstance(value, str) and value]
    if len(texts) < 2 or len(texts) != len(given) or len(set(texts)) != len(texts):
        raise ValueError(
            f'{where}: choices must be two or more of {{"value": ..., "label": ...}} with '
            f"different values, got {choices!r}"
        )


def read_text(path: str | os.PathLike, flag: str) -> str:
    """Reads a text file that a flag names.

    Args:
        path: The file.
        flag: What errors call it.

    Returns:
        What it holds.

    Raises:
        ValueError: It is not there.
    """
    try:
        return pathlib.Path(path).read_text("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{flag}: {path} cannot be read ({error.strerror})") from error


def read_json(path: str | os.PathLike, flag: str) -> Any:
    """Reads a JSON file that a flag names.

    Args:
        path: The file.
        flag: What errors call it.

    Returns:
        What it holds.

    Raises:
        ValueError: It is not there or not JSON.
    """
    try:
        return json.loads(read_text(path, flag))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{flag}: {path} is not JSON ({error})") from error


def version_of(text: str) -> str:
    """Returns what tells one wording of a text from another: the start of its SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
