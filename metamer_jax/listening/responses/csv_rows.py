"""Rows of CSV files and what their cells may hold; errors name file and row.

Rows count as spreadsheets show them, the header is row 1.
"""

import collections
import csv
import dataclasses
import io
import itertools
import math
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn

from metamer_jax.listening.serving import sessions

Path = str | os.PathLike
_BLANK = ("", "nan", "na", "null", "none", "<na>")
# What spreadsheets of several languages make of TRUE and FALSE, and what people type.
_TRUE = frozenset(
    "true 1 yes wahr ja vrai oui verdadero sí si vero sì verdadeiro sim waar prawda tak sant sand "
    "tosi pravda истина да 真 true()".split()
)
_FALSE = frozenset(
    "false 0 no falsch nein faux non falso não onwaar nee fałsz nie falskt falsk usann epätosi "
    "nepravda ложь нет 假 false()".split()
)
_LARGEST = 2**53  # Whole numbers beyond it are not exact in a spreadsheet, nor ever meant.
# A cell that begins so is a formula to a spreadsheet.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


class ResponseError(ValueError):
    """Responses that cannot be read; says in which file and row, and why."""

    def __init__(self, where: object, problem: str):
        super().__init__(f"{where}: {problem}")


@dataclasses.dataclass(frozen=True)
class Source:
    """What is read: a file, or an archive and the name that it has within; as text, both."""

    path: pathlib.Path
    content: bytes
    inside: str = ""

    def __str__(self) -> str:
        return joined(str(self.path), self.inside)

    @property
    def name(self) -> pathlib.PurePath:
        """Its own name, without the archive's."""
        return pathlib.PurePath(self.inside or self.path)


def joined(*places: str) -> str:
    """Where something stands, from the file to the place within; "" says nothing."""
    return ", ".join(filter(None, places))


def raise_again(message: str) -> NoReturn:
    """Raises the `ResponseError` that had this message, place and all."""
    where, _, problem = message.partition(": ")
    raise ResponseError(where, problem)


def read_rows(
    source: Path | Source, required: Sequence[str] = ()
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields where each row is ("file, row 2") and its values by column; blank rows are left out.

    Args:
        source: A CSV file, separated by commas, semicolons or tabs.
        required: Columns that must be there.

    Raises:
        ResponseError: It is not such a file.
    """
    header = read_header(source)
    missing = [column for column in required if column not in header]
    if missing:
        raise ResponseError(
            f"{source}, row 1",
            f"no column {', '.join(missing)}; found {sessions.brief(header, 200)}",
        )
    for where, values in raw_rows(source):
        yield where, dict(zip(header, values, strict=True))


def read_header(source: Path | Source) -> list[str]:
    """Returns the titles of the columns, which must differ."""
    header = [title.strip() for title in next(_lines(source))[1]]
    repeated = [title for title, n in collections.Counter(header).items() if n > 1 and title]
    if repeated:
        said = ", ".join(map(repr, repeated))
        raise ResponseError(f"{source}, row 1", f"columns repeat: {said}")
    return header


def raw_rows(source: Path | Source) -> Iterator[tuple[str, list[str]]]:
    """Yields where each row is and its values, as many as the header has; no blank rows."""
    lines = _lines(source)
    width = len(next(lines)[1])
    for number, values in lines:
        if not any(value.strip() for value in values):
            continue
        if len(values) != width:
            problem = f"{len(values)} values, and the header has {width}"
            raise ResponseError(f"{source}, row {number}", problem)
        yield f"{source}, row {number}", values


def _lines(source: Path | Source) -> Iterator[tuple[int, list[str]]]:
    known = isinstance(source, Source)
    content = source.content if known else pathlib.Path(source).read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ResponseError(source, f"not UTF-8 text: {error}; save it as CSV UTF-8") from error
    if not text.strip():
        raise ResponseError(source, "empty")
    if "\0" in text:
        raise ResponseError(source, "not a text file")
    text, delimiter = _delimited(text)
    number = 0
    try:
        for number, values in enumerate(
            csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), start=1
        ):
            yield number, values
    except csv.Error as error:
        raise ResponseError(f"{source}, row {number + 1}", f"not CSV: {error}") from error


def _delimited(text: str) -> tuple[str, str]:
    """Returns a table's text without a spreadsheet's line "sep=;", and what separates its cells.

    That is the character that cuts the first rows into equally many cells, the most of them: a
    title may hold commas in a file of semicolons.
    """
    told = re.match(r"\ufeff?\"?sep=(.)\"?[^\S\n]*\r?\n", text, re.IGNORECASE)
    if told:
        return text[told.end() :], told.group(1)
    found = {}
    lines = list(itertools.islice(io.StringIO(text, newline=""), 50))
    for delimiter in ",;\t":
        try:
            rows = [row for row in csv.reader(lines, delimiter=delimiter) if any(row)]
        except csv.Error:
            continue
        # A quoted cell may run on behind the lines looked at: the last row may be cut short.
        widths = {len(row) for row in (rows[:-1] if len(lines) == 50 else rows)}
        width = len(rows[0]) if rows else 0
        found[delimiter] = (len(widths) == 1 and width > 1, width)
    return text, max(found, key=found.__getitem__, default=",")


def looks_like_csv(content: bytes) -> bool:
    """Says whether content with no name begins as a table does."""
    first = content.lstrip(b"\xef\xbb\xbf \r\n").split(b"\n", 1)[0]
    if first[:1] in (b"{", b"["):
        return False
    return any(sign in first for sign in (b",", b";", b"\t")) or first[:4].lower() == b"sep="


def whole(row: Mapping[str, str], name: str, where: str, *, blank: bool = False) -> int | None:
    """Returns a cell's whole number; of a blank cell, if it may be one, None."""
    text = row.get(name, "").strip()
    if blank and text.lower() in _BLANK:
        return None
    try:
        value = _number(text)
        if value == int(value) and abs(value) <= _LARGEST:
            return int(value)
    except (ValueError, OverflowError):
        pass
    raise ResponseError(where, f"{name} must be a whole number, got {sessions.brief(text)}")


def _number(text: str) -> float:
    """A number as tables write it: Python's own takes 1_000 too."""
    if "_" in text:
        raise ValueError(f"not a number: {sessions.brief(text)}")
    return float(text)


def whole_or_text(text: str) -> int | str:
    """Returns a number where a cell holds nothing else, else its text."""
    return int(text) if re.fullmatch(r"-?\d{1,18}", text) else text


def number(text: str, where: str, name: str) -> float:
    """Returns a cell's number, nan if it is blank; the decimal sign may be a comma."""
    text = text.strip()
    if text.lower() in _BLANK:
        return math.nan
    # "1,234" may be either: a thousand, or a decimal.
    if re.fullmatch(r"-?\d+,\d+", text) and not re.fullmatch(r"-?[1-9]\d{0,2},\d{3}", text):
        text = text.replace(",", ".")
    try:
        value = _number(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ResponseError(where, f"{name} must be a number, got {sessions.brief(text)}")
    return value


def duration_ms(text: str, where: str, name: str) -> float:
    """Returns a cell's duration, which is never negative; nan if it is blank."""
    value = number(text, where, name)
    if value < 0 or value >= sessions.LONGEST_MS:
        raise ResponseError(
            where, f"{name} must be a number of ms, at least 0, got {sessions.brief(text)}"
        )
    return value


def share(text: str, where: str, name: str, *, blank: bool = False) -> float:
    """Returns a cell's share, 0 to 1; true is 1, false 0."""
    value = _truth(text)
    value = number(text, where, name) if value is None else float(value)
    if math.isnan(value) and blank:
        return value
    if not 0 <= value <= 1:
        raise ResponseError(where, f"{name} must lie between 0 and 1, got {sessions.brief(text)}")
    return value


def flag(text: str, where: str, name: str) -> bool | None:
    """Returns what a cell says, None if it is blank.

    Raises:
        ResponseError: It is neither true nor false in any language known.
    """
    value = _truth(text)
    if value is None and text.strip().lower() not in _BLANK:
        raise ResponseError(where, f"{name} must be true or false, got {sessions.brief(text)}")
    return value


def _truth(text: str) -> bool | None:
    text = text.strip().lower()
    return True if text in _TRUE else False if text in _FALSE else None


def neutral(text: str) -> str:
    """Returns a text that no spreadsheet takes for a formula: an apostrophe comes before one."""
    return f"'{text}" if _FORMULA.match(text) else text


def restored(text: str) -> str:
    """Undoes `neutral`."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
