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
POOLED = ("correct", "trials", "proportion", "wilson_low", "wilson_high", "p_chance")
COLUMNS = (
    *("layer", "method", "model_a", "model_b", "layer_a", "layer_b", "pairing"),
    *("unit", "n", "difference", "ci_low", "ci_high"),
    *("statistic", "df", "p", "p_holm", "holm_tests", "p_permutation", "permutations", "dz", "sd"),
    *(f"{name}_a" for name in POOLED),
    *(f"{name}_b" for name in POOLED),
    *("proportion_unit", "chance", "reason"),
)


def compare_models(
    table: pd.DataFrame,
    method: str = "listener",
    *,
    models: Sequence[Hashable] | None = None,
    pairing: tables.Pairing = "name",
    unit: str = "participant",
    missing: str = "error",
    kinds: Sequence[str] | None = ("metamer",),
    chance: float | None = None,
    confidence: float = 0.95,
    permutations: int = 10_000,
    resamples: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compares the recognition of models' metamers at each layer and over all layers.

    `method="listener"`: each listener's share of right answers, paired t over listeners with the
    sign-flip permutation beside it, effect size dz (mean / SD of the differences), BCa interval of
    the mean difference. A listener's "all" is the mean over the layers that the two models share.

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
        pairing: Which layers of two models are compared: those of the same "name", of the same
            "index" (column layer_index), or those that a mapping names: `tables.pair_layers`.
        unit: What counts as a listener: "participant" averages all trials of one participant
            first, over conditions and sessions; "condition" and "session" count each as its own,
            and warn where one participant gave several.
        missing: What to do with a listener who lacks a cell that others have: "error", or "drop"
            from that layer. A layer that a model does not have is a row with that reason.
        kinds: Rows to use of a table with a column `kind`; None for all.
        chance: Probability of a right answer by guessing, for the binomial tests; None: no tests.
        confidence: Of all intervals.
        permutations: Draws of signs; all patterns are counted where there are no more than that.
        resamples: Bootstrap samples.
        seed: Of permutations and bootstrap.

    Returns:
        A row per pair of models and layer that either has, then one with layer "all", in columns
        `COLUMNS`; `pairing` says how layers met, `layer_a` and `layer_b` their own names. An
        undefined number is NaN and `reason` says why. `n` counts `unit`.

    Raises:
        ValueError: Naming the argument, or the column and row, at fault.
    """
    intervals.check_choice(method, "method", METHODS)
    intervals.check_choice(unit, "unit", UNITS)
    intervals.check_choice(missing, "missing", MISSING)
    if chance is not None:
        intervals.check_share(chance, "chance")
    intervals.check_share(confidence, "confidence")
    intervals.check_count(permutations, "permutations", 0)
    intervals.check_count(resamples, "resamples", 0)
    tables.check_columns(table, [*listener_columns(unit), "model", "layer", "correct"])
    table = tables.only_kinds(table, kinds)
    model_codes, present = tables.levels(table["model"])
    models = _models(models, present)
    table = table[np.isin(model_codes, [present.index(model) for model in models])]
    table = tables.pair_layers(table, pairing, models)
    values = tables.numbers(table, "correct", share=True)
    if method == "paper":
        bad = ~np.isin(values, (0, 1))
        tables.reject_rows(table["correct"], bad, "0 or 1, as method 'paper' takes single trials")
    layer_codes, layers = tables.layer_levels(table)
    if "all" in layers:
        raise ValueError("column 'layer': 'all' is the name of the row over all layers.")
    rank = {model: i for i, model in enumerate(models)}
    model_codes = np.array([rank[model] for model in table["model"]])
    own = _own_names(table, model_codes, layer_codes)
    cells, unit_name = np.empty((0, len(layers), len(models))), "trial"
    if method == "listener":
        cells, unit_name = _listener_cells(
            table, values, model_codes, layer_codes, layers, models, unit, missing, own
        )
    rows = []
    for a, b in itertools.combinations(range(len(models)), 2):
        shared = [i for i in range(len(layers)) if (i, a) in own and (i, b) in own]
        either = [i for i in range(len(layers)) if (i, a) in own or (i, b) in own]
        for i in [*either, None]:
            used = shared if i is None else [i]
            inside = np.isin(layer_codes, used)
            pick = [values[inside & (model_codes == m)] for m in (a, b)]
            row: dict[str, Any] = {"layer": "all" if i is None else layers[i]}
            row |= {"model_a": models[a], "model_b": models[b]}
            row |= {"pairing": pairing if isinstance(pairing, str) else "table"}
            for side, model in (("layer_a", a), ("layer_b", b)):
                row[side] = "" if i is None else own.get((i, model), "")
            row |= _sides(pick, chance, confidence) | {"unit": unit_name}
            if not used:
                row |= {"n": 0, "permutations": 0}
                row["reason"] = f"the models share no layer (paired by {row['pairing']})"
            elif method == "paper":
                row |= {"n": sum(map(len, pick))} | _two_sample(*pick)
            else:
                pair = cells[:, used][:, :, [a, b]]
                row |= _paired(pair, confidence, permutations, resamples, seed)
            rows.append(row | {"method": method, "chance": np.nan if chance is None else chance})
    result = pd.DataFrame(rows, columns=list(COLUMNS))
    tested = (result["layer"] != "all") & result["p"].notna()
    result["p_holm"] = intervals.correct(result["p"].where(tested).to_numpy(float))
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


def listener_columns(unit: str) -> list[str]:
    """Columns that name a listener: the participant's and, if it is another, the unit's."""
    return list(dict.fromkeys(("participant", unit)))


def listener_units(
    table: pd.DataFrame, unit: str, *, stacklevel: int = 3
) -> tuple[np.ndarray, list[tuple], str]:
    """Numbers the listeners; warns where one participant counts as several of them.

    Returns:
        codes: [row] int.
        keys: [listener] tuples of labels.
        name: Of the unit, such as "participant" or "participant x condition".
    """
    columns = listener_columns(unit)
    codes, keys = tables.subjects(table, columns)
    people = {key[0] for key in keys}
    if len(people) < len(keys):
        warnings.warn(
            f"{len(keys)} units of {' x '.join(columns)} come from {len(people)} participants: "
            "answers of one person are not independent, and p values will be too small.",
            stacklevel=stacklevel,
        )
    return codes, keys, " x ".join(columns)


def _own_names(table, model_codes, layer_codes) -> dict[tuple[int, int], Hashable]:
    """(layer, model), as numbers, to the model's own name of it; of the pairs that occur."""
    pairs = zip(layer_codes, model_codes, table["own_layer"], strict=True)
    return {(int(layer), int(model)): name for layer, model, name in pairs}


def _listener_cells(
    table, values, model_codes, layer_codes, layers, models, unit, missing, own
) -> tuple[np.ndarray, str]:
    """Shares of right answers [listener, layer, model], NaN where a listener lacks a cell."""
    listener, keys, name = listener_units(table, unit, stacklevel=4)
    cell = layer_codes * len(models) + model_codes
    size = len(keys), len(layers) * len(models)
    means, _ = tables.cell_means(values, listener, cell, size)
    means = means.reshape(len(keys), len(layers), len(models))
    lacking = np.isnan(means)
    for j, k in np.ndindex(lacking.shape[1:]):
        lacking[:, j, k] &= (j, k) in own
    if missing == "error" and lacking.any():
        i, j, k = np.argwhere(lacking)[0]
        who = tables.describe(listener_columns(unit), keys[i])
        raise ValueError(
            f"table: listener ({who}) has no trial with layer "
            f"{layers[j]!r}, model {models[k]!r}; {int(lacking.sum())} cells are missing. "
            "missing='drop' leaves such listeners out of that layer."
        )
    return means, name


def _sides(pick, chance, confidence) -> dict[str, Any]:
    """Pooled proportions of the two models."""
    row: dict[str, Any] = {}
    for side, values in zip("ab", pick, strict=True):
        found = pooled(values, chance, confidence)
        row |= {f"{name}_{side}": value for name, value in found.items()}
    shares = not intervals.is_binary(np.concatenate(pick))
    return row | {"proportion_unit": "proportion given" if shares else "trial"}


def pooled(values: np.ndarray, chance: float | None, confidence: float) -> dict[str, float]:
    """`intervals.proportion` of trials [trial], by the names of columns, POOLED."""
    return dict(zip(POOLED, intervals.proportion(values, chance, confidence), strict=True))


def _why_nobody(heard: np.ndarray) -> str:
    """Why no listener has all cells: [listener, layer, model] whether there is one."""
    for model, letter in enumerate("ab"):
        if not heard[:, :, model].any():
            return f"no trials of model_{letter}"
    if heard.shape[1] > 1 and heard.all(axis=2).any():
        return "no listener heard both models at every layer that they share"
    return "no listener heard both models"


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
    with warnings.catch_warnings():
        # Of one network all answers may be alike: SciPy fears for digits that zeros do not have.
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        test = scipy.stats.ttest_ind(b, a)
    return row | {"statistic": float(test.statistic), "p": float(test.pvalue)}


def _paired(pair, confidence, permutations, resamples, seed) -> dict[str, Any]:
    """Paired t and its companions of shares [listener, layer, model], averaged over layers."""
    heard = ~np.isnan(pair)
    pair = pair[heard.all(axis=(1, 2))].mean(axis=1)
    n = len(pair)
    row: dict[str, Any] = {"n": n, "df": n - 1, "reason": "", "permutations": 0}
    if n == 0:
        return row | {"df": np.nan, "reason": _why_nobody(heard)}
    differences = pair[:, 1] - pair[:, 0]
    row["difference"] = differences.mean()
    if n == 1:
        return row | {"reason": "one listener"}
    row["p_permutation"], row["permutations"] = intervals.sign_flip(differences, permutations, seed)
    # Shares such as 1/3 leave rounding errors in differences that are equal.
    if np.ptp(differences) < 1e-12:
        return row | {"reason": "zero variance"}
    row["ci_low"], row["ci_high"] = intervals.bca(differences, confidence, resamples, seed)
    row["sd"] = differences.std(ddof=1)
    row["dz"] = differences.mean() / row["sd"]
    row["statistic"] = row["dz"] * np.sqrt(n)
    row["p"] = float(2 * scipy.stats.t.sf(abs(row["statistic"]), n - 1))
    return row
