"""How far answers can be trusted, and predicted: reliability, noise ceiling, error consistency.

A profile is the shares of right answers to what is compared, the cells of model and layer or the
single metamers. Listeners have one each; a group's is the mean of theirs.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

from metamer_jax.analysis import intervals, packages, tables

CELL = ("model", "layer")
_LEVELS = {"cell": ("layer of a model", list(CELL)), "metamer": ("metamer", ["stimulus_id"])}
SPLIT_COLUMNS = (
    *("what", "r", "spearman_brown", "split_low", "split_high", "unit", "n", "listeners"),
    *("splits", "reason"),
)
CEILING_COLUMNS = (
    *("who", "r", "ci_low", "ci_high", "lower", "upper", "share_of_ceiling", "unit", "n"),
    *("listeners", "reason"),
)
MACHINE_COLUMNS = (
    *("level", "r", "ci_low", "ci_high", "reliability_listeners", "reliability_machines"),
    *("r_corrected", "corrected_low", "corrected_high", "unit", "n", "listeners", "machines"),
    "reason",
)
PAIR_COLUMNS = (
    *("observer_a", "observer_b", "kind", "n", "agreement", "expected", "kappa", "ci_low"),
    *("ci_high", "kappa_within", "reason"),
)
CONSISTENCY_COLUMNS = (
    *("kind", "kappa", "ci_low", "ci_high", "kappa_within", "within_low", "within_high"),
    *("agreement", "expected", "unit", "n", "pairs", "reason"),
)
STIMULUS_COLUMNS = (
    *("stimulus_id", "model", "layer", "target_id", "word", "correct", "trials", "proportion"),
    *("wilson_low", "wilson_high", "item_rest_r", "modal_response", "modal_share", "unit", "n"),
    "reason",
)


def profiles(table: pd.DataFrame, level: str = "cell") -> pd.DataFrame:
    """Shares of right answers of each listener.

    Args:
        table: Trials or proportions with participant and correct.
        level: "cell" (needs model and layer) or "metamer" (needs stimulus_id).

    Returns:
        A row per participant, a column per cell or metamer; NaN where there was no trial.

    Raises:
        ValueError: No such level, or a column or value is missing.
    """
    intervals.check_choice(level, "level", tuple(_LEVELS))
    keys = _LEVELS[level][1]
    tables.check_columns(table, ["participant", "correct", *keys])
    values = tables.numbers(table, "correct", share=True)
    table = table.assign(correct=values)
    if level == "metamer":
        table = _of_known_metamers(table)
    return table.pivot_table("correct", "participant", keys, aggfunc="mean", observed=True)


def _of_known_metamers(table: pd.DataFrame) -> pd.DataFrame:
    known = table[table["stimulus_id"].fillna("") != ""]
    if known.empty:
        raise ValueError("the answers do not tell which metamer was heard")
    return known


def _single_trials(table: pd.DataFrame, kinds: Sequence[str] | None) -> pd.DataFrame:
    """The trials of these kinds, with numbers of right answers, of metamers that are known."""
    table = tables.only_kinds(table, kinds)
    tables.check_columns(table, ["participant", "stimulus_id", *CELL, "correct"])
    table = table.assign(correct=tables.numbers(table, "correct"))
    return _of_known_metamers(tables.single_trials(table))


def split_half(
    table: pd.DataFrame,
    *,
    kinds: Sequence[str] | None = ("metamer",),
    splits: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Split-half reliability, stepped up to the whole by Spearman and Brown (1910).

    Of profiles (cells and metamers), listeners are divided at random into halves, whose mean
    profiles are correlated; of listeners' own scores, each one's trials are. r is the mean over
    splits, and 2 r / (1 + r) the reliability of all listeners (trials) together.

    Args:
        table: Trials or proportions.
        kinds: Rows to use of a table with a column `kind`; None for all.
        splits: Random divisions.
        seed: Of the divisions.

    Returns:
        A row for "cells", "metamers" and "listeners": r, spearman_brown, and the range of the
        latter over 95 % of the splits (no interval over listeners); n of `unit`. NaN and a reason
        where undefined.

    Raises:
        ValueError: Naming the argument, column or row at fault.
    """
    intervals.check_count(splits, "splits", 1)
    table = tables.only_kinds(table, kinds)
    rows = []
    for what, level in (("cells", "cell"), ("metamers", "metamer")):
        row: dict[str, Any] = {"what": what, "splits": splits, "unit": _LEVELS[level][0]}
        try:
            values = profiles(table, level).to_numpy(float)
        except ValueError as error:
            rows.append(row | {"reason": str(error)})
            continue
        rng = np.random.default_rng([seed, len(what)])
        r = split_correlations(values, splits, rng)
        row |= {"n": values.shape[1], "listeners": len(values)}
        rows.append(row | _stepped_up(r, "fewer than two listeners" if len(values) < 2 else ""))
    rows.append(_of_listeners(table, splits, seed))
    return pd.DataFrame(rows, columns=list(SPLIT_COLUMNS))


def split_correlations(values: np.ndarray, splits: int, rng: np.random.Generator) -> np.ndarray:
    """Correlations of the mean profiles of random halves.

    Args:
        values: [listener, column], NaN where nothing was heard.
        splits: Divisions.
        rng: Draws them.

    Returns:
        [split]; NaN where fewer than three columns are in both halves or one does not vary.
    """
    n = len(values)
    there = np.isfinite(values)
    filled = np.where(there, values, 0.0)
    first = rng.permuted(np.tile(np.arange(n) < n // 2, (splits, 1)), axis=1)
    halves = []
    for half in (first, ~first):
        counts = half.astype(float) @ there
        with np.errstate(invalid="ignore", divide="ignore"):
            halves.append(np.where(counts > 0, half.astype(float) @ filled / counts, np.nan))
    return row_correlations(*halves)


def row_correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's correlation of rows [row, column] over the columns that both have; [row]."""
    both = np.isfinite(a) & np.isfinite(b)
    count = both.sum(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = []
        for side in (a, b):
            side = np.where(both, side, 0.0)
            side = np.where(both, side - side.sum(axis=-1, keepdims=True) / count, 0.0)
            centred.append(side)
        squares = [(side**2).sum(axis=-1) for side in centred]
        r = (centred[0] * centred[1]).sum(axis=-1) / np.sqrt(squares[0] * squares[1])
    defined = (count[..., 0] > 2) & (np.minimum(*squares) > 1e-20)
    return np.where(defined, r, np.nan)


def _stepped_up(r: np.ndarray, reason: str) -> dict[str, Any]:
    r = r[np.isfinite(r)]
    if reason or not r.size:
        return {"reason": reason or "zero variance, or fewer than three to correlate"}
    mean = float(r.mean())
    # Halves that are each other's mirror image, as two listeners can be: no whole to step up to.
    usable = r[r > -1 + 1e-9]
    if mean <= -1 + 1e-9 or not usable.size:
        return {"r": mean, "reason": "the halves are opposite: no reliability"}
    low, high = np.quantile(2 * usable / (1 + usable), [0.025, 0.975])
    row = {"r": mean, "spearman_brown": 2 * mean / (1 + mean), "split_low": low}
    return row | {"split_high": high, "reason": ""}


def _of_listeners(table: pd.DataFrame, splits: int, seed: int) -> dict[str, Any]:
    """Halves of each listener's trials, within cells where there are several."""
    values = tables.numbers(table, "correct", share=True)
    who, keys = tables.subjects(table, ["participant"])
    row: dict[str, Any] = {"what": "listeners", "splits": splits, "unit": "participant"}
    row |= {"n": len(keys), "listeners": len(keys)}
    if not intervals.is_binary(values):
        return row | {"reason": "the table holds proportions, and this takes single trials"}
    if len(keys) < 3:
        return row | {"reason": "fewer than three listeners"}
    rng = np.random.default_rng([seed, 99])
    cell, _ = tables.subjects(table, [c for c in CELL if c in table.columns] or ["participant"])
    means = np.full((splits, 2, len(keys)), np.nan)
    for s in range(splits):
        # Every other one of a listener's trials in a cell, in random order: equal halves.
        order = np.lexsort((rng.random(len(values)), cell, who))
        half = np.empty(len(values), int)
        half[order] = np.arange(len(values)) % 2
        counts = np.bincount(half * len(keys) + who, minlength=2 * len(keys))
        sums = np.bincount(half * len(keys) + who, weights=values, minlength=2 * len(keys))
        with np.errstate(invalid="ignore", divide="ignore"):
            means[s] = (sums / counts).reshape(2, -1)
    return row | _stepped_up(row_correlations(means[:, 0], means[:, 1]), "")


def noise_ceiling(
    people: pd.DataFrame,
    machines: pd.DataFrame | None = None,
    *,
    level: str = "cell",
    kinds: Sequence[str] | None = ("metamer",),
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """How well anything could predict a listener's profile (Nili et al., 2014).

    Each listener's profile is correlated with the mean of all others' (the lower bound of what a
    perfect model reaches) and with the mean of all (the upper bound). A machine is placed on that
    scale by its profile's mean correlation with the listeners'.

    Args:
        people: Trials or proportions of listeners.
        machines: Those of machines or of the generating networks (`participant` is their name);
            None: the ceiling alone.
        level: "cell" or "metamer".
        kinds: Rows to use of tables with a column `kind`; None for all.
        confidence: Of the BCa intervals over listeners.
        resamples: Bootstrap samples of listeners.
        seed: Of the bootstrap.

    Returns:
        A row "listeners" (r is the lower bound), then one per machine and one for their mean, with
        share_of_ceiling = r / lower. n counts what was correlated. NaN and a reason where
        undefined.

    Raises:
        ValueError: Naming the argument, column or row at fault.
    """
    wide = profiles(tables.only_kinds(people, kinds), level)
    values = wide.to_numpy(float)
    about = {"unit": _LEVELS[level][0], "n": values.shape[1], "listeners": len(values)}
    if len(values) < 2:
        row = {"who": "listeners", **about, "reason": "one listener"}
        return pd.DataFrame([row], columns=list(CEILING_COLUMNS))
    lower = row_correlations(values, means_without_each(values))
    upper = row_correlations(values, np.tile(_mean_profile(values), (len(values), 1)))
    rows: list[dict[str, Any]] = [
        {"who": "listeners", **about, **_over(lower, confidence, resamples, seed)}
    ]
    bounds = {"lower": rows[0].get("r", np.nan), "upper": _nanmean(upper)}
    rows[0] |= bounds
    if machines is not None:
        heard = profiles(tables.only_kinds(machines, kinds), level)
        heard = heard.reindex(columns=wide.columns)
        profiled = {str(name): heard.loc[name].to_numpy(float) for name in heard.index}
        if len(profiled) > 1:
            profiled["mean of machines"] = _mean_profile(heard.to_numpy(float))
        for name, profile in profiled.items():
            r = row_correlations(values, np.tile(profile, (len(values), 1)))
            row: dict[str, Any] = {"who": name, **about, **bounds}
            row |= _over(r, confidence, resamples, seed)
            if np.isfinite(row.get("r", np.nan)) and bounds["lower"] > 0:
                row["share_of_ceiling"] = row["r"] / bounds["lower"]
            rows.append(row)
    return pd.DataFrame(rows, columns=list(CEILING_COLUMNS))


def _mean_profile(values: np.ndarray) -> np.ndarray:
    there = np.isfinite(values)
    counts = there.sum(axis=0)
    sums = np.where(there, values, 0.0).sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def means_without_each(values: np.ndarray) -> np.ndarray:
    """Mean profiles [listener, column] of all listeners but one, of [listener, column]."""
    return np.stack([_mean_profile(np.delete(values, i, axis=0)) for i in range(len(values))])


def _nanmean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else np.nan


def _over(values: np.ndarray, confidence: float, resamples: int, seed: int) -> dict[str, Any]:
    """Mean over listeners with its BCa interval."""
    values = values[np.isfinite(values)]
    if not values.size:
        return {"reason": "zero variance, or fewer than three to correlate"}
    low, high = intervals.bca(values, confidence, resamples, seed)
    return {"r": float(values.mean()), "ci_low": low, "ci_high": high, "reason": ""}


def machine_correlation(
    people: pd.DataFrame,
    machines: pd.DataFrame,
    *,
    kinds: Sequence[str] | None = ("metamer",),
    splits: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Correlation of the recognition of people and of machines, and what noise takes from it.

    r_corrected = r / sqrt(reliability of people's mean profile x that of machines'), Spearman's
    (1904) correction for attenuation with split-half reliabilities stepped up. It may exceed 1. A
    single machine (a network's own answers, without noise) has reliability 1.

    Args:
        people: Trials or proportions of listeners.
        machines: Those of machines; `participant` is their name.
        kinds: Rows to use of tables with a column `kind`; None for all.
        splits: Random halves for each reliability.
        confidence: Of the intervals, by the jackknife over listeners on Fisher's z; those of
            r_corrected take the reliabilities as known.
        seed: Of the splits.

    Returns:
        A row per level ("cell", "metamer"). NaN and a reason where undefined.

    Raises:
        ValueError: Naming the argument, column or row at fault.
    """
    rows = []
    people, machines = (tables.only_kinds(table, kinds) for table in (people, machines))
    for level, (unit, _) in _LEVELS.items():
        row: dict[str, Any] = {"level": level, "unit": unit}
        try:
            wide = [profiles(table, level) for table in (people, machines)]
        except ValueError as error:
            rows.append(row | {"reason": str(error)})
            continue
        shared = [column for column in wide[0].columns if column in set(wide[1].columns)]
        values = [side.reindex(columns=shared).to_numpy(float) for side in wide]
        values = [side[np.isfinite(side).any(axis=1)] for side in values]
        row |= {"n": len(shared), "listeners": len(values[0]), "machines": len(values[1])}
        rows.append(row | _disattenuated(values, splits, confidence, seed))
    return pd.DataFrame(rows, columns=list(MACHINE_COLUMNS))


def _disattenuated(values, splits, confidence, seed) -> dict[str, Any]:
    people, machines = values
    if not len(people) or not len(machines):
        return {"reason": "nothing that both heard"}
    profile = _mean_profile(machines)
    r = float(row_correlations(_mean_profile(people)[None], profile[None])[0])
    if not np.isfinite(r):
        return {"reason": "zero variance, or fewer than three to correlate"}
    row: dict[str, Any] = {"r": r, "reason": "", "reliability_machines": 1.0}
    rng = np.random.default_rng([seed, 5])
    for name, side in (("listeners", people), ("machines", machines)):
        if name == "machines" and len(side) == 1:
            continue
        found = _stepped_up(split_correlations(side, splits, rng), "") if len(side) > 1 else {}
        row[f"reliability_{name}"] = found.get("spearman_brown", np.nan)
    attenuation = row["reliability_listeners"] * row["reliability_machines"]
    factor = 1 / np.sqrt(attenuation) if attenuation > 0 else np.nan
    row["r_corrected"] = r * factor
    if not np.isfinite(factor):
        row["reason"] = "no positive split-half reliability: no correction"
    if len(people) > 2:
        left_out = means_without_each(people)
        others = row_correlations(left_out, np.tile(profile, (len(people), 1)))
        low, high = intervals.jackknife(r, [others], confidence, fisher=True)
        row |= {"ci_low": low, "ci_high": high}
        row |= {"corrected_low": low * factor, "corrected_high": high * factor}
    return row


def error_consistency(
    people: pd.DataFrame,
    machines: pd.DataFrame | None = None,
    *,
    kinds: Sequence[str] | None = ("metamer",),
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Do observers err on the same metamers, beyond what their scores make likely?

    Cohen's kappa of right and wrong (Geirhos, Meding and Wichmann, 2020), by statsmodels'
    `cohens_kappa`: 0 for independent errors, 1 for the same. Layers differ in difficulty for all
    observers, which alone makes errors agree: `kappa_within` takes what is expected from each
    observer's score in each cell of model and layer.

    Args:
        people: Trials with participant, stimulus_id, model, layer and correct.
        machines: The same of machines, or None.
        kinds: Rows to use of tables with a column `kind`; None for all.
        confidence: Of the intervals.
        resamples: Bootstrap samples of listeners.
        seed: Of the bootstrap.

    Returns:
        By kind of pair ("listeners", "listeners and machines", "machines"): the mean of listeners'
        own means over their pairs with its BCa interval over listeners (of machines, over
        machines); n counts these. Then a row per pair, with statsmodels' interval. NaN and a
        reason where undefined.

    Raises:
        ValueError: The table has no single trials, or names no stimuli.
    """
    groups = {"listeners": people} | ({} if machines is None else {"machines": machines})
    answers, group_of = {}, {}
    for group, table in groups.items():
        for name, rows in _single_trials(table, kinds).groupby("participant"):
            label = str(name)
            answers[label] = rows.drop_duplicates("stimulus_id").set_index("stimulus_id")
            group_of[label] = group
    pairs = [
        _pair(a, b, answers[a], answers[b], group_of, confidence)
        for a, b in itertools.combinations(answers, 2)
    ]
    pairs = pd.DataFrame([pair for pair in pairs if pair], columns=list(PAIR_COLUMNS))
    rows = []
    for kind in dict.fromkeys(pairs["kind"]):
        some = pairs[(pairs["kind"] == kind) & pairs["kappa"].notna()]
        own = "machines" if kind == "machines" else "listeners"
        row: dict[str, Any] = {"kind": kind, "unit": "participant", "pairs": len(some)}
        sides = [some.assign(who=some[f"observer_{side}"]) for side in "ab"]
        both = pd.concat(sides)
        both = both[both["who"].map(group_of) == own]
        means = both.groupby("who")[["kappa", "kappa_within", "agreement", "expected"]].mean()
        row["n"] = len(means)
        if means.empty:
            rows.append(row | {"reason": "no pair has a kappa: shared metamers all right or wrong"})
            continue
        row |= means.mean().to_dict() | {"reason": "" if len(means) > 1 else "one listener"}
        for name, low, high in (
            ("kappa", "ci_low", "ci_high"),
            ("kappa_within", "within_low", "within_high"),
        ):
            of = means[name].dropna().to_numpy()
            row[low], row[high] = intervals.bca(of, confidence, resamples, seed)
        rows.append(row)
    return pd.DataFrame(rows, columns=list(CONSISTENCY_COLUMNS)), pairs


def _pair(a, b, one, other, group_of, confidence) -> dict[str, Any] | None:
    """Kappa of two observers on the stimuli that both heard; None without any."""
    inter_rater = packages.load("statsmodels.stats.inter_rater", "error_consistency")
    shared = one.index.intersection(other.index)
    if not len(shared):
        return None
    x, y = one.loc[shared, "correct"].to_numpy(), other.loc[shared, "correct"].to_numpy()
    kinds = {group_of[a], group_of[b]}
    row: dict[str, Any] = {"observer_a": a, "observer_b": b, "n": len(shared), "reason": ""}
    row["kind"] = kinds.pop() if len(kinds) == 1 else "listeners and machines"
    row["agreement"] = float(np.mean(x == y))
    row["expected"] = float(x.mean() * y.mean() + (1 - x.mean()) * (1 - y.mean()))
    cells, _ = tables.subjects(one.loc[shared], CELL)
    counts = np.bincount(cells)
    p, q = (np.bincount(cells, weights=side) / counts for side in (x, y))
    within = float((counts * (p * q + (1 - p) * (1 - q))).sum() / len(shared))
    if within < 1 - 1e-9:
        row["kappa_within"] = (row["agreement"] - within) / (1 - within)
    if row["expected"] > 1 - 1e-9:
        return row | {"reason": "zero variance"}
    counted = np.histogram2d(x, y, bins=(2, 2), range=((0, 1), (0, 1)))[0]
    found = inter_rater.cohens_kappa(counted)
    row["kappa"] = float(found["kappa"])
    # statsmodels gives the ends of a 95 % interval; others follow from its standard error.
    half = scipy.stats.norm.isf((1 - confidence) / 2) * float(found["std_kappa"])
    return row | {"ci_low": row["kappa"] - half, "ci_high": row["kappa"] + half}


def stimuli(
    table: pd.DataFrame,
    *,
    kinds: Sequence[str] | None = ("metamer",),
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Every metamer by itself: how often it was recognised, as what else, and how telling it is.

    Args:
        table: Trials with participant, stimulus_id, model, layer, correct; word, target_id and
            response where there.
        kinds: Rows to use of a table with a column `kind`; None for all.
        confidence: Of the Wilson intervals.

    Returns:
        A row per metamer: item_rest_r, the correlation over listeners of the answer to it with
        their share of right answers to everything else (near 0: it tells nothing of who hears
        well; NaN where all answered alike), the commonest response and its share; n listeners.

    Raises:
        ValueError: The table has no single trials, or names no stimuli.
    """
    intervals.check_share(confidence, "confidence")
    table = _single_trials(table, kinds)
    totals = table.groupby("participant")["correct"].agg(["sum", "size"])
    rows = []
    for stimulus, heard in table.groupby("stimulus_id", sort=False):
        pooled = intervals.proportion(heard["correct"].to_numpy(), None, confidence)
        row: dict[str, Any] = {"stimulus_id": stimulus, "unit": "participant", "reason": ""}
        for name in ("model", "layer", "target_id", "word"):
            row[name] = heard[name].iloc[0] if name in heard else ""
        row |= {"correct": pooled.correct, "trials": pooled.trials, "proportion": pooled.proportion}
        row |= {"wilson_low": pooled.low, "wilson_high": pooled.high}
        own = heard.groupby("participant")["correct"].agg(["sum", "size"])
        row["n"] = len(own)
        all_of = totals.loc[own.index]
        with np.errstate(invalid="ignore", divide="ignore"):
            rest = (all_of["sum"] - own["sum"]) / (all_of["size"] - own["size"])
        share = (own["sum"] / own["size"]).to_numpy(float)
        row["item_rest_r"] = float(row_correlations(share[None], rest.to_numpy(float)[None])[0])
        if np.isnan(row["item_rest_r"]):
            row["reason"] = "fewer than three listeners" if len(own) < 3 else "zero variance"
        if "response" in heard:
            answered = heard["response"].fillna("").replace("", "(none)").value_counts()
            row |= {"modal_response": answered.index[0]}
            row["modal_share"] = answered.iloc[0] / answered.sum()
        rows.append(row)
    return pd.DataFrame(rows, columns=list(STIMULUS_COLUMNS))
