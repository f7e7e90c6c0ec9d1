"""What a comparison's run folders hold: answers as one array, and tables."""

import functools
import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd

from metamer_jax import models, pipeline, storage
from metamer_jax.comparison import runner, saved
from metamer_jax.comparison.entries import SavedEntry
from metamer_jax.comparison.runner import ComparisonFolder, Member
from metamer_jax.own_models.saved import SavedModel
from metamer_jax.pipeline import train


class Answers(NamedTuple):
    """What every network heard of every network's metamers.

    Attributes:
        scorers: The networks that listened.
        makers: Those whose metamers they heard.
        stages: Stages that the metamers match, in processing order, of all makers together.
        words: What the classes are called.
        target_ids: [target].
        labels: [target] int, the word spoken.
        heard: [scorer, maker, stage, target, synthesis seed] int: the word, one more than there
            are for a class that is none of them, -1 where it has not been asked, and where the
            maker has no such stage.
        natural: [scorer, target] int, the word heard in the target itself.
        passed: [maker, stage, target, synthesis seed], whether the metamer was verified; NaN where
            that was not asked, or there is no such stage.
    """

    scorers: tuple[Member, ...]
    makers: tuple[Member, ...]
    stages: tuple[str, ...]
    words: tuple[str, ...]
    target_ids: np.ndarray
    labels: np.ndarray
    heard: np.ndarray
    natural: np.ndarray
    passed: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """[scorer, maker, stage, target]: share of the metamers heard as the word spoken."""
        right = (self.heard == self.labels[:, None]).astype(float)
        return np.where(self.heard < 0, np.nan, right).mean(axis=-1)

    @property
    def natural_correct(self) -> np.ndarray:
        """[scorer, target]: 1 where the target itself is heard as the word spoken."""
        return (self.natural == self.labels).astype(float)

    @property
    def chance(self) -> float:
        """Share of right answers by guessing."""
        return 1 / len(self.words)


def read_answers(home: ComparisonFolder) -> Answers:
    """Collects the cross-tests that there are.

    Returns:
        What every network heard in every other's metamers, and in the targets.

    Raises:
        ValueError: There are none yet.
    """
    path = home.path("cross_test", f"{runner.NATURAL}.npz")
    if not storage.is_done(path):
        raise ValueError(f"{path} is not there: no metamers have been cross-tested yet")
    natural = storage.read_npz(path)
    scorers = tuple(m for m in home.members if m.name in natural)
    found = {}
    for member in home.members:
        path = home.path("cross_test", f"{member.name}.npz")
        if storage.is_done(path):
            found[member] = storage.read_npz(path)
    if not found:
        raise ValueError(f"no metamers have been cross-tested yet in {home.folder}")
    stages = tuple(dict.fromkeys(stage for maker in found for stage in home.stages(maker)))
    seeds = len(home.settings(next(iter(found))).synthesis.seeds)
    shape = len(stages), len(natural["target_id"]), seeds
    targets = home.targets()
    assert targets is not None  # Else nothing could have been cross-tested.

    def on_all_stages(maker, values, missing):
        """[stage, target, synthesis seed] of a maker's own stages."""
        whole = np.full(shape, missing)
        if values is not None:
            whole[[stages.index(stage) for stage in home.stages(maker)]] = values
        return whole

    heard = [[on_all_stages(k, each.get(m.name), -1) for k, each in found.items()] for m in scorers]
    return Answers(
        scorers=scorers,
        makers=tuple(found),
        stages=stages,
        words=home.words,
        target_ids=natural["target_id"],
        labels=natural["label"],
        heard=np.array(heard),
        natural=np.stack([natural[m.name] for m in scorers]),
        passed=np.stack([on_all_stages(k, _passed(home, k, targets), np.nan) for k in found]),
    )


def _passed(home, member, targets):
    """[stage, target, synthesis seed] from verification/metamers.csv, None without."""
    if not home.is_done(runner.VERIFY, member):
        return None
    target_ids, waveforms, _ = targets
    if isinstance(member.entry, SavedEntry):
        target_ids = saved.target_ids(member.entry, waveforms)
    table = _verified(home, member).set_index(["stage", "target_id", "seed"])["verdict"] == "pass"
    stages, seeds = home.stages(member), home.settings(member).synthesis.seeds
    order = [(stage, target, seed) for stage in stages for target in target_ids for seed in seeds]
    return table.loc[order].to_numpy(float).reshape(len(stages), len(target_ids), len(seeds))


def _verified(home, member):
    table = pipeline.read_verified(home.read(member))
    return table[table["network"] == member.entry.network]


def recognition(answers: Answers) -> pd.DataFrame:
    """A row per scorer, maker, stage, target and synthesis seed: what was heard."""
    heard = answers.heard
    s, m, stage, t, seed = (index.ravel() for index in np.indices(heard.shape))
    words = np.array([*answers.words, "another class", ""], dtype=object)
    passed = answers.passed[m, stage, t, seed]

    def column(members, which, name):
        values = [getattr(x, name) if name == "seed" else x.entry.label for x in members]
        return np.array(values, dtype=object)[which]

    table = pd.DataFrame(
        {
            "scorer": column(answers.scorers, s, "entry"),
            "scorer_seed": column(answers.scorers, s, "seed"),
            "maker": column(answers.makers, m, "entry"),
            "maker_seed": column(answers.makers, m, "seed"),
            "stage": np.array(answers.stages, dtype=object)[stage],
            "stage_index": stage,
            "target_id": answers.target_ids[t],
            "synthesis_seed": seed,
            "word": words[answers.labels[t]],
            "heard": words[heard.ravel()],
            "correct": heard.ravel() == answers.labels[t],
            "verified": np.where(np.isnan(passed), "", np.where(passed == 1, "pass", "fail")),
        }
    )
    return table[heard.ravel() >= 0].reset_index(drop=True)


def accuracy(home: ComparisonFolder) -> pd.DataFrame:
    """A row per trained network: accuracies, parameters, and the size of every stage."""
    rows = []
    for member in home.members:
        if not home.is_done(runner.TRAIN, member):
            continue
        network, run = member.entry.network, home.read(member)
        result = storage.read_json(run.path("networks", network, "result.json"))
        keys = ("parameters", "test_accuracy", "validation_accuracy", "epochs", "seconds")
        model = train.build_network(run, network, len(result["words"]))
        if isinstance(model, SavedModel):
            sizes = model.stage_sizes
        else:
            sizes = stage_sizes(network, len(result["words"]), run.config.cochleagram)
        rows.append(
            {
                "entry": member.entry.label,
                "seed": member.seed,
                "connection": member.entry.connection,
            }
            | {key: result.get(key, math.nan) for key in keys}
            | {f"{stage}_size": size for stage, size in sizes.items()}
        )
    return pd.DataFrame(rows)


@functools.lru_cache(maxsize=64)
def stage_sizes(network: str, num_words: int, config) -> Mapping[str, int]:
    """Number of features of every stage of a network."""
    model = models.build_model(network, num_words)
    shape = jax.ShapeDtypeStruct((1, config.num_channels, config.num_frames), np.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), shape)
    _, stages = jax.eval_shape(model.apply, variables, shape)
    return {name: math.prod(stage.shape) for name, stage in stages.items()}


def verification(home: ComparisonFolder) -> pd.DataFrame:
    """The tables verification/metamers.csv of all runs, with columns entry and network_seed."""
    tables = [
        _verified(home, m).assign(entry=m.entry.label, network_seed=m.seed)
        for m in home.members
        if home.is_done(runner.VERIFY, m)
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
