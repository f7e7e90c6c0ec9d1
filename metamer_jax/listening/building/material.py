"""What a run offers an experiment: its metamers as they are played, and natural recordings.

Like `pipeline`, this module stands where files meet computation.
"""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from metamer_jax import audio, configs, data, pipeline, runs, storage, verification
from metamer_jax.auditory import exact
from metamer_jax.listening.building import design
from metamer_jax.listening.config import ListeningConfig

# Columns of `Material.metamers`, all of the 16-bit sound with its ramps.
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
_OF_A_FILE = ("model", "layer", "target_id", "metamer_seed", "word")
# Natural recordings tried for each one wanted, as some are not classified correctly.
_CANDIDATES = 3
_NATURAL, _PRACTICE = range(10, 12)


@dataclasses.dataclass(frozen=True, eq=False)
class Material:
    """Sounds that an experiment can be made of, and what is known about them.

    A fabricated one makes an experiment without a run; the tests do that.
    """

    words: tuple[str, ...]  # The choices.
    sample_rate_hz: int
    playback: configs.PlaybackConfig  # Level and ramps of all sounds.
    metamers: pd.DataFrame  # A row per metamer, columns METAMER_COLUMNS.
    metamer_sounds: np.ndarray  # [metamer, time] int16.
    naturals: pd.DataFrame  # Natural and catch trials to choose from: NATURAL_COLUMNS.
    natural_sounds: np.ndarray  # [natural, time] int16.
    practice: pd.DataFrame  # The same of practice trials.
    practice_sounds: np.ndarray  # [practice, time] int16.
    source: dict[str, Any] = dataclasses.field(default_factory=dict)  # Of the run; JSON types.
    # By target id the recording that its metamers were made from, [time] int16; where they are
    # compared.
    originals: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)


def load(run: runs.Run, config: ListeningConfig) -> Material:
    """Gathers the metamers and natural recordings that `config` asks for, as they are played.

    Metamers are the run's own files, which it verified; natural recordings are made alike.

    Args:
        run: A finished run.
        config: Settings of the experiment.

    Returns:
        Sounds and what is known about them.

    Raises:
        ValueError: The run lacks something that `config` names, or has too few recordings.
    """
    table = _metamer_table(run, config)
    metamer_sounds = _metamer_sounds(run, table)
    wanted_naturals = config.natural_trials + config.catch_trials
    naturals = practice = pd.DataFrame(columns=list(NATURAL_COLUMNS))
    words, played = pipeline.recorded_words(run), [metamer_sounds[:0]] * 2
    if wanted_naturals or config.practice_trials:
        recordings = _recordings(run)
        words = recordings.words
        naturals, practice = _choose_naturals(run, recordings, config)
        played = [
            _as_played(run, recordings.waveforms[chosen["target_id"].to_numpy(int)])
            for chosen in (naturals, practice)
        ]
    natural_sounds, practice_sounds = played
    originals: dict[int, np.ndarray] = {}
    if config.task != "words":
        targets = storage.read_npz(run.path("targets", "targets.npz"))
        ids = map(int, targets["target_id"])
        originals = dict(zip(ids, _as_played(run, targets["waveform"]), strict=True))
    return Material(
        words=tuple(words),
        sample_rate_hz=run.config.data.sample_rate_hz,
        playback=run.config.playback,
        metamers=table[list(METAMER_COLUMNS)].reset_index(drop=True),
        metamer_sounds=metamer_sounds,
        naturals=naturals,
        natural_sounds=natural_sounds,
        practice=practice,
        practice_sounds=practice_sounds,
        originals=originals,
        source=_source(run),
    )


def _source(run: runs.Run) -> dict[str, Any]:
    """What the methods section says of the run; parts that it has not made are left out."""
    about: dict[str, Any] = {
        "preset": run.config.preset,
        "dataset": run.config.data.dataset,
        "seed": run.config.seed,
        "synthesis_recipe": run.config.synthesis.recipe,
        "synthesis": dataclasses.asdict(run.config.synthesis),
        "verification": dataclasses.asdict(run.config.verification),
        "cochleagram": dataclasses.asdict(run.config.cochleagram),
        "training": dataclasses.asdict(run.config.training),
        "environment": storage.read_json(run.path("config.json")).get("environment") or {},
    }
    summary = run.path("data", "summary.json")
    if summary.is_file():
        about["recordings"] = storage.read_json(summary)
    null = run.path("verification", "null.json")
    if null.is_file():
        about["null_pairs"] = {
            network: {stage: found["pairs"] for stage, found in stages.items()}
            for network, stages in storage.read_json(null).items()
        }
    paths = {
        network: run.path("networks", network, "result.json") for network in run.config.networks
    }
    results = {
        network: storage.read_json(path) for network, path in paths.items() if path.is_file()
    }
    about["trained"] = {
        network: {"parameters": result["parameters"], "best_epoch": result["best_epoch"]}
        for network, result in results.items()
        if result.get("best_epoch")
    }
    # A network that came trained was not tested here.
    about["accuracy"] = {
        network: result["test_accuracy"]
        for network, result in results.items()
        if "test_accuracy" in result
    }
    return about


def verified_in_order(run: runs.Run) -> pd.DataFrame:
    """Rows of verification/metamers.csv by network as in the run, stage, target and seed."""
    table = pipeline.read_verified(run)
    place = {network: i for i, network in enumerate(run.config.networks)}
    table = table.assign(place=table["network"].map(place))
    # A stage is one place in the order of processing.
    return table.sort_values(["place", "stage_index", "target_id", "seed"], kind="stable")


def _metamer_table(run: runs.Run, config: ListeningConfig) -> pd.DataFrame:
    """Rows of verification/metamers.csv that were asked for, in our columns and a fixed order."""
    table = verified_in_order(run)
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
    targets = storage.read_csv(run.path("targets", "targets.csv"), text=verification.TEXTS)
    held_out = set(targets.loc[targets["split"] == "test", "target_id"])
    table = table[table["target_id"].isin(held_out)]
    return table.rename(columns={theirs: ours for ours, theirs in _FROM_RUN.items()})


def _metamer_sounds(run: runs.Run, table: pd.DataFrame) -> np.ndarray:
    """Returns [metamer, time] int16 in the order of the table."""
    if not len(table):
        return np.empty((0, run.config.cochleagram.num_samples), np.int16)
    which = zip(*(table[name] for name in _OF_A_FILE), strict=True)
    files = [pipeline.metamer_wav(run, *of_metamer) for of_metamer in which]
    return audio.read_int16(files, run.config.data.sample_rate_hz)


def _as_played(run: runs.Run, waveforms: np.ndarray) -> np.ndarray:
    """Returns recordings [sound, time] as int16, made as the run's targets were."""
    if not len(waveforms):
        return np.empty(waveforms.shape, np.int16)
    rate = run.config.data.sample_rate_hz
    return audio.to_playback(waveforms, rate, run.config.playback)[0]


def _recordings(run: runs.Run) -> data.Recordings:
    try:
        return data.load(run.config.data)
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(
            f"the run's recordings, from which natural, catch and practice trials are taken, "
            f"cannot be loaded ({error}); with --practice_trials=0 and neither natural nor catch "
            f"trials the experiment can be built without them"
        ) from error


def _choose_naturals(
    run: runs.Run, recordings: data.Recordings, config: ListeningConfig
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draws recordings for natural and catch trials (test split), and practice (validation).

    The former are such as every network classifies correctly. None has the samples of a target:
    nobody hears a recording twice.

    Returns:
        Tables (`NATURAL_COLUMNS`) of natural and catch trials together, and of practice.

    Raises:
        ValueError: Fewer recordings serve than are wanted.
    """
    targets = storage.read_npz(run.path("targets", "targets.npz"))["target_id"]
    fingerprints = verification.fingerprints(recordings.waveforms)
    free = ~np.isin(fingerprints, fingerprints[targets])
    wanted = config.natural_trials + config.catch_trials

    def draw(pool, count, *stream):
        labels, words = recordings.labels[pool], len(recordings.words)
        return pool[design.draw_words(labels, words, count, [config.seed, *stream])]

    tried, practice = (
        draw(np.flatnonzero(free & (recordings.splits == split)), _CANDIDATES * count, stream)
        for split, count, stream in (
            ("test", wanted, _NATURAL),
            ("validation", config.practice_trials, _PRACTICE),
        )
    )
    # Words as even as can be among those that are classified correctly.
    kept = draw(tried[_correct_by_all(run, recordings, tried)], wanted, _NATURAL, 1)
    for name, count, found, pool in (
        ("natural_trials + catch_trials", wanted, kept, tried),
        ("practice_trials", config.practice_trials, practice, practice),
    ):
        if len(found) < count:
            raise ValueError(
                f"{name} is {count}, but of {len(pool)} recordings tried only {len(found)} serve "
                f"(natural and catch trials must be classified correctly by every network); ask "
                f"for fewer"
            )
    practice = practice[: config.practice_trials]
    return _natural_table(recordings, kept), _natural_table(recordings, practice)


def _natural_table(recordings: data.Recordings, chosen: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "target_id": chosen,
            "speaker_id": recordings.speakers[chosen],
            "word": np.asarray(recordings.words)[recordings.labels[chosen]],
        }
    )


def _correct_by_all(run: runs.Run, recordings: data.Recordings, chosen: np.ndarray) -> np.ndarray:
    correct = np.ones(len(chosen), bool)
    if not len(chosen):
        return correct
    sounds = pipeline.prepare_sounds(run, recordings.waveforms[chosen], "natural recordings")
    spoken = np.asarray(recordings.words)[recordings.labels[chosen]]
    for network in run.config.networks:
        model, variables = pipeline.load_network(run, network, len(recordings.words))
        heard = exact.run_network(model, variables, sounds, stages=())
        names = np.asarray(pipeline.class_names(run, network, recordings.words))
        correct &= names[heard.predictions] == spoken
    return correct
