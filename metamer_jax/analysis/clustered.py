"""Single trials of listeners who each gave many: logistic GEE, clustered by listener."""

import warnings
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.linalg
import scipy.stats

from metamer_jax.analysis import intervals, packages, tables

CORRELATIONS = ("exchangeable", "independence")
COVARIANCES = ("bias_reduced", "robust")
COLUMNS = (
    *("effect", "level", "estimate", "se", "odds_ratio", "ci_low", "ci_high", "statistic"),
    *("df1", "df2", "p", "unit", "n", "clusters", "levels", "reason"),
)


class Test(NamedTuple):
    """One row of the results."""

    effect: str
    at: int | None  # level of the second factor, for an effect at one level
    levels: Sequence[int]  # of the second factor, that the test rests on
    contrasts: np.ndarray | None  # [contrast, cell kept]; None where there is nothing to test
    reason: str


def gee(
    table: pd.DataFrame,
    factors: str | Sequence[str] = ("model", "layer"),
    *,
    cluster: str = "participant",
    kinds: Sequence[str] | None = ("metamer",),
    correlation: str = "exchangeable",
    covariance: str = "bias_reduced",
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Logistic regression on trials by generalised estimating equations (Liang and Zeger, 1986).

    Each combination of the factors has its own log odds; effects are contrasts of them, tested with
    a covariance that holds whatever the correlation of a listener's trials. `bias_reduced` (Mancl
    and DeRouen, 2001) corrects it for few listeners. Tests are t and F with degrees of freedom from
    the number of listeners. Where a cell has only right or only wrong answers its log odds are
    infinite: that level of the second factor (of the first, if there is one only) is left out.

    Args:
        table: Trials: correct (0 or 1), the factors and the cluster.
        factors: One or two columns.
        cluster: Column of the listener.
        kinds: Rows to use of a table with a column `kind`; None for all.
        correlation: Working correlation, "exchangeable" or "independence".
        covariance: "bias_reduced" or "robust".
        confidence: Of the intervals of odds ratios.

    Returns:
        A row per effect ("model", "layer", "model:layer"), then one per level of the second factor
        with the effect of the first there; `level` is "" for the former. An effect of one contrast
        has estimate (log odds, later minus earlier level in ascending order), se, odds_ratio with
        its interval and t as statistic; others have F. `levels` lists what the test rests on;
        `n` counts trials and `clusters` listeners. NaN and a reason where undefined.

    Raises:
        ValueError: Naming the argument, or the column and row, at fault.
        ImportError: The package `statsmodels` (extra `statistics`) is not installed.
    """
    intervals.check_choice(correlation, "correlation", CORRELATIONS)
    intervals.check_choice(covariance, "covariance", COVARIANCES)
    factors = tables.as_names(factors, "factors")
    if len(factors) > 2 or cluster in factors:
        raise ValueError(f"factors: expected one or two columns beside {cluster!r}, got {factors}.")
    tables.check_columns(table, [*factors, cluster, "correct"])
    table = tables.only_kinds(table, kinds)
    values = tables.numbers(table, "correct")
    tables.reject_rows(table["correct"], ~np.isin(values, (0, 1)), "0 or 1")
    coded = coded_factors(table, factors)
    who, _ = tables.subjects(table, [cluster])
    if who.max() == 0:
        raise ValueError(f"cluster: {cluster!r} needs two levels or more.")
    reasons = unusable(values, coded)
    kept = [j for j, reason in enumerate(reasons) if not reason]
    fit = _fit(values, coded, who, kept, correlation, covariance) if kept else None
    rows = []
    for test in tests(factors, len(coded[0][1]), kept, reasons):
        inside = np.isin(coded[1][0], test.levels)
        clusters = len(np.unique(who[inside]))
        row: dict[str, Any] = {
            "effect": test.effect,
            "level": "" if test.at is None else coded[1][1][test.at],
            "unit": f"trial, clustered by {cluster}",
            "n": int(inside.sum()),
            "clusters": clusters,
            "levels": ", ".join(str(coded[1][1][j]) for j in test.levels),
            "reason": test.reason,
        }
        if test.contrasts is not None:
            row |= _wald(fit, test.contrasts, clusters, confidence)
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def coded_factors(
    table: pd.DataFrame, factors: Sequence[str]
) -> list[tuple[np.ndarray, list[Hashable]]]:
    """Two factors, the second of one level where there is one only: one code path for both.

    Args:
        table: Has the factors.
        factors: One or two columns.

    Returns:
        For each factor [row] int and the labels.

    Raises:
        ValueError: The first factor has one level.
    """
    coded = [
        tables.layer_levels(table) if name == "layer" else tables.levels(table[name])
        for name in factors
    ]
    if len(factors) == 1:
        coded.append((np.zeros(len(table), int), [""]))
    if len(coded[0][1]) < 2:
        raise ValueError(f"factors: {factors[0]!r} needs two levels or more.")
    return coded


def tests(
    factors: Sequence[str], size: int, kept: Sequence[int], reasons: Sequence[str]
) -> list[Test]:
    """All effects over the levels kept, then the first factor's effect at each level.

    Args:
        factors: One or two names.
        size: Levels of the first.
        kept: Levels of the second that can be used.
        reasons: Of each level of the second, why it cannot; "" where it can.

    Returns:
        The tests, as contrasts of log odds [second, first] flattened.
    """
    everything = list(range(len(reasons)))
    if not kept:
        tests = [Test(factors[0], None, everything, None, "; ".join(dict.fromkeys(reasons)))]
    else:
        first, mean = _differences(size), np.full((1, len(kept)), 1 / len(kept))
        tests = [Test(factors[0], None, kept, np.kron(mean, first), "")]
        if len(kept) > 1:
            second, over = _differences(len(kept)), np.full((1, size), 1 / size)
            tests.append(Test(factors[1], None, kept, np.kron(second, over), ""))
            tests.append(Test(":".join(factors), None, kept, np.kron(second, first), ""))
    for j in everything if len(factors) == 2 else []:
        here = None
        if j in kept:
            here = np.kron(np.eye(len(kept))[[kept.index(j)]], _differences(size))
        tests.append(Test(factors[0], j, [j], here, reasons[j]))
    return tests


def unusable(values: np.ndarray, coded: Sequence[tuple[np.ndarray, list[Hashable]]]) -> list[str]:
    """Why a level of the second factor has no finite log odds; "" where it has.

    Args:
        values: [row] 0 or 1.
        coded: From `coded_factors`.

    Returns:
        [level] reasons.
    """
    reasons = []
    for j in range(len(coded[1][1])):
        absent, constant = [], []
        for i, label in enumerate(coded[0][1]):
            cell = values[(coded[0][0] == i) & (coded[1][0] == j)]
            if not len(cell):
                absent.append(str(label))
            elif np.ptp(cell) == 0:
                constant.append(f"{label} all {'right' if cell[0] else 'wrong'}")
        parts = [f"no trials: {', '.join(absent)}"] if absent else []
        parts += [f"zero variance: {', '.join(constant)}"] if constant else []
        reasons.append("; ".join(parts))
    return reasons


def _differences(size: int) -> np.ndarray:
    """Each level minus the first: [contrast, level]."""
    return np.concatenate([-np.ones((size - 1, 1)), np.eye(size - 1)], axis=1)


def _fit(values, coded, who, kept, correlation, covariance) -> tuple[np.ndarray, np.ndarray | None]:
    """Log odds of cells [second, first] flattened, and their covariance; None for no solution."""
    sm = packages.load("statsmodels.api", "gee")
    rows = np.flatnonzero(np.isin(coded[1][0], kept))
    rows = rows[np.lexsort((coded[0][0][rows], coded[1][0][rows], who[rows]))]
    rank = {j: i for i, j in enumerate(kept)}
    cell = np.array([rank[j] for j in coded[1][0][rows]]) * len(coded[0][1]) + coded[0][0][rows]
    structures = {
        "exchangeable": sm.cov_struct.Exchangeable,
        "independence": sm.cov_struct.Independence,
    }
    model = sm.GEE(
        values[rows],
        np.eye(len(kept) * len(coded[0][1]))[cell],
        groups=who[rows],
        family=sm.families.Binomial(),
        cov_struct=structures[correlation](),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # What they would say becomes the reason.
        try:
            fitted = model.fit(cov_type=covariance)
        except np.linalg.LinAlgError:
            return np.full(model.exog.shape[1], np.nan), None
    if not fitted.converged:
        return np.asarray(fitted.params), None
    return np.asarray(fitted.params), np.asarray(fitted.cov_params())


def _wald(fit, contrasts, clusters, confidence) -> dict[str, Any]:
    if fit[1] is None:
        return {"reason": "the fit did not converge"}
    estimates = contrasts @ fit[0]
    covariance = contrasts @ fit[1] @ contrasts.T
    q = len(estimates)
    row: dict[str, Any] = {"df1": q, "df2": clusters - q}
    if clusters <= q:
        return row | {"reason": f"{q} contrasts need more than {clusters} listeners"}
    if not np.isfinite(covariance).all() or np.linalg.matrix_rank(covariance) < q:
        return row | {"reason": "singular covariance"}
    if q == 1:
        estimate, se = float(estimates[0]), float(np.sqrt(covariance[0, 0]))
        half = scipy.stats.t.ppf((1 + confidence) / 2, clusters - 1) * se
        row |= {"estimate": estimate, "se": se, "odds_ratio": float(np.exp(estimate))}
        row |= {"ci_low": np.exp(estimate - half), "ci_high": np.exp(estimate + half)}
        t = estimate / se
        return row | {"statistic": t, "p": float(2 * scipy.stats.t.sf(abs(t), clusters - 1))}
    f = float(estimates @ scipy.linalg.solve(covariance, estimates, assume_a="pos")) / q
    return row | {"statistic": f, "p": float(scipy.stats.f.sf(f, q, clusters - q))}
