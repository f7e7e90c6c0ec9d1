"""What machine listeners say of each other's metamers, and how far people agree with them."""

from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

from metamer_jax import analysis
from metamer_jax.analysis import reliability


def of_others(trials: pd.DataFrame) -> pd.DataFrame:
    """Leaves out what networks say of their own metamers: those were made for them to recognise."""
    return trials[trials["participant"] != trials["model"]]


_COLUMNS = (
    *("level", "model", "pearson_r", "pearson_low", "pearson_high", "spearman_r", "spearman_low"),
    *("spearman_high", "n", "unit", "listeners", "machines", "reason"),
)


def agreement(
    people: pd.DataFrame, machines: pd.DataFrame, *, confidence: float = 0.95
) -> pd.DataFrame:
    """Correlates how recognisable metamers are to people and to machines.

    Args:
        people: Their trials that count, or a table of proportions.
        machines: Trials of machine listeners; their own metamers are left out.
        confidence: Coverage of the intervals, by jackknife over people and over machines, on
            Fisher's z.

    Returns:
        A row for cells (a model's layer; all models, then each) and one for single metamers, with
        Pearson's and Spearman's correlation of the mean shares of right answers over listeners,
        intervals over listeners, n (of `unit`), and the numbers of listeners and
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
            of_people, of_machines = (v[~np.isnan(v).all(axis=1)] for v in values)
            row = {"level": level, "model": model, "n": len(cells)}
            row |= {"unit": "layer of a model" if level == "cell" else "metamer"}
            row |= {"listeners": len(of_people), "machines": len(of_machines)}
            rows.append(row | _correlations(of_people, of_machines, confidence))
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _correlations(people, machines, confidence) -> dict[str, Any]:
    """Correlates column means of [listener, cell], with intervals over listeners."""
    if people.shape[1] < 3:
        return {"reason": "fewer than three to correlate"}
    means = [np.nanmean(v, axis=0) for v in (people, machines)]
    if any(np.ptp(m) < 1e-12 for m in means):
        return {"reason": "zero variance"}
    found: dict[str, Any] = dict(zip(("pearson_r", "spearman_r"), _correlate(*means), strict=True))
    few = min(len(people), len(machines))
    found["reason"] = "" if few > 2 else "one listener: no interval"
    if few == 2:
        found["reason"] = "two listeners: no interval"
    if few > 2:
        left_out = []
        for one, other in ((people, means[1]), (machines, means[0])):
            each = [_correlate(mean, other) for mean in reliability.means_without_each(one)]
            left_out.append(np.array(each))
        for k, name in enumerate(("pearson", "spearman")):
            found[f"{name}_low"], found[f"{name}_high"] = analysis.intervals.jackknife(
                found[f"{name}_r"], [each[:, k] for each in left_out], confidence, fisher=True
            )
    return found


def _correlate(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    if len(a) < 3 or min(np.ptp(a), np.ptp(b)) < 1e-12:
        return np.nan, np.nan
    ranks = scipy.stats.rankdata(a), scipy.stats.rankdata(b)
    return float(np.corrcoef(a, b)[0, 1]), float(np.corrcoef(*ranks)[0, 1])
