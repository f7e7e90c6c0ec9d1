"""Is one model's metamers recognised better than another's, layer by layer?"""

import itertools
import warnings
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

from metamer_jax.analysis import intervals, tables

METHODS = ("listener", "paper")
UNITS = ("participant", "session", "condition")
MISSING = ("error", "drop")
_SIDE = ("correct", "trials", "proportion", "wilson_low", "wilson_high", "p_chance")
COLUMNS = (
    *("layer", "method", "model_a", "model_b", "unit", "n", "difference", "ci_low", "ci_high"),
    *("statistic", "df", "p", "p_holm", "holm_tests", "p_permutation", "permutations", "dz"),
    *(f"{name}_a" for name in _SIDE),
    *(f"{name}_b" for name in _SIDE),
    *("proportion_unit", "chance", "reason"),
)


def compare_models(
    table: pd.DataFrame,
    method: str = "listener",
    *,
    models: Sequence[Hashable] | None = None,
    unit: str = "participant",
    missing: str = "error",
    kinds: Sequence[str] | None = ("metamer",),
    chance: float = 1 / 8,
    confidence: float = 0.95,
    permutations: int = 10_000,
    resamples: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compares the recognition of models' metamers at each layer and over all layers.

    `method="listener"`: each listener's share of right answers, paired t over listeners with the
    sign-flip permutation beside it, effect size dz (mean / SD of the differences), BCa interval of
    the mean difference. A listener's "all" is the mean over layers.

    `method="paper"`: Student's two-sample t over single 0/1 trials, as the paper did. Its p values
    take trials of one listener, and of one recording, as independent.

    Both correct p by Holm over the layers (of all pairs of models) at which it is defined; "all" is
    a test of its own. Wilson intervals and binomial tests (two-sided) pool trials.

    Args:
        table: A row per trial with participant, model, layer, correct (0 or 1); or, for
            `method="listener"`, a row per participant and cell with a proportion. layer_index,
            where there, gives the order of layers; `kind` is used as said below.
        method: "listener" or "paper".
        models: Those to compare, in this order: differences are later minus earlier. All pairs
            where there are more than two. None takes the models in ascending order.
        unit: What counts as a listener: "participant" averages all trials of one participant
            first, over conditions and sessions; "condition" and "session" count each as its own,
            and warn where one participant gave several.
        missing: What to do with a listener who lacks a cell: "error", or "drop" from that layer.
        kinds: Rows to use of a table with a column `kind`; None for all.
        chance: Probability of a right answer by guessing.
        confidence: Of all intervals.
        permutations: Draws of signs; all patterns are counted where there are no more than that.
        resamples: Bootstrap samples.
        seed: Of permutations and bootstrap.

    Returns:
        A row per pair of models and layer, then one with layer "all", in columns `COLUMNS`. An
        undefined number is NaN and `reason` says why. `n` counts `unit`.

    Raises:
        ValueError: Naming the argument, or the column and row, at fault.
    """
    for argument, value, options in (
        ("method", method, METHODS),
        ("unit", unit, UNITS),
        ("missing", missing, MISSING),
    ):
        if value not in options:
            raise ValueError(f"{argument}: expected one of {options}, got {value!r}.")
    intervals.check_share(chance, "chance")
    intervals.check_share(confidence, "confidence")
    intervals.check_count(permutations, "permutations", 0)
    intervals.check_count(resamples, "resamples", 0)
    listener_columns = ["participant"] + ([unit] if unit != "participant" else [])
    tables.check_columns(table, [*listener_columns, "model", "layer", "correct"])
    table = tables.only_kinds(table, kinds)
    model_codes, present = tables.levels(table["model"])
    models = _models(models, present)
    chosen = np.isin(model_codes, [present.index(model) for model in models])
    table = table[chosen]
    values = tables.numbers(table, "correct", share=True)
    if method == "paper":
        bad = ~np.isin(values, (0, 1))
        tables.reject_rows(table["correct"], bad, "0 or 1, as method 'paper' takes single trials")
    layer_codes, layers = tables.layer_levels(table)
    if "all" in layers:
        raise ValueError("column 'layer': 'all' is the name of the row over all layers.")
    side = [values[model_codes[chosen] == present.index(model)] for model in models]
    side_layer = [layer_codes[model_codes[chosen] == present.index(model)] for model in models]
    if method == "listener":
        codes = model_codes[chosen]
        cells, unit_name = _listener_cells(
            table, values, codes, layer_codes, layers, models, present, listener_columns, missing
        )
    rows = []
    for a, b in itertools.combinations(range(len(models)), 2):
        for i, layer in enumerate([*layers, "all"]):
            pick = [side[m][side_layer[m] == i] if layer != "all" else side[m] for m in (a, b)]
            row: dict[str, Any] = {"layer": layer, "model_a": models[a], "model_b": models[b]}
            row |= _sides(pick, chance, confidence)
            if method == "paper":
                row |= {"unit": "trial", "n": sum(map(len, pick))} | _two_sample(*pick)
            else:
                pair = cells[:, :, [a, b]]
                pair = pair[:, i] if layer != "all" else pair.mean(axis=1)
                row |= {"unit": unit_name} | _paired(
                    pair, confidence, permutations, resamples, seed
                )
            rows.append(row | {"method": method, "chance": chance})
    result = pd.DataFrame(rows, columns=list(COLUMNS))
    tested = (result["layer"] != "all") & result["p"].notna()
    result["p_holm"] = intervals.holm(result["p"].where(tested).to_numpy(float))
    result["holm_tests"] = int(tested.sum())
    return result


def _models(models, present) -> list:
    if models is None:
        models = present
    elif isinstance(models, str):
        raise ValueError(f"models: expected two or more names, got {models!r}.")
    models = list(models)
    if len(models) < 2 or len(set(models)) < len(models):
        raise ValueError(f"models: expected two or more different models, got {models}.")
    for model in models:
        if model not in present:
            raise ValueError(f"models: no row has model {model!r}; found {tables.brief(present)}.")
    return models


def listener_units(
    table: pd.DataFrame, columns: Sequence[str], *, stacklevel: int = 3
) -> tuple[np.ndarray, list[tuple], str]:
    """Numbers the listeners; warns where one participant counts as several of them.

    Returns:
        codes: [row] int.
        keys: [listener] tuples of labels.
        name: Of the unit, such as "participant" or "participant x condition".
    """
    codes, keys = tables.subjects(table, columns)
    people = {key[0] for key in keys}
    if len(people) < len(keys):
        warnings.warn(
            f"{len(keys)} units of {' x '.join(columns)} come from {len(people)} participants: "
            "answers of one person are not independent, and p values will be too small.",
            stacklevel=stacklevel,
        )
    return codes, keys, " x ".join(columns)


def _listener_cells(
    table, values, model_codes, layer_codes, layers, models, present, columns, missing
) -> tuple[np.ndarray, str]:
    """Shares of right answers [listener, layer, model], NaN where a listener lacks a cell."""
    who, keys, name = listener_units(table, columns, stacklevel=4)
    rank = {present.index(model): i for i, model in enumerate(models)}
    cell = layer_codes * len(models) + np.array([rank[code] for code in model_codes])
    means, _ = tables.cell_means(values, who, cell, (len(keys), len(layers) * len(models)))
    means = means.reshape(len(keys), len(layers), len(models))
    if missing == "error" and np.isnan(means).any():
        i, j, k = np.argwhere(np.isnan(means))[0]
        raise ValueError(
            f"table: listener ({tables.describe(columns, keys[i])}) has no trial with layer "
            f"{layers[j]!r}, model {models[k]!r}; {int(np.isnan(means).sum())} cells are missing. "
            "missing='drop' leaves such listeners out of that layer."
        )
    return means, name


def _sides(pick, chance, confidence) -> dict[str, Any]:
    """Pooled proportions of the two models."""
    row: dict[str, Any] = {}
    for suffix, values in zip("ab", pick, strict=True):
        row |= {
            f"{name}_{suffix}": value
            for name, value in zip(
                _SIDE, intervals.proportion(values, chance, confidence), strict=True
            )
        }
    shares = not intervals.is_binary(np.concatenate(pick))
    return row | {"proportion_unit": "proportion given" if shares else "trial"}


def _two_sample(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    """Student's t of trials [trial] of two models, with the reason where it is undefined."""
    row = {"df": len(a) + len(b) - 2, "reason": "", "permutations": 0}
    if not len(a) or not len(b):
        return row | {"df": np.nan, "reason": f"no trials of model_{'b' if len(a) else 'a'}"}
    row["difference"] = b.mean() - a.mean()
    if len(a) + len(b) < 3:
        return row | {"reason": "one trial per model"}
    if np.ptp(a) == 0 and np.ptp(b) == 0:
        return row | {"reason": "zero variance"}
    test = scipy.stats.ttest_ind(b, a)
    return row | {"statistic": float(test.statistic), "p": float(test.pvalue)}


def _paired(pair, confidence, permutations, resamples, seed) -> dict[str, Any]:
    """Paired t and its companions of shares [listener, model]."""
    pair = pair[~np.isnan(pair).any(axis=1)]
    n = len(pair)
    row: dict[str, Any] = {"n": n, "df": n - 1, "reason": "", "permutations": 0}
    if n == 0:
        return row | {"df": np.nan, "reason": "no listener heard both models"}
    differences = pair[:, 1] - pair[:, 0]
    row["difference"] = differences.mean()
    if n == 1:
        return row | {"reason": "one listener"}
    row["p_permutation"], row["permutations"] = intervals.sign_flip(differences, permutations, seed)
    # Shares such as 1/3 leave rounding errors in differences that are equal.
    if np.ptp(differences) < 1e-12:
        return row | {"reason": "zero variance"}
    row["ci_low"], row["ci_high"] = intervals.bca(differences, confidence, resamples, seed)
    row["dz"] = differences.mean() / differences.std(ddof=1)
    row["statistic"] = row["dz"] * np.sqrt(n)
    row["p"] = float(2 * scipy.stats.t.sf(abs(row["statistic"]), n - 1))
    return row
