"""A Google form's answers: questions are known by their place in the condition's WAV."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from metamer_jax.listening.responses import csv_rows
from metamer_jax.listening.responses.answers import Answer, AnswerKey, Session
from metamer_jax.listening.responses.csv_rows import ResponseError
from metamer_jax.listening.serving import sessions


def columns_of(header: Sequence[str]) -> dict[str, Any] | None:
    """Tells the columns of a form apart; None: this is no form.

    Returns:
        "Participant" and "Condition" (or None) to their columns' places; "answers", the number of
        each question to its place; "ignored", names of what is left.
    """
    found: dict[str, Any] = {"participant": None, "condition": None, "ignored": []}
    questions = []
    for place, title in enumerate(header):
        lower = title.strip().lower()
        numbers = [int(n) for n in re.findall(r"\d+", title)]
        if lower.startswith("participant") and found["participant"] is None:
            found["participant"] = place
        elif lower.startswith("condition") and not numbers and found["condition"] is None:
            found["condition"] = place
        elif numbers:
            questions.append((place, numbers))
        elif place > 0:  # The first is the time stamp, whatever the form's language calls it.
            found["ignored"].append(title)
    if found["participant"] is None or not questions:
        return None
    # "Batch 2, sound 17 (of 80)": the number that counts the questions is the one that makes
    # 1, 2, ..., n of all titles.
    for pick in range(max(len(numbers) for _, numbers in questions)):
        answers = {n[pick]: place for place, n in questions if len(n) > pick}
        if len(answers) == len(questions) and set(answers) == set(range(1, len(answers) + 1)):
            found["answers"] = answers
            return found
    found["answers"] = None
    return found


def read(
    source: csv_rows.Source, header: list[str], columns: Mapping[str, Any]
) -> tuple[list[Session], list[str]]:
    """Returns a session for each row, and the titles of columns that were passed over.

    Args:
        source: The CSV file.
        header: Its titles.
        columns: From `columns_of`.

    Returns:
        The sessions, and the titles.

    Raises:
        ResponseError: A row or title does not tell who answered what.
    """
    if columns["answers"] is None:
        numbered = [title for title in header if re.search(r"\d", title)]
        raise ResponseError(
            source,
            f"the titles of the questions must hold the numbers 1, 2, ... once each, got "
            f"{sessions.brief(numbered, 200)}",
        )
    in_name = re.search(r"condition[_ -]*(\d+)", source.name.stem, re.IGNORECASE)
    found = []
    for place, values in csv_rows.raw_rows(source):
        participant = values[columns["participant"]].strip()
        if not participant:
            raise ResponseError(place, "the participant is blank")
        if columns["condition"] is not None:
            text = values[columns["condition"]]
            numbers = re.findall(r"\d+", text)
            if len(numbers) != 1:
                raise ResponseError(
                    place, f"the condition must be a number, got {sessions.brief(text)}"
                )
            condition = int(numbers[0])
        elif in_name:
            condition = int(in_name.group(1))
        else:
            raise ResponseError(
                source,
                "no column Condition; where each condition has a form of its own, name the file "
                "after it, such as condition_03.csv",
            )
        row = place.removeprefix(f"{source}, ")
        answers = [
            Answer(
                where=f"{row}, column {header[at]!r}",
                stimulus_id="",  # Known by its place in the condition's WAV.
                response=values[at].strip() or None,
                trial=number,
            )
            for number, at in sorted(columns["answers"].items())
        ]
        found.append(
            Session(
                file=str(source),
                where=row,
                source="google_form",
                session=f"form-{participant}-condition-{condition}",
                participant=participant,
                condition=condition,
                answers=answers,
                complete=None,
                finished=values[0],
            )
        )
    if not found:
        raise ResponseError(source, "no row of answers, only a header")
    return found, columns["ignored"]


def resolve(session: Session, key: AnswerKey) -> Session:
    """Gives a form's answers the stimuli that stand at their numbers in the condition's WAV."""
    heard = key.in_wav(session.condition)
    if len(session.answers) > len(heard):
        raise ResponseError(
            session.place(session.answers[len(heard)].where.split(", ", 1)[-1]),
            f"a question without a sound: condition {session.condition} has {len(heard)} sounds "
            f"and the form {len(session.answers)} questions",
        )
    spelled = {word.casefold(): word for word in key.experiment.words}
    answers = []
    for answer, stimulus in zip(session.answers, heard, strict=False):
        text = answer.response
        word = None if text is None else spelled.get(str(text).casefold(), text)
        where = answer.where.split(", ", 1)[-1]  # The row is said already.
        answers.append(
            dataclasses.replace(
                answer, stimulus_id=stimulus, response=word, trial=None, where=where
            )
        )
    return dataclasses.replace(session, answers=answers)
