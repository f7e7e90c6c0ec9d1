"""Makes the documentation's gallery and first picture from a finished run.

  bash scripts/reproduce.sh --workdir=runs/gallery
  .venv/bin/python -m experiments.gallery --workdir=runs/gallery

For the first target of every word that is asked for: the recording and its metamers, network by
network and stage by stage, the very samples that the run wrote to be played, as FLAC, in
docs/_static/gallery/; tables with what verification says of each as played, which end
docs/gallery.md; and docs/metamers.png, the cochleagrams of the first word's.
"""

import pathlib
from collections.abc import Sequence

import numpy as np
import soundfile
from absl import flags

from experiments import sound_tables
from metamer_jax import audio, cochleagram, figures, pipeline, runs
from metamer_jax.auditory import exact
from metamer_jax.commands import drivers

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a verified run.", required=True)
_OUT = flags.DEFINE_string("out", "docs/_static/gallery", "Folder for the sounds.")
_PAGE = flags.DEFINE_string("page", "docs/gallery.md", "Page whose end the tables become.")
_PICTURE = flags.DEFINE_string("picture", "docs/metamers.png", "File for the cochleagrams.")
_WORDS = flags.DEFINE_list("words", ["yes", "stop", "left"], "Words to show.")


def main(argv: Sequence[str]) -> None:
    del argv
    out = pathlib.Path(_OUT.value)
    run = runs.read_run(_WORKDIR.value, needs=["verification"])
    table = pipeline.read_verified(run)
    table = table[table["seed"] == table["seed"].iloc[0]]
    targets = [table.loc[table["word"] == word, "target_id"].head(1) for word in _WORDS.value]
    if not targets or any(of_word.empty for of_word in targets):
        spoken = ",".join(sorted(set(table["word"])))
        raise ValueError(f"--words must be of the run's (--words={spoken}), got {_WORDS.value}")
    rows = [table[table["target_id"] == of_word.item()] for of_word in targets]
    out.mkdir(parents=True, exist_ok=True)
    for path in out.glob("*.flac"):
        path.unlink()
    sound_tables.write_end(_PAGE.value, "\n".join(_word(run, out, each) for each in rows))
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"{len(list(out.glob('*.flac')))} sounds, {size / 1e6:.1f} MB: {out}")
    _picture(run, rows[0]).savefig(_PICTURE.value, dpi=100)
    print(f"Cochleagrams: {_PICTURE.value}")


def _word(run, out, rows):
    """Returns the heading and the table of one target's metamers, and writes their sounds."""
    word = rows["word"].iloc[0]
    target = pipeline.target_wav(run, rows["target_id"].iloc[0], word)
    recording = _sound(target, out, f"{word}.flac")
    cells = {}
    for row in rows.itertuples():
        sound = _sound(_metamer(run, row), out, f"{word}_{row.network}_{row.stage}.flac")
        said = f"heard as “{row.prediction}”, {row.verdict}"
        cell = f"{sound}<br>{said}<br>relative error {row.relative_error:.2g}"
        cells.setdefault(row.stage, {})[row.network] = cell
    networks = list(dict.fromkeys(rows["network"]))
    lines = [[stage, *(of.get(n, "") for n in networks)] for stage, of in cells.items()]
    table = sound_tables.table(["", *networks], lines)
    return f"## “{word}”\n\nThe recording: {recording}\n\n{table}\n"


def _metamer(run, row):
    return pipeline.metamer_wav(run, row.network, row.stage, row.target_id, row.seed, row.word)


def _picture(run, rows):
    """Returns a figure of the cochleagrams of one target and its metamers, as played."""
    word, config = rows["word"].iloc[0], run.config.cochleagram
    files = [pipeline.target_wav(run, rows["target_id"].iloc[0], word)]
    files += [_metamer(run, row) for row in rows.itertuples()]
    images = exact.dense_cochleagrams(np.stack([audio.read(path)[0] for path in files]), config)
    pictures = {network: [("target", images[0])] for network in run.config.networks}
    for row, image in zip(rows.itertuples(), images[1:], strict=True):
        pictures[row.network].append((row.stage, image))
    return figures.metamer_grid(
        pictures,
        center_hz=np.asarray(cochleagram.design_cochleagram(config).center_hz),
        duration_s=config.duration_s,
        word=word,
    )


def _sound(path, out, name):
    """Copies a sound as FLAC, sample for sample, and returns a link to it."""
    samples, rate_hz = soundfile.read(path, dtype="int16")
    soundfile.write(out / name, samples, rate_hz)
    return sound_tables.sound(f"_static/gallery/{name}")


if __name__ == "__main__":
    drivers.run(main)
