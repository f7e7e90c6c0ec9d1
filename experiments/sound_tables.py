"""Tables of sounds that end a page of the documentation, in Markdown that GitHub shows, too.

A sound is a link to its file; the site puts a player before it (docs/conf.py).
"""

import os
import pathlib
from collections.abc import Iterable, Sequence

_BEGIN = "<!-- Below: written by the command above. -->\n"


def sound(file: str) -> str:
    """Returns a cell's link to a sound.

    Args:
        file: Its path from the page.
    """
    return f"[FLAC]({file})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table of Markdown.

    Args:
        head: What stands above the columns.
        rows: Their cells, without line breaks; `<br>` is one.
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_end(page: str | os.PathLike, text: str) -> None:
    """Puts a text in place of what such a call left at the end of a page.

    Args:
        page: The page, which holds the mark behind which the text stands.
        text: The text.

    Raises:
        ValueError: The page has no such mark.
    """
    path = pathlib.Path(page)
    kept, mark, _ = path.read_text("utf-8").partition(_BEGIN)
    if not mark:
        raise ValueError(f"{path} must have a line {_BEGIN.strip()!r}")
    path.write_text(f"{kept}{mark}\n{text.strip()}\n", "utf-8")
