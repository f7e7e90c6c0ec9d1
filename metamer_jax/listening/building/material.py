"""What a run offers an experiment: its metamers as they will be played, verified again, and
natural recordings.

Like `pipeline`, this module stands where files meet computation.
"""

import dataclasses
import os
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from metamer_jax import audio, configs, data, pipeline, runs, storage, verification
from metamer_jax.auditory import exact
from metamer_jax.listening.building import design, sounds
from metamer_jax.listening.config import ListeningConfig
from metamer_jax.runtime import progress

if TYPE_CHECKING:
    import pandas as pd

    from metamer_jax.data import Recordings

# Columns of `Material.metamers`; "played_" ones are of the 16-bit sound with its ramps.
METAMER_COLUMNS = (
    "model",
    "layer",
    "layer_index",
    "target_id",
    "speaker_id",
    "word",
    "metamer_seed",
    "target_correct",
    "model_prediction",
    "class_match",
    "spearman",
    "null_percentile",
    "relative_error",
    "verdict",
    "reason",
    "played_model_prediction",
    "played_class_match",
    "played_spearman",
    "played_null_percentile",
    "played_relative_error",
    "played_verdict",
    "played_reason",
)
NATURAL_COLUMNS = ("target_id", "speaker_id", "word")
_FROM_RUN = {
    "model": "network",
    "layer": "stage",
    "layer_index": "stage_index",
    "speaker_id": "speaker",
    "metamer_seed": "seed",
    "model_prediction": "prediction",
}
# Natural recordings tried for each one wanted, as some are not classified correctly.
_CANDIDATES = 3
_NATURAL, _PRACTICE = range(10, 12)
_ANY_ERROR = 1e9


@dataclasses.dataclass(frozen=True, eq=False)
class Material:
    """Sounds that an experiment can be made of, and what is known about them.

    A fabricated one makes an experiment without a run; the tests do that.
    """

    words: tuple[str, ...]  # The choices.
    sample_rate_hz: int
    level_db: float  # RMS of all sounds, dB re full scale.
    metamers: "pd.DataFrame"  # A row per metamer, columns METAMER_COLUMNS.
    metamer_sounds: np.ndarray  # [metamer, time] int16.
    naturals: "pd.DataFrame"  # Natural and catch trials to choose from: NATURAL_COLUMNS.
    natural_sounds: np.ndarray  # [natural, time] int16.
    practice: "pd.DataFrame"  # The same of practice trials.
    practice_sounds: np.ndarray  # [practice, time] int16.
    source: dict[str, Any] = dataclasses.field(default_factory=dict)  # Of the run; JSON types.


def open_run(folder: str | os.PathLike) -> runs.Run:
    """Returns a finished run to read from: unlike `runs.open_run`, nothing is locked or written.

    Raises:
        ValueError: The folder holds no run that was verified.
    """
    folder = pathlib.Path(folder)
    for name, command in (("config.json", "reproduce"), ("verification/metamers.csv", "verify")):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder / name} is not there: --workdir must be the folder of a finished run "
                f"(python -m experiments.{command} --workdir={folder})"
            )
    saved = storage.read_json(folder / "config.json")
    config = configs.from_dict(configs.ExperimentConfig, saved["experiment"])
    return runs.Run(folder, config, resumed=True)


def load(run: runs.Run, config: ListeningConfig) -> Material:
    """Gathers the metamers and natural recordings that `config` asks for, ready to be played.

    Every metamer that may enter is given its ramps, level and 16 bits, and verified once more on
    the exact model as that sound.

    Raises:
        ValueError: The run lacks something that `config` names, or has too few recordings.
    """
    table = _metamer_table(run, config)
    waveforms = _metamer_waveforms(run, table)
    wanted_naturals = config.natural_trials + config.catch_trials
    parts, naturals, practice = [waveforms], _no_naturals(), _no_naturals()
    words = _words(run)
    if wanted_naturals or config.practice_trials:
        recordings = _recordings(run)
        words = recordings.words
        naturals, practice = _choose_naturals(run, recordings, config)
        for chosen in (naturals, practice):
            parts.append(recordings.waveforms[chosen["target_id"].to_numpy(int)])
    played, level_db = sounds.prepare(
        np.concatenate(parts),
        run.config.data.sample_rate_hz,
        level_db=config.level_db,
        ramp_s=config.ramp_s,
    )
    ends = np.cumsum([len(part) for part in parts] + [0] * (3 - len(parts)))
    metamer_sounds, natural_sounds, practice_sounds = np.split(played, ends[:2])
    table = _verify_played(run, table, metamer_sounds, words)
    return Material(
        words=tuple(words),
        sample_rate_hz=run.config.data.sample_rate_hz,
        level_db=level_db,
        metamers=table[list(METAMER_COLUMNS)].reset_index(drop=True),
        metamer_sounds=metamer_sounds,
        naturals=naturals,
        natural_sounds=natural_sounds,
        practice=practice,
        practice_sounds=practice_sounds,
        source={
            "preset": run.config.preset,
            "dataset": run.config.data.dataset,
            "seed": run.config.seed,
            "synthesis_recipe": run.config.synthesis.recipe,
            "verification": dataclasses.asdict(run.config.verification),
        },
    )


def _words(run: runs.Run) -> tuple[str, ...]:
    result = run.path("networks", run.config.networks[0], "result.json")
    return tuple(storage.read_json(result)["words"])


def _metamer_table(run: runs.Run, config: ListeningConfig) -> "pd.DataFrame":
    """Rows of verification/metamers.csv that were asked for, in our columns and a fixed order."""
    table = storage.read_csv(
        run.path("verification", "metamers.csv"),
        text=("word", "speaker", "target_name", "target_prediction", "prediction", "reason"),
    )
    for option, column in (("networks", "network"), ("stages", "stage"), ("words", "word")):
        wanted = getattr(config, option)
        unknown = sorted(set(wanted) - set(table[column]))
        if unknown:
            raise ValueError(
                f"{option} must be among {sorted(set(table[column]))}, those of the run, "
                f"got {unknown}"
            )
        if wanted:
            table = table[table[column].isin(wanted)]
    targets = storage.read_csv(run.path("targets", "targets.csv"), text=("word", "speaker", "name"))
    held_out = set(targets.loc[targets["split"] == "test", "target_id"])
    table = table[table["target_id"].isin(held_out)]
    # The order of networks is that of the run; a stage is one place in the order of processing.
    place = {network: i for i, network in enumerate(run.config.networks)}
    table = table.assign(place=table["network"].map(place))
    table = table.sort_values(["place", "stage_index", "target_id", "seed"], kind="stable")
    return table.rename(columns={theirs: ours for ours, theirs in _FROM_RUN.items()})


def _metamer_waveforms(run: runs.Run, table: "pd.DataFrame") -> np.ndarray:
    """Returns [metamer, time] in the order of the table."""
    found = np.empty((len(table), run.config.cochleagram.num_samples), np.float32)
    position = np.arange(len(table))
    for (network, stage), group in table.assign(position=position).groupby(["model", "layer"]):
        made = pipeline.read_metamers(run, network, stage)
        target = {int(t): i for i, t in enumerate(made.target_ids)}
        seed = {int(s): i for i, s in enumerate(made.seeds)}
        rows = [target[int(t)] for t in group["target_id"]]
        columns = [seed[int(s)] for s in group["metamer_seed"]]
        found[group["position"]] = made.made.waveform[rows, columns]
    # One that diverged would end the build; it has failed verification and is never played.
    broken = ~np.isfinite(found).all(axis=1) | (found.std(axis=1) < audio.SILENCE_RMS)
    found[broken] = np.random.default_rng(0).standard_normal(found.shape[1])
    return found


def _recordings(run: runs.Run) -> "Recordings":
    try:
        return data.load(run.config.data)
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(
            f"the run's recordings, from which natural, catch and practice trials are taken, "
            f"cannot be loaded ({error}); with --practice_trials=0 and neither natural nor catch "
            f"trials the experiment can be built without them"
        ) from error


def _no_naturals() -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame({name: [] for name in NATURAL_COLUMNS})


def _choose_naturals(
    run: runs.Run, recordings: "Recordings", config: ListeningConfig
) -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """Draws recordings for natural and catch trials (test split), and practice (validation).

    The former are such as every network classifies correctly. None has the samples of a target:
    nobody hears a recording twice.
    """
    targets = storage.read_npz(run.path("targets", "targets.npz"))["target_id"]
    fingerprints = verification.fingerprints(recordings.waveforms)
    free = ~np.isin(fingerprints, fingerprints[targets])
    drawn = []
    for split, count, stream in (
        ("test", config.natural_trials + config.catch_trials, _NATURAL),
        ("validation", config.practice_trials, _PRACTICE),
    ):
        pool = np.flatnonzero(free & (recordings.splits == split))
        labels = recordings.labels[pool]
        order = design.draw_words(
            labels, len(recordings.words), _CANDIDATES * count, [config.seed, stream]
        )
        drawn.append(pool[order])
    good = drawn[0][_correct_by_all(run, recordings, drawn[0])]
    wanted = config.natural_trials + config.catch_trials
    # Words as even as can be among those that are classified correctly.
    kept = design.draw_words(
        recordings.labels[good], len(recordings.words), wanted, [config.seed, _NATURAL, 1]
    )
    for name, count, found, tried in (
        ("natural_trials + catch_trials", wanted, len(kept), len(drawn[0])),
        ("practice_trials", config.practice_trials, len(drawn[1]), len(drawn[1])),
    ):
        if found < count:
            raise ValueError(
                f"{name} is {count}, but of {tried} recordings tried only {found} serve (natural "
                f"and catch trials must be classified correctly by every network); ask for fewer"
            )
    practice = drawn[1][: config.practice_trials]
    return _natural_table(recordings, good[kept]), _natural_table(recordings, practice)


def _natural_table(recordings: "Recordings", chosen: np.ndarray) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(
        {
            "target_id": chosen,
            "speaker_id": recordings.speakers[chosen],
            "word": np.asarray(recordings.words)[recordings.labels[chosen]],
        }
    )


def _correct_by_all(run: runs.Run, recordings: "Recordings", chosen: np.ndarray) -> np.ndarray:
    cochleagrams = _cochleagrams(run, recordings.waveforms[chosen], "natural recordings")
    correct = np.ones(len(chosen), bool)
    for network in run.config.networks if len(chosen) else ():
        model, variables = pipeline.load_network(run, network, len(recordings.words))
        heard = exact.run_network(model, variables, cochleagrams, stages=())
        correct &= heard.predictions == recordings.labels[chosen]
    return correct


def _cochleagrams(run: runs.Run, waveforms: np.ndarray, description: str) -> np.ndarray:
    if not len(waveforms):
        config = run.config.cochleagram
        return np.empty((0, config.num_channels, config.num_frames), np.float32)
    with progress.bar(len(waveforms), description, unit="sound") as bar:
        return exact.dense_cochleagrams(
            waveforms,
            run.config.cochleagram,
            batch_size=run.config.verification.batch_size,
            on_batch=bar.update,
        )


# Verification of what is played.


class SavedNull:
    """A null distribution as a run folder keeps it, for `verification.verdicts`.

    The maximum is exact; percentiles come from the histogram, to within a bin.
    """

    def __init__(self, maximum: float, edges: np.ndarray, counts: np.ndarray):
        self.max = float("nan") if maximum is None else maximum
        self._edges, self._counts = edges, counts

    @property
    def spearman(self) -> "SavedNull":
        return self

    def percentile(self, value: np.ndarray) -> np.ndarray:
        """Returns the percentage of null pairs below `value`; 100 exactly beyond the maximum."""
        value = np.asarray(value, np.float64)
        total = self._counts.sum()
        if not total:
            return np.full(value.shape, np.nan)
        below = np.interp(value, self._edges, np.concatenate([[0], np.cumsum(self._counts)]))
        share = np.minimum(100.0 * below / total, 100.0 * (1 - 1 / total))
        return np.where(np.isnan(value), np.nan, np.where(value > self.max, 100.0, share))


def _verify_played(
    run: runs.Run, table: "pd.DataFrame", played: np.ndarray, words: tuple[str, ...]
) -> "pd.DataFrame":
    """Adds the "played_" columns: the 16-bit sounds, read back, on the exact model.

    As any recording, a sound reaches the network at mean 0 and RMS 0.1. That is not the level at
    which it was synthesised, and no network is level-invariant: what must hold as played is the
    class and, at stages that a rank correlation decides, Spearman's. The relative error, which
    answers to level first of all, is reported only.
    """
    criteria = dataclasses.replace(run.config.verification, max_relative_error=_ANY_ERROR)
    summaries = storage.read_json(run.path("verification", "null.json"))
    histograms = storage.read_npz(run.path("verification", "null_histograms.npz"))
    targets = storage.read_npz(run.path("targets", "targets.npz"))
    of_target = {int(t): i for i, t in enumerate(targets["target_id"])}
    target_cochleagrams = _cochleagrams(run, targets["waveform"], "targets")
    sounds_heard = audio.normalize(audio.from_int16(played))
    cochleagrams = _cochleagrams(run, sounds_heard, "metamers as played")
    names = np.asarray(words)
    new: dict[str, np.ndarray] = {}
    table = table.reset_index(drop=True)
    for network, of_network in table.groupby("model", sort=False):
        model, variables = pipeline.load_network(run, str(network), len(words))
        for stage, group in of_network.groupby("layer", sort=False):
            rows = group.index.to_numpy()
            heard = exact.run_network(model, variables, cochleagrams[rows], [str(stage)])
            original = exact.run_network(model, variables, target_cochleagrams, [str(stage)])
            wanted = np.array([of_target[int(t)] for t in group["target_id"]])
            activation = heard.activations[stage]
            quality = verification.match_quality(original.activations[stage][wanted], activation)
            key = f"{network}/{stage}/spearman_"
            decided = verification.verdicts(
                names[heard.predictions],
                names[original.predictions[wanted]],
                quality,
                null=SavedNull(
                    summaries[network][stage]["spearman"]["max"],
                    histograms[key + "edges"],
                    histograms[key + "counts"],
                ),
                num_features=int(np.prod(activation.shape[1:])),
                config=criteria,
                outcomes=group["outcome"].to_numpy(),
            )
            for name, values in {
                "model_prediction": names[heard.predictions],
                "class_match": decided.class_match,
                "spearman": quality.spearman,
                "null_percentile": decided.null_percentile,
                "relative_error": quality.relative_error,
                "verdict": decided.verdict,
                "reason": decided.reason,
            }.items():
                column = new.setdefault("played_" + name, np.empty(len(table), object))
                column[rows] = values
    return table.assign(**{name: column for name, column in new.items()}).infer_objects()
