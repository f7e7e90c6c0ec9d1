"""Machine listeners: networks trained on the same words, which take the experiment as people do.

They stand in where people's answers are scarce, and everything they say is labelled "machine".
How recognisable a network's metamers are to other networks predicts how recognisable they are to
people (Feather et al., 2023).

    listeners = panel(run.config, 6)
    train_panel(run, recordings, listeners)
    trials = listen_to_run(run, load_panel(run, listeners))     # or listen_to_experiment
    recognition_matrix(trials)                                  # every network on every network's

A listener is a run folder of its own, listeners/<name>/ in the run's: its weights, log and
settings are where any network's are, and its training is picked up again like any other.
"""

import dataclasses
import pathlib
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np
import pandas as pd

from metamer_jax import analysis, audio, configs, evaluation, models, pipeline, progress, runs
from metamer_jax.data import Recordings
from metamer_jax.listening import responses, sessions

SOURCE = "machine"
FOLDER = "machine_listeners"  # Of an experiment or a run: what they answered.

_PAPER = configs.TRAINING_RECIPES["paper"]
RECIPES: Mapping[str, configs.TrainingConfig] = types.MappingProxyType(
    {
        "paper": _PAPER,
        "masked": dataclasses.replace(
            _PAPER,
            recipe="masked",
            augment=configs.AugmentConfig(time_mask=0.2, frequency_mask=0.2),
        ),
        "noise": dataclasses.replace(
            _PAPER, recipe="noise", augment=configs.AugmentConfig(noise_snr_db=(0.0, 30.0))
        ),
        "augmented": configs.TRAINING_RECIPES["augmented"],
    }
)
DEFAULT_RECIPES = ("paper", "masked", "noise")  # "augmented" takes several times as long.
DEFAULT_NETWORKS = ("conv2d", "frequency_grouped")

# Metamers that are listened to: those that passed verification and keep their class as played,
# or all of them.
VERIFIED = ("pass", "any")


@dataclasses.dataclass(frozen=True)
class Listener:
    """Who is to be trained."""

    name: str
    network: str  # Of `models.PRESETS`.
    training: configs.TrainingConfig
    seed: int  # Of the first weights and the order of training.


class Network(NamedTuple):
    """A trained network that listens."""

    name: str  # A network of the run has its own name, as in the column `model` of trials.
    model: nn.Module
    variables: Any


def panel(
    config: configs.ExperimentConfig,
    count: int,
    *,
    recipes: Sequence[str] = DEFAULT_RECIPES,
    networks: Sequence[str] = (),
    epochs: int | None = None,
) -> tuple[Listener, ...]:
    """Says who listens: networks in turn, then recipes in turn, each with a seed of its own.

    The first listeners of a larger panel are those of a smaller one.

    Args:
        config: Of the run whose metamers are listened to.
        count: How many listeners, the run's own networks not counted.
        recipes: Of `RECIPES`.
        networks: Of `models.PRESETS`; empty: `DEFAULT_NETWORKS`.
        epochs: At most, in place of the recipes'.

    Raises:
        ValueError: There is no such recipe or network, or `count` is negative.
    """
    networks = tuple(networks) or DEFAULT_NETWORKS
    for name, given, known in (
        ("recipes", recipes, RECIPES),
        ("networks", networks, models.PRESETS),
    ):
        unknown = sorted(set(given) - set(known))
        if unknown or not given:
            raise ValueError(f"{name} must be among {sorted(known)}, got {unknown or given}")
    if not sessions.is_whole(count) or count < 0:
        raise ValueError(f"count must be a whole number, at least 0, got {count!r}")
    found = []
    for i in range(count):
        turn, network = divmod(i, len(networks))
        recipe = recipes[turn % len(recipes)]
        # The run's own networks have config.seed: with another, no listener is one of them.
        seed = config.seed + 1 + turn
        training = configs.replace_given(RECIPES[recipe], epochs=epochs)
        name = f"{networks[network]}-{recipe}-seed{seed}"
        found.append(Listener(name, networks[network], training, seed))
    return tuple(found)


def train_panel(
    run: runs.Run,
    recordings: Recordings,
    listeners: Sequence[Listener],
    *,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Trains the listeners that are not trained yet, on the run's training split.

    Leaves listeners/<name>/ in the run's folder, each with config.json and
    networks/<network>/{weights.npz, training.jsonl, result.json}.

    Raises:
        ValueError: A folder of that name holds a listener trained otherwise.
    """
    for listener in listeners:
        with _open(run, listener) as folder:
            pipeline.train_networks(folder, recordings, stop=stop)


def _settings(run: runs.Run, listener: Listener) -> configs.ExperimentConfig:
    return dataclasses.replace(
        run.config, networks=(listener.network,), training=listener.training, seed=listener.seed
    )


def _open(run: runs.Run, listener: Listener) -> runs.Run:
    return runs.open_run(run.path("listeners", listener.name), _settings(run, listener))


def load_panel(run: runs.Run, listeners: Sequence[Listener]) -> list[Network]:
    """Returns the run's own networks, then the listeners.

    Raises:
        ValueError: One of them has not been trained.
    """
    count = len(words_of(run))
    found = [
        Network(name, *pipeline.load_network(run, name, count)) for name in run.config.networks
    ]
    for listener in listeners:
        folder = run.path("listeners", listener.name)
        trained = runs.Run(folder, _settings(run, listener), resumed=True)
        found.append(
            Network(listener.name, *pipeline.load_network(trained, listener.network, count))
        )
    return found


def words_of(run: runs.Run) -> tuple[str, ...]:
    """Returns the words that the run's networks tell apart."""
    result = run.path("networks", run.config.networks[0], "result.json")
    return tuple(runs.read_json(result)["words"])


def accuracy(run: runs.Run, listeners: Sequence[Listener]) -> pd.DataFrame:
    """Returns what each listener recognises of the recordings held out: listener, test_accuracy."""
    paths = {name: run.path("networks", name, "result.json") for name in run.config.networks}
    for listener in listeners:
        paths[listener.name] = run.path(
            "listeners", listener.name, "networks", listener.network, "result.json"
        )
    rows = [
        {"listener": name, **{key: result[key] for key in ("network", "epochs", "test_accuracy")}}
        for name, result in ((name, runs.read_json(path)) for name, path in paths.items())
    ]
    return pd.DataFrame(rows).assign(source=SOURCE)


# Listening.


def hear(
    networks: Sequence[Network],
    samples: np.ndarray,
    config: configs.CochleagramConfig,
    *,
    batch_size: int = 8,
) -> np.ndarray:
    """Lets networks listen to sounds as they are played.

    As any recording, a sound reaches a network at mean 0 and RMS 0.1, through the exact
    cochleagram.

    Args:
        networks: Who listens.
        samples: [sound, time] int16.
        config: Of the cochleagram.
        batch_size: Cochleagrams made at once.

    Returns:
        [network, sound] int, index of the word that each hears.
    """
    sounds = np.stack([audio.normalize(audio.from_int16(sound)) for sound in samples])
    with progress.bar(len(samples), "machine listeners", unit="sound") as bar:
        return evaluation.recognize(
            [(network.model, network.variables) for network in networks],
            sounds,
            config,
            batch_size=batch_size,
            on_batch=bar.update,
        )


def score(
    networks: Sequence[Network],
    samples: np.ndarray,
    table: pd.DataFrame,
    *,
    words: Sequence[str],
    config: configs.CochleagramConfig,
    batch_size: int = 8,
) -> pd.DataFrame:
    """Scores every network on every sound: the trial table of `responses`, source "machine".

    Args:
        networks: Who listens.
        samples: [sound, time] int16, as played.
        table: A row per sound: stimulus_id, kind, word, and model, layer, layer_index, target_id
            of metamers.
        words: What the networks tell apart.
        config: Of the cochleagram.
        batch_size: Cochleagrams made at once.

    Returns:
        A row per network and sound. A trial is right where the network hears the word that was
        spoken in the target, as a person's is.
    """
    heard = hear(networks, samples, config, batch_size=batch_size)
    names = np.asarray(words, dtype=object)
    tables = []
    for network, predictions in zip(networks, heard, strict=True):
        answers = names[predictions]
        tables.append(
            table.assign(
                participant=network.name,
                session=network.name,
                condition=pd.NA,
                batch=pd.NA,
                trial=np.arange(1, len(table) + 1),
                response=answers,
                correct=(answers == table["word"].to_numpy(object)).astype(float),
                rt_ms=np.nan,
                headphones=pd.NA,
                reloaded=False,
                source=SOURCE,
            )
        )
    return pd.concat(tables, ignore_index=True)[list(responses.COLUMNS)]


def listen_to_run(
    run: runs.Run, networks: Sequence[Network], *, verified: str = "pass"
) -> pd.DataFrame:
    """Scores every network on every metamer of a finished run, and on the targets, as played.

    Args:
        run: The run.
        networks: Who listens.
        verified: "pass": metamers that passed verification and keep their class as played; "any":
            all of them.

    Returns:
        As `score`; targets are of kind "natural".

    Raises:
        ValueError: No metamer passed, or a file is missing.
    """
    if verified not in VERIFIED:
        raise ValueError(f"verified must be one of {VERIFIED}, got {verified!r}")
    texts = ("word", "speaker", "target_name", "target_prediction", "prediction", "reason")
    table = runs.read_csv(run.path("verification", "metamers.csv"), text=texts)
    if verified == "pass":
        table = table[(table["verdict"] == "pass") & table["played_class_match"]]
    if table.empty:
        raise ValueError("no metamer passed verification; verified='any' takes all of them")
    place = {network: i for i, network in enumerate(run.config.networks)}
    table = table.assign(place=table["network"].map(place))
    table = table.sort_values(["place", "stage_index", "target_id", "seed"], kind="stable")
    files, rows = [], []
    for entry in table.itertuples():
        name = f"{entry.target_id}_{entry.seed}_{entry.word}.wav"
        files.append(run.path("metamers", entry.network, entry.stage, "wav", name))
        rows.append(
            {
                "stimulus_id": f"{entry.network}-{entry.stage}-{entry.target_id}-{entry.seed}",
                "kind": "metamer",
                "model": entry.network,
                "layer": entry.stage,
                "layer_index": entry.stage_index,
                "target_id": entry.target_id,
                "word": entry.word,
            }
        )
    targets = runs.read_csv(run.path("targets", "targets.csv"), text=("word", "speaker", "name"))
    for entry in targets.itertuples():
        files.append(run.path("targets", "wav", f"{entry.target_id}_{entry.word}.wav"))
        rows.append(
            {
                "stimulus_id": f"target-{entry.target_id}",
                "kind": "natural",
                "model": "",
                "layer": "",
                "layer_index": pd.NA,
                "target_id": entry.target_id,
                "word": entry.word,
            }
        )
    return score(
        networks,
        _read_sounds(files, run.config.data.sample_rate_hz),
        pd.DataFrame(rows),
        words=words_of(run),
        config=run.config.cochleagram,
        batch_size=run.config.verification.batch_size,
    )


def listen_to_experiment(
    run: runs.Run, networks: Sequence[Network], experiment: sessions.Experiment
) -> pd.DataFrame:
    """Lets networks take every condition of an experiment, with the very files that people hear.

    Args:
        run: That the experiment was built from.
        networks: Who listens; each has a session in every condition.
        experiment: From `sessions.load_experiment`.

    Returns:
        The trial table that `responses` makes of sessions, source "machine".

    Raises:
        ValueError: The experiment has other words than the run's networks, or a file is missing.
    """
    words = words_of(run)
    if set(experiment.words) != set(words):
        raise ValueError(
            f"the experiment's words must be those of the run's networks, {list(words)}, got "
            f"{list(experiment.words)}"
        )
    key = responses.AnswerKey(experiment)
    presented = {condition: key.stimuli(condition) for condition in experiment.conditions}
    stimuli = sorted({stimulus for sounds in presented.values() for stimulus, _ in sounds})
    files = [experiment.public / "audio" / f"{stimulus}.wav" for stimulus in stimuli]
    heard = hear(
        networks,
        _read_sounds(files, run.config.data.sample_rate_hz),
        run.config.cochleagram,
        batch_size=run.config.verification.batch_size,
    )
    found = []
    for network, predictions in zip(networks, heard, strict=True):
        answer = dict(zip(stimuli, (words[i] for i in predictions), strict=True))
        for condition, sounds in presented.items():
            found.append(
                {
                    "schema_version": sessions.SCHEMA_VERSION,
                    "experiment_id": experiment.experiment_id,
                    "design_sha256": experiment.design_sha256,
                    "session_id": f"machine-{network.name}-{condition:03d}"[-64:].lstrip("-_"),
                    "participant": network.name,
                    "condition": condition,
                    "trials": [
                        {
                            "trial": entry["trial"],
                            "stimulus_id": stimulus,
                            "response": answer[stimulus],
                        }
                        for stimulus, entry in sounds
                    ],
                    "complete": True,
                }
            )
    return responses.from_sessions(found, experiment, source=SOURCE, name="machine").trials


def _read_sounds(files: Sequence[pathlib.Path], sample_rate_hz: int) -> np.ndarray:
    """Returns [sound, time] int16."""
    sounds = []
    for file in files:
        samples, rate_hz = audio.read(file)
        if rate_hz != sample_rate_hz:
            raise ValueError(f"{file} must have {sample_rate_hz} Hz, got {rate_hz}")
        sounds.append(np.rint(samples.astype(np.float64) * 32768).astype(np.int16))
    return np.stack(sounds)


# What follows from it.


def of_others(trials: pd.DataFrame) -> pd.DataFrame:
    """Leaves out what networks say of their own metamers: those were made for them to recognise."""
    return trials[trials["participant"] != trials["model"]]


def recognition_matrix(trials: pd.DataFrame, *, chance: float = 1 / 8) -> pd.DataFrame:
    """Returns how often every listener recognises every network's metamers, layer by layer.

    Args:
        trials: From `listen_to_run` or `listen_to_experiment`; people's trials do as well.
        chance: Probability of a right answer by guessing.

    Returns:
        A row per listener, model and layer: own (the listener is the network they were made from),
        correct, trials, proportion, wilson_low, wilson_high, p_chance; proportion_unit "trial".
    """
    table = analysis.recognition(
        trials, ("participant", "model", "layer"), chance=chance, resamples=0
    )
    kept = ["correct", "trials", "proportion", "wilson_low", "wilson_high", "p_chance"]
    table = table[["participant", "model", "layer", *kept, "proportion_unit", "chance"]]
    table = table.rename(columns={"participant": "listener"})
    order = list(dict.fromkeys(trials["participant"]))
    table = table.sort_values("listener", key=lambda c: c.map(order.index), kind="stable")
    table.insert(3, "own", table["listener"] == table["model"])
    return table.reset_index(drop=True)


AGREEMENT_COLUMNS = (
    *("level", "model", "pearson_r", "pearson_low", "pearson_high"),
    *(
        "spearman_r",
        "spearman_low",
        "spearman_high",
        "n",
        "unit",
        "listeners",
        "machines",
        "reason",
    ),
)


def agreement(
    people: pd.DataFrame,
    machines: pd.DataFrame,
    *,
    confidence: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Correlates how recognisable metamers are to people and to machines.

    Args:
        people: Their trials that count, or a table of proportions.
        machines: Trials of machine listeners; their own metamers are left out.
        confidence: Of the intervals.
        resamples: Bootstrap samples, of people and of machines at once; 0: no intervals.
        seed: Of the bootstrap.

    Returns:
        A row for cells (a model's layer; all models, then each) and one for single metamers, with
        Pearson's and Spearman's correlation of the mean shares of right answers over listeners,
        percentile intervals over listeners, n (of `unit`), and the numbers of listeners and
        machines. A correlation that is undefined is NaN and `reason` says why.
    """
    machines = of_others(machines)
    rows = []
    for level, keys in (("cell", ["model", "layer"]), ("metamer", ["model", "layer", "target_id"])):
        sides = []
        for trials in (people, machines):
            used = trials[(trials["kind"] == "metamer") & trials["correct"].notna()]
            used = used.assign(target_id=used["target_id"].astype(str))
            used = used[(used[keys] != "").all(axis=1)]
            sides.append(
                used.pivot_table("correct", "participant", keys, aggfunc="mean", observed=True)
            )
        shared = [cell for cell in sides[0].columns if cell in set(sides[1].columns)]
        names = list(dict.fromkeys(cell[0] for cell in shared))
        chosen = ["all", *names] if level == "cell" and len(names) > 1 else ["all"]
        for model in chosen:
            cells = [cell for cell in shared if model in ("all", cell[0])]
            values = [side.reindex(columns=cells).to_numpy(float) for side in sides]
            values = [v[~np.isnan(v).all(axis=1)] for v in values]
            row = {"level": level, "model": model, "n": len(cells)}
            row |= {"unit": "layer of a model" if level == "cell" else "metamer"}
            row |= {"listeners": len(values[0]), "machines": len(values[1])}
            rows.append(row | _correlations(*values, confidence, resamples, seed))
    return pd.DataFrame(rows, columns=list(AGREEMENT_COLUMNS))


def _correlations(people, machines, confidence, resamples, seed) -> dict[str, Any]:
    """Correlates column means of [listener, cell], with intervals over listeners."""
    if people.shape[1] < 3:
        return {"reason": "fewer than three to correlate"}
    means = [np.nanmean(v, axis=0) for v in (people, machines)]
    if any(np.ptp(m) < 1e-12 for m in means):
        return {"reason": "zero variance"}
    found = dict(zip(("pearson_r", "spearman_r"), _correlate(*means), strict=True))
    found["reason"] = "" if min(len(people), len(machines)) > 1 else "one listener: no interval"
    if resamples and not found["reason"]:
        random = np.random.default_rng(seed)
        drawn = []
        for _ in range(resamples):
            again = [v[random.integers(0, len(v), len(v))] for v in (people, machines)]
            present = ~(np.isnan(again[0]).all(axis=0) | np.isnan(again[1]).all(axis=0))
            again = [np.nanmean(v[:, present], axis=0) for v in again]
            if present.sum() > 2 and all(np.ptp(m) > 1e-12 for m in again):
                drawn.append(_correlate(*again))
        if drawn:
            tails = [(1 - confidence) / 2, (1 + confidence) / 2]
            low, high = np.quantile(np.array(drawn), tails, axis=0)
            found |= {"pearson_low": low[0], "pearson_high": high[0]}
            found |= {"spearman_low": low[1], "spearman_high": high[1]}
    return found


def _correlate(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    def ranks(x):
        return pd.Series(x).rank().to_numpy()

    return float(np.corrcoef(a, b)[0, 1]), float(np.corrcoef(ranks(a), ranks(b))[0, 1])
