"""Differences that were planned before looking, and a correction over their family."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

from metamer_jax.analysis import bayes, intervals, paired, tables

COLUMNS = (
    *("contrast", "cells", "estimate", "ci_low", "ci_high", "statistic", "df", "p", "p_corrected"),
    *("correction", "p_permutation", "permutations", "dz", "bf10", "unit", "n", "reason"),
)
Term = Mapping[str, Any]


def planned_contrasts(
    table: pd.DataFrame,
    planned: Mapping[str, Sequence[Term]],
    *,
    correction: str = "holm",
    unit: str = "participant",
    kinds: Sequence[str] | None = ("metamer",),
    confidence: float = 0.95,
    permutations: int = 10_000,
    resamples: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Tests weighted sums of cells, a listener's share of right answers each.

    A term has a weight and names a cell by model, layer or both; what it leaves open is averaged:

        {"robust less standard, late": [
            {"model": "robust", "layer": "final", "weight": 1},
            {"model": "standard", "layer": "final", "weight": -1}],
         "first less last": [{"layer": "conv1", "weight": 1}, {"layer": "final", "weight": -1}]}

    Each listener has a value of each contrast; tests are t over listeners, the sign flip and the
    JZS Bayes factor beside. All of `planned` is one family, corrected by statsmodels'
    `multipletests`.

    Args:
        table: Trials or proportions with participant, model, layer and correct.
        planned: Name of the contrast to its terms; the weights of each sum to 0.
        correction: One of `intervals.CORRECTIONS`.
        unit: What counts as a listener: "participant", "session" or "condition".
        kinds: Rows to use of a table with a column `kind`; None for all.
        confidence: Of the BCa intervals.
        permutations: Draws of signs.
        resamples: Bootstrap samples of listeners.
        seed: Of permutations and bootstrap.

    Returns:
        A row per contrast, in columns `COLUMNS`. Listeners who lack one of its cells are left out;
        n counts the others. NaN and a reason where undefined.

    Raises:
        ValueError: A contrast is not of that form, names what the table does not have, or another
            argument, column or row is at fault.
    """
    intervals.check_choice(correction, "correction", intervals.CORRECTIONS)
    intervals.check_choice(unit, "unit", paired.UNITS)
    intervals.check_share(confidence, "confidence")
    tables.check_columns(table, [*paired.listener_columns(unit), "model", "layer", "correct"])
    table = tables.only_kinds(table, kinds)
    values = tables.numbers(table, "correct", share=True)
    who, keys, unit_name = paired.listener_units(table, unit)
    cells, labels = tables.subjects(table, ["model", "layer"])
    means, _ = tables.cell_means(values, who, cells, (len(keys), len(labels)))
    if not planned:
        raise ValueError("planned: expected at least one contrast, got none.")
    rows = []
    for name, terms in planned.items():
        weights = _weights(name, terms, labels)
        used = np.flatnonzero(weights)
        own = means[:, used] @ weights[used]
        row = {"contrast": name, "correction": correction, "unit": unit_name}
        row["cells"] = " ".join(f"{weights[i]:+.3g} {labels[i][0]}/{labels[i][1]}" for i in used)
        rows.append(row | _test(own[~np.isnan(own)], confidence, permutations, resamples, seed))
    found = pd.DataFrame(rows, columns=list(COLUMNS))
    return found.assign(p_corrected=intervals.correct(found["p"].to_numpy(float), correction))


def _weights(name: str, terms: Sequence[Term], labels: Sequence[tuple]) -> np.ndarray:
    """Weights of the cells [cell], those of a term shared evenly among the cells it means."""
    weights = np.zeros(len(labels))
    if isinstance(terms, (str, Mapping)) or not terms:
        raise ValueError(f"planned[{name!r}]: expected a list of terms, got {terms!r}.")
    for term in terms:
        known = isinstance(term, Mapping) and set(term) <= {"model", "layer", "weight"}
        if not known or "weight" not in term or len(term) < 2:
            raise ValueError(
                f"planned[{name!r}]: expected terms with weight and model, layer or both, got "
                f"{term!r}."
            )
        weight = term["weight"]
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            raise ValueError(f"planned[{name!r}]: expected a number as weight, got {weight!r}.")
        meant = [
            i
            for i, (model, layer) in enumerate(labels)
            if term.get("model", model) == model and term.get("layer", layer) == layer
        ]
        if not meant:
            raise ValueError(
                f"planned[{name!r}]: no row has {dict(term)!r}; models and layers are "
                f"{tables.brief(labels)}."
            )
        weights[meant] += weight / len(meant)
    if abs(weights.sum()) > 1e-9:
        raise ValueError(
            f"planned[{name!r}]: expected weights that sum to 0, got {weights.sum():.6g}."
        )
    if not np.abs(weights).max() > 1e-12:
        raise ValueError(f"planned[{name!r}]: its terms cancel each other.")
    return weights


def _test(own: np.ndarray, confidence, permutations, resamples, seed) -> dict[str, Any]:
    n = len(own)
    row: dict[str, Any] = {"n": n, "df": n - 1, "permutations": 0, "reason": ""}
    if n < 2:
        row |= {"estimate": own.mean()} if n else {"df": np.nan}
        return row | {"reason": "one listener" if n else "no listener has all of its cells"}
    row["estimate"] = own.mean()
    row["p_permutation"], row["permutations"] = intervals.sign_flip(own, permutations, seed)
    if np.ptp(own) < 1e-12:
        return row | {"reason": "zero variance"}
    row["ci_low"], row["ci_high"] = intervals.bca(own, confidence, resamples, seed)
    test = scipy.stats.ttest_1samp(own, 0)
    row |= {"statistic": float(test.statistic), "p": float(test.pvalue)}
    return row | {"dz": own.mean() / own.std(ddof=1), "bf10": bayes.jzs(row["statistic"], n)}
