"""Who listens: networks trained on the run's recordings, each in a folder of its own."""

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from metamer_jax import auditory, configs, models, pipeline, runs, storage
from metamer_jax.data import Recordings
from metamer_jax.listening.serving import sessions
from metamer_jax.pipeline.hearing import SOURCE
from metamer_jax.runs import manifest, shares

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
    model: auditory.Listener
    variables: Any
    words: tuple[str, ...]  # What it tells apart.


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
        config: Settings of the run whose metamers are listened to.
        count: How many listeners, the run's own networks not counted.
        recipes: Names of `RECIPES`.
        networks: Names of `models.PRESETS`; empty: `DEFAULT_NETWORKS`.
        epochs: At most, in place of the recipes'.

    Returns:
        The listeners, not yet trained.

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
    shard: runs.Shard | None = None,
) -> None:
    """Trains the listeners that are not trained yet, on the run's training split.

    Leaves listeners/<name>/ in the run's folder, each with config.json and
    networks/<network>/{weights.npz, training.jsonl, result.json}.

    Args:
        run: The run whose recordings they learn.
        recordings: Its recordings.
        listeners: Who is trained.
        stop: Says whether to end after an epoch.
        shard: Which of several processes this is: each trains listeners of its own and then waits
            for the others'. None: it is alone.

    Raises:
        ValueError: A folder of that name holds a listener trained otherwise.
        ShareMissingError: Another share makes no progress.
        SystemExit: `stop` said so.
    """
    shard = shard or runs.Shard()
    for number, listener in enumerate(listeners):
        if shard.owns(number):
            folder = run.path("listeners", listener.name)
            with runs.open_run(folder, _settings(run, listener)) as folder:
                pipeline.train_networks(folder, recordings, stop=stop)
    of_others = {n: _trained(run, each) for n, each in enumerate(listeners) if not shard.owns(n)}

    def owed():
        return {
            f"{folder.folder.relative_to(run.folder)}/{name}": number
            for number, folder in of_others.items()
            for name in manifest.networks_of(listeners[number].network)[:2]
            if not folder.manifest.is_sound(name)
        }

    shares.wait(run.folder, shard, owed, stop)


def _trained(run: runs.Run, listener: Listener) -> runs.Run:
    folder = run.path("listeners", listener.name)
    return runs.Run(folder, _settings(run, listener), resumed=True)


def _settings(run: runs.Run, listener: Listener) -> configs.ExperimentConfig:
    return dataclasses.replace(
        run.config,
        networks=(listener.network,),
        weights=None,
        class_names=None,
        training=listener.training,
        seed=listener.seed,
    )


def load_panel(run: runs.Run, listeners: Sequence[Listener]) -> list[Network]:
    """Returns the run's own networks, then the listeners.

    Raises:
        ValueError: One of them has not been trained.
    """
    words = pipeline.recorded_words(run)
    found = [_load(run, name, name, words) for name in run.config.networks]
    for listener in listeners:
        found.append(_load(_trained(run, listener), listener.network, listener.name, words))
    return found


def _load(run, network, name, words):
    model, variables = pipeline.load_network(run, network, len(words))
    return Network(name, model, variables, pipeline.class_names(run, network, words))


def accuracy(run: runs.Run, listeners: Sequence[Listener]) -> pd.DataFrame:
    """Returns what each listener recognises of the recordings held out: listener, test_accuracy."""
    paths = {name: run.path("networks", name, "result.json") for name in run.config.networks}
    for each in listeners:
        folder = run.path("listeners", each.name)
        paths[each.name] = folder / "networks" / each.network / "result.json"
    results = {name: storage.read_json(path) for name, path in paths.items()}
    told = ("network", "epochs", "test_accuracy")
    rows = [(name, *map(result.get, told)) for name, result in results.items()]
    return pd.DataFrame(rows, columns=["listener", *told]).assign(source=SOURCE)
