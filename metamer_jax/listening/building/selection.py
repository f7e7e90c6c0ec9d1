"""Which metamers an experiment plays: those that may be played, laid out by the design."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pandas as pd

from metamer_jax import analysis
from metamer_jax.listening.building import design
from metamer_jax.listening.building.material import Material
from metamer_jax.listening.config import ListeningConfig


@dataclasses.dataclass(frozen=True, eq=False)
class Choice:
    """What the plan's numbers stand for."""

    combinations: list[tuple[str, str]]  # (model, layer).
    words: list[str]
    target_ids: list[list[int]]  # [word][target], in the plan's order of targets.
    row: np.ndarray  # [presentation] row of the material's metamers; -1: a hole.
    planned: np.ndarray  # [presentation] the target that the design asked for.
    targets_per_word: int
    failed: list[dict[str, Any]]  # Metamers left out, with their reasons.


def choose(material: Material, config: ListeningConfig) -> tuple[design.Plan, Choice]:
    """Lays out the metamers that may be played.

    Returns:
        The plan, holes filled as far as they can be, and what its numbers stand for.

    Raises:
        ValueError: None may be played.
    """
    table = material.metamers
    if not len(table):
        raise ValueError("the material must hold metamers, got none: see networks, stages, words")
    combinations = list(dict.fromkeys(zip(table["model"], table["layer"], strict=True)))
    words = [word for word in material.words if (table["word"] == word).any()]
    target_ids = [sorted(set(table.loc[table["word"] == word, "target_id"])) for word in words]
    passed = (table["verdict"] == "pass").to_numpy() | (config.verified == "any")
    correct = table["target_correct"].astype(bool).groupby(table["target_id"]).transform("all")
    correct = correct.to_numpy() | (not config.require_correct)
    shape = (len(combinations), len(words), max(map(len, target_ids)))
    row = np.full(shape, -1)
    places = zip(table["model"], table["layer"], table["word"], table["target_id"], strict=True)
    for i, (model, layer, word, target_id) in enumerate(places):
        w = words.index(word)
        place = combinations.index((model, layer)), w, target_ids[w].index(target_id)
        # Of several seeds, the first whose metamer passed.
        if row[place] < 0 and passed[i] and correct[i]:
            row[place] = i
    usable = row >= 0
    if not usable.any():
        raise ValueError(
            f"no metamer may be played: of {len(table)}, {int(passed.sum())} have the verdicts "
            f"that verified={config.verified!r} asks for, and {int(correct.sum())} are of "
            f"targets that every network classifies correctly "
            f"(require_correct={config.require_correct})"
        )
    if config.design == "shuffle":
        plan = design.shuffle(usable, config.conditions, seed=config.seed)
        planned, per_word = plan.target, int(usable.any(axis=0).sum(axis=-1).max())
    else:
        ranked = design.choose_targets(usable, config.targets_per_word, config.seed)
        per_word = design.num_targets(usable, config.targets_per_word)
        row = np.take_along_axis(row, np.broadcast_to(np.maximum(ranked, 0), shape), axis=2)
        usable = (row >= 0) & (ranked >= 0)
        target_ids = [
            [target_ids[w][t] if t >= 0 else -1 for t in order] for w, order in enumerate(ranked)
        ]
        plan = design.latin(
            len(combinations), len(words), per_word, config.conditions, seed=config.seed
        )
        plan, planned = design.fill(plan, usable, per_word)
    found = plan.target >= 0
    rows = np.where(found, row[plan.combination, plan.word, np.maximum(plan.target, 0)], -1)
    return plan, Choice(
        combinations,
        words,
        target_ids,
        rows,
        planned,
        per_word,
        _left_out(table, passed, correct),
    )


def _left_out(table: pd.DataFrame, passed: np.ndarray, correct: np.ndarray) -> list[dict[str, Any]]:
    found = []
    for i in np.flatnonzero(~(passed & correct)):
        row = table.iloc[i]
        reasons = []
        if not correct[i]:
            reasons.append("target not classified correctly by every network")
        if not passed[i]:
            reasons.append(row["reason"] or "failed")
        identity = ("model", "layer", "word", "target_id", "metamer_seed")
        found.append({**{k: row[k] for k in identity}, "reason": "; ".join(reasons)})
    return found


def _thin(heard: pd.DataFrame, combinations: list[tuple[str, str]]) -> list[str]:
    """Warns where a listener hears fewer metamers than there are cells, with the power left.

    Args:
        heard: Rows of the manifest, metamers alone.
        combinations: (model, layer), the cells.

    Returns:
        Sentences, none where every listener hears as many metamers as there are cells.
    """
    trials = heard.groupby("condition").size()
    if not len(trials) or trials.min() >= len(combinations):
        return []
    counts = heard.groupby(["condition", "layer", "model"]).size().unstack(fill_value=0)
    models = counts.shape[1]
    if models < 2:
        return [
            f"a listener hears {trials.min()} metamers of {len(combinations)} layers: not every "
            "listener hears every layer"
        ]
    # Over conditions, layers and pairs of networks: who heard both, and how many of each.
    pairs = [
        np.minimum(counts.iloc[:, i], counts.iloc[:, j])
        for i, j in itertools.combinations(range(models), 2)
    ]
    both = np.concatenate(pairs)
    layers = heard["layer"].nunique()
    share = float((both > 0).sum() / (len(trials) * layers * len(pairs)))
    hears = (
        f"a listener hears {trials.min()} metamers of {len(combinations)} combinations of network "
        "and layer"
    )
    remedy = "; more words or targets_per_word, or fewer networks and stages, make it larger"
    if not share:
        return [
            f"{hears}, and never of two networks at the same layer: a paired test there is not "
            f"possible, its power is 0{remedy}"
        ]
    each = max(1, int(np.median(both[both > 0])))
    found = []
    for listeners in (20, 50):
        paired = round(listeners * share)
        power = analysis.power(paired, trials=each).loc[0, "power"] if paired > 1 else 0.0
        found.append(f"{power:.2f} with {listeners} listeners")
    return [
        f"{hears}; {share:.0%} of listeners hear two networks at the same layer, {each} of each. "
        f"The power of a paired test there, for a difference as the paper's at its dense layer "
        f"(.32 against .54), is {' and '.join(found)}{remedy}"
    ]


def account(
    plan: design.Plan,
    choice: Choice,
    material: Material,
    config: ListeningConfig,
    manifest: pd.DataFrame,
) -> dict[str, Any]:
    """Says what the design came to: sizes, holes, replacements, failures that are played."""
    holes, replaced = [], []
    for i in np.flatnonzero((plan.target != choice.planned) | (plan.target < 0)):
        model, layer = choice.combinations[plan.combination[i]]
        about = {"condition": int(plan.condition[i]) + 1, "model": model, "layer": layer}
        if plan.word[i] >= 0:
            ids = choice.target_ids[plan.word[i]]
            about["word"] = choice.words[plan.word[i]]
            wanted = choice.planned[i]
            about["planned_target_id"] = int(ids[wanted]) if 0 <= wanted < len(ids) else -1
        if plan.target[i] < 0:
            holes.append(about)
        else:
            played_instead = choice.target_ids[plan.word[i]][plan.target[i]]
            replaced.append({**about, "target_id": int(played_instead)})
    played = manifest[manifest["kind"] == "metamer"].drop_duplicates(
        ["model", "layer", "target_id", "metamer_seed"]
    )
    failed = played[played["verdict"] != "pass"]
    available = [sum(t >= 0 for t in ids) for ids in choice.target_ids]
    warnings = _thin(manifest[manifest["kind"] == "metamer"], choice.combinations)
    if holes:
        warnings.append(
            f"{len(holes)} presentations have no metamer that may be played and were left out "
            f"(holes): the design is that much less balanced"
        )
    if len(failed):
        warnings.append(
            f"{len(failed)} of the {len(played)} metamers that are played failed verification "
            f"(verified={config.verified!r} lets them in)"
        )
    if (
        config.design == "latin"
        and config.targets_per_word is None
        and min(available) < max(available)
    ):
        fewest = choice.words[int(np.argmin(available))]
        warnings.append(
            f"targets of each word that are used: {choice.targets_per_word}, as {fewest!r} has "
            f"{min(available)} that may be played and others up to {max(available)}; "
            f"targets_per_word sets another number, at the price of holes"
        )
    level_db = material.playback.level_db
    # rms is of what is played: rounding to 16 bits changes it by far less than 0.01 dB.
    sounds = manifest.drop_duplicates("stimulus_id")
    quieter = int((20 * np.log10(sounds["rms"]) < level_db - 0.01).sum())
    if quieter:
        warnings.append(
            f"{quieter} sounds are played at less than {level_db:.1f} dB re full scale, each "
            "at the highest level at which its own peak is not clipped"
        )
    if not config.consent_html:
        warnings.append(
            "the first screen has a general text: give your own information and consent text "
            "(--consent, or consent_html) before you invite anybody"
        )
    return {
        "design": config.design,
        "models": list(dict.fromkeys(model for model, _ in choice.combinations)),
        "layers": list(dict.fromkeys(layer for _, layer in choice.combinations)),
        "combinations": [list(pair) for pair in choice.combinations],
        "played_words": choice.words,
        "targets_per_word": choice.targets_per_word,
        "targets": {
            word: [int(t) for t in ids if t >= 0]
            for word, ids in zip(choice.words, choice.target_ids, strict=True)
        },
        "metamers_played": len(played),
        "metamers_available": len(material.metamers),
        "failed_metamers_played": len(failed),
        "holes": holes,
        "replacements": replaced,
        "left_out": choice.failed,
        "warnings": warnings,
    }
