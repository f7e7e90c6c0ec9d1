"""Makes the gallery of the documentation from a finished run: docs/_static/gallery/.

  bash scripts/reproduce.sh --workdir=runs/gallery
  .venv/bin/python scripts/gallery.py --workdir=runs/gallery

For the first target of every word that is asked for: the recording and its metamers, network by
network and stage by stage, the very samples that the run wrote to be played, as FLAC; and
table.html, which docs/gallery.md includes, with what verification says of each as played.
"""

import html
import pathlib
from collections.abc import Sequence

import pandas as pd
import soundfile
from absl import app, flags

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a verified run.", required=True)
_OUT = flags.DEFINE_string("out", "docs/_static/gallery", "Folder for the sounds and the table.")
_WORDS = flags.DEFINE_list("words", ["yes", "stop", "left"], "Words to show.")


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    run, out = pathlib.Path(_WORKDIR.value), pathlib.Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    for path in (*out.glob("*.flac"), *out.glob("table.html")):
        path.unlink()
    table = pd.read_csv(run / "verification" / "metamers.csv")
    parts = [
        _word(run, out, word, table[table["target_id"] == target_id])
        for word in _WORDS.value
        for target_id in table.loc[table["word"] == word, "target_id"].head(1)
    ]
    if len(parts) < len(_WORDS.value):
        raise app.UsageError(f"--words: the run has {', '.join(sorted(set(table['word'])))}")
    (out / "table.html").write_text("\n".join(parts), "utf-8")
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"{len(list(out.glob('*.flac')))} sounds, {size / 1e6:.1f} MB: {out}")


def _word(run, out, word, rows):
    """Returns the heading and the table of one target's metamers, and writes their sounds."""
    target_id = rows["target_id"].iloc[0]
    recording = _sound(run / "targets" / "wav" / f"{target_id}_{word}.wav", out, f"{word}.flac")
    cells = {}
    for row in rows.itertuples():
        name = f"{target_id}_{row.seed}_{word}.wav"
        path = run / "metamers" / row.network / row.stage / "wav" / name
        player = _sound(path, out, f"{word}_{row.network}_{row.stage}.flac")
        said = html.escape(f"heard as “{row.prediction}”, {row.verdict}")
        error = f"relative error {row.relative_error:.3f}"
        cells.setdefault(row.stage, {})[row.network] = f"<td>{player}<br>{said}<br>{error}</td>"
    networks = list(dict.fromkeys(rows["network"]))
    body = "".join(
        f"<tr><th>{stage}</th>{''.join(of_stage.get(n, '<td></td>') for n in networks)}</tr>"
        for stage, of_stage in cells.items()
    )
    head = "".join(f"<th>{network}</th>" for network in ("", *networks))
    return (
        f"<h2>“{html.escape(word)}”</h2><p>The recording: {recording}</p>"
        f'<div class="table-wrapper"><table class="docutils"><tr>{head}</tr>{body}</table></div>'
    )


def _sound(path, out, name):
    """Copies a sound as FLAC, sample for sample, and returns a player of it."""
    samples, rate_hz = soundfile.read(path, dtype="int16")
    soundfile.write(out / name, samples, rate_hz)
    source = f"_static/gallery/{name}"
    return f'<audio controls preload="none" src="{source}"><a href="{source}">{name}</a></audio>'


if __name__ == "__main__":
    app.run(main)
