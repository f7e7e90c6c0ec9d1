"""Sounds in a notebook: players and pictures, side by side."""

import html
from collections.abc import Sequence

import numpy as np

from metamer_jax.report import media


def table_of_sounds(
    samples: np.ndarray,
    pictures: np.ndarray,
    sample_rate_hz: int,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    captions: Sequence[Sequence[str]],
    summary: Sequence[str] = (),
) -> str:
    """Returns HTML in which every sound has a player, a picture and a caption.

    Args:
        samples: [row, column, time] int16, as played.
        pictures: [row, column, channel, frame]; a row has one scale of colours, its first's.
        sample_rate_hz: Of the sounds.
        rows: [row] what stands before each.
        columns: [column] what stands above each.
        captions: [row][column] what stands below each sound.
        summary: Lines above the table.
    """

    def cell(row, column):
        maximum = float(np.nanmax(pictures[row, 0]))
        picture = media.encode_picture(pictures[row, column], maximum=maximum, max_side=200)
        sound = media.encode_audio(samples[row, column], sample_rate_hz)
        return (
            f'<td><img src="{media.as_uri(*picture)}" style="width:14em;height:7em"><br>'
            f'<audio controls preload="metadata" src="{media.as_uri(*sound)}" style="width:14em">'
            f"</audio><br>{html.escape(captions[row][column])}</td>"
        )

    lines = "".join(f"<p>{html.escape(line)}</p>" for line in summary)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("", *columns))
    body = "".join(
        f"<tr><th>{html.escape(name)}</th>"
        + "".join(cell(row, column) for column in range(len(columns)))
        + "</tr>"
        for row, name in enumerate(rows)
    )
    return f"{lines}<table><tr>{head}</tr>{body}</table>"
