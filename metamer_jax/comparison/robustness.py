"""How trained networks stand up to attacks, side by side: run folders to one table.

    opened = [runs.read_run(folder, needs=["networks"]) for folder in folders]
    table = robustness.measure(opened, out, config)      # robustness.csv in `out`

Every network, domain and norm is a part of its own, parts/*.json, so that what is done is not done
again when the work is interrupted or networks are added.
"""

import dataclasses
import functools
import hashlib
import io
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np

from metamer_jax import auditory, cochleagram, configs, data, pipeline, runs, storage
from metamer_jax.configs import RobustnessConfig
from metamer_jax.own_models.saved import SavedModel
from metamer_jax.runtime import progress
from metamer_jax.training import attacks

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "network",
    "recipe",
    "run",
    "domain",
    "norm",
    "epsilon",
    "trained",
    "clips",
    "clean_accuracy",
    "adversarial_accuracy",
    "random_accuracy",
)


@dataclasses.dataclass(frozen=True)
class Part:
    """One network attacked in one domain and norm."""

    run: runs.Run
    network: str
    attack: configs.AdversarialConfig
    epsilons: tuple[float, ...]

    @property
    def name(self) -> str:
        """Of its file: the run's folder may repeat, its path does not."""
        path = str(self.run.folder.resolve()).strip(os.sep).replace(os.sep, "-")
        return f"{path}-{self.network}-{self.attack.domain}-{self.attack.norm}"


def measure(
    opened: Sequence[runs.Run],
    out: str | os.PathLike,
    config: RobustnessConfig,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> "pd.DataFrame":
    """Attacks every network of the runs and leaves robustness.csv in `out`.

    Each norm's epsilons are those of `config` and all that a network of these runs was trained at
    in that domain and norm, so that every network is measured at them.

    Args:
        opened: Runs with trained networks, from `runs.read_run`.
        out: The measurement's own folder, with its settings; picked up where it was left.
        config: How to attack.
        stop: Says whether to end before the next part.

    Returns:
        A row for each network, domain, norm and epsilon, `COLUMNS`. trained: whether the network
        was trained against attacks of that domain, norm and epsilon. Epsilon 0: the clips as they
        are.

    Raises:
        ValueError: `out` was made with other settings.
        SystemExit: `stop` said so; everything done so far is saved.
    """
    import pandas as pd

    parts = _parts(opened, config)
    rows = []
    with (
        runs.open_run(out, config) as home,
        progress.bar(
            sum(len(p.epsilons) * _clips(p, config) for p in parts), "attacking", unit="clip"
        ) as bar,
    ):
        for part in parts:
            path = home.path("parts", f"{part.name}.json")
            wanted = {"epsilons": list(part.epsilons), "trained": _digest(part)}
            found = storage.read_json(path) if storage.is_done(path) else {}
            if {name: found.get(name) for name in wanted} != wanted:
                if stop():
                    raise SystemExit(runs.EXIT_STOPPED)
                found = wanted | {"rows": _attack(part, config, bar.update)}
                storage.write_json(path, found)
            rows += found["rows"]
        table = pd.DataFrame(rows, columns=COLUMNS)
        storage.write_csv(home.path("robustness.csv"), table)
    return table


def draw(table: "pd.DataFrame", out: str | os.PathLike) -> pathlib.Path:
    """Draws robustness.png from what `measure` returned, and returns its path."""
    from metamer_jax import figures

    stream = io.BytesIO()
    figures.accuracy_under_attack(table).savefig(stream, format="png", dpi=130)
    path = pathlib.Path(out) / "robustness.png"
    storage.write_bytes(path, stream.getvalue())
    return path


def _parts(opened, config: RobustnessConfig) -> list[Part]:
    parts = []
    for domain in config.domains:
        for norm in config.norms:
            trained = {
                attack.epsilon
                for attack in (run.config.training.adversarial for run in opened)
                if attack.epsilon and (attack.domain, attack.norm) == (domain, norm)
            }
            epsilons = tuple(sorted({*config.epsilons, *trained}))
            parts += [
                Part(run, network, config.attack(domain, norm), epsilons)
                for run in opened
                for network in run.config.networks
            ]
    return parts


def _digest(part: Part) -> str:
    """Tells one training of a network from another in the same folder."""
    path = part.run.path("networks", part.network, "weights.npz")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@functools.lru_cache(maxsize=1)
def _test_split(settings: configs.DataConfig) -> data.Recordings:
    return data.load(settings).subset("test")


def _clips(part: Part, config: RobustnessConfig) -> int:
    available = len(_test_split(part.run.config.data))
    return available if config.clips is None else min(config.clips, available)


def _attack(part: Part, config: RobustnessConfig, on_batch) -> list[dict]:
    """The rows of one part."""
    run, settings = part.run, part.run.config.cochleagram
    recordings = _test_split(run.config.data)
    order = np.random.default_rng(config.seed).permutation(len(recordings))
    recordings = recordings.select(np.sort(order[: _clips(part, config)]))
    model, variables = pipeline.load_network(run, part.network, len(recordings.words))
    if isinstance(model, SavedModel):
        raise ValueError(
            f"networks must be metamer_jax's own to be attacked, {part.network} of {run.folder} is "
            "another's model"
        )
    filters = auditory.with_filters(variables, model, settings)[auditory.FILTERS]["read"]
    found = attacks.evaluate(
        jax.random.key(config.seed),
        model,
        variables,
        recordings.waveforms,
        recordings.labels,
        part.epsilons,
        config=part.attack,
        feature_fn=jax.tree_util.Partial(
            functools.partial(_cochleagrams, config=settings), filters
        ),
        grid=model.reads(settings.num_channels, settings.num_frames),
        on_batch=on_batch,
    )
    trained = run.config.training.adversarial
    against = not trained.random and (trained.domain, trained.norm) == (
        part.attack.domain,
        part.attack.norm,
    )
    clean = float(found.clean.mean())
    measured = [
        (epsilon, float(attacked.mean()), float(at_random.mean()))
        for epsilon, attacked, at_random in zip(
            found.epsilons.tolist(), found.adversarial, found.random, strict=True
        )
    ]
    return [
        {
            "network": part.network,
            "recipe": run.config.training.recipe,
            "run": run.folder.name,
            "domain": part.attack.domain,
            "norm": part.attack.norm,
            "epsilon": epsilon,
            "trained": against and epsilon > 0 and epsilon == trained.epsilon,
            "clips": len(recordings),
            "clean_accuracy": clean,
            "adversarial_accuracy": attacked,
            "random_accuracy": at_random,
        }
        for epsilon, attacked, at_random in [(0.0, clean, clean), *measured]
    ]


def _cochleagrams(filters, waveforms, *, config):
    return cochleagram.cochleagram(waveforms, filters, config=config)
