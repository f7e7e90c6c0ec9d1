"""Single trials of listeners who each gave many: logistic GEE, clustered by listener."""

import dataclasses
import functools
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


@dataclasses.dataclass(frozen=True, eq=False)
class Cells:
    """Trials by the levels of two factors; where there is one, the second has one level."""

    factors: Sequence[str]  # One or two names.
    correct: np.ndarray  # [row] 0 or 1
    first: np.ndarray  # [row] int, level of the first factor
    second: np.ndarray  # [row] int, level of the second
    labels: tuple[list[Hashable], list[Hashable]]  # Of the levels of each.

    @classmethod
    def of(cls, table: pd.DataFrame, factors: Sequence[str]) -> "Cells":
        """Reads a table.

        Args:
            table: Has the factors and correct.
            factors: One or two columns.

        Returns:
            Its trials.

        Raises:
            ValueError: An answer is neither 0 nor 1, or the first factor has one level.
        """
        values = tables.numbers(table, "correct")
        tables.reject_rows(table["correct"], ~np.isin(values, (0, 1)), "0 or 1")
        coded = tables.coded(table, factors)
        if len(factors) == 1:
            coded.append((np.zeros(len(table), int), [""]))
        (first, firsts), (second, seconds) = coded
        if len(firsts) < 2:
            raise ValueError(f"factors: {factors[0]!r} needs two levels or more.")
        return cls(factors, values, first, second, (firsts, seconds))

    @functools.cached_property
    def reasons(self) -> list[str]:
        """Why each level of the second factor has no finite log odds; "" where it has."""
        reasons = []
        for j in range(len(self.labels[1])):
            absent, constant = [], []
            for i, label in enumerate(self.labels[0]):
                cell = self.correct[(self.first == i) & (self.second == j)]
                if not len(cell):
                    absent.append(str(label))
                elif np.ptp(cell) == 0:
                    constant.append(f"{label} all {'right' if cell[0] else 'wrong'}")
            parts = [f"no trials: {', '.join(absent)}"] if absent else []
            parts += [f"zero variance: {', '.join(constant)}"] if constant else []
            reasons.append("; ".join(parts))
        return reasons

    @property
    def kept(self) -> list[int]:
        """Levels of the second factor that can be used."""
        return [j for j, reason in enumerate(self.reasons) if not reason]

    @property
    def number(self) -> np.ndarray:
        """[row] int: the cell of rows whose level is kept, flattened from [second, first]."""
        return np.searchsorted(self.kept, self.second) * len(self.labels[0]) + self.first

    def tests(self) -> list[Test]:
        """All effects over the levels kept, then the first factor's effect at each level.

        Returns:
            The tests, as contrasts of log odds [second, first] flattened.
        """
        factors, kept, size = self.factors, self.kept, len(self.labels[0])
        everything = list(range(len(self.reasons)))
        if not kept:
            reason = "; ".join(dict.fromkeys(self.reasons))
            tests = [Test(factors[0], None, everything, None, reason)]
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
            tests.append(Test(factors[0], j, [j], here, self.reasons[j]))
        return tests

    def row(self, test: Test) -> tuple[np.ndarray, dict[str, Any]]:
        """Which rows a test stands on, [row] bool, and what is said of it in any table."""
        inside = np.isin(self.second, test.levels)
        return inside, {
            "effect": test.effect,
            "level": "" if test.at is None else self.labels[1][test.at],
            "n": int(inside.sum()),
            "levels": ", ".join(str(self.labels[1][j]) for j in test.levels),
            "reason": test.reason,
        }


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
    cells = Cells.of(table, factors)
    who, _ = tables.subjects(table, [cluster])
    if who.max() == 0:
        raise ValueError(f"cluster: {cluster!r} needs two levels or more.")
    fit = _fit(cells, who, correlation, covariance) if cells.kept else None
    rows = []
    for test in cells.tests():
        inside, row = cells.row(test)
        clusters = len(np.unique(who[inside]))
        row |= {"unit": f"trial, clustered by {cluster}", "clusters": clusters}
        if test.contrasts is not None:
            row |= _wald(fit, test.contrasts, clusters, confidence)
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _differences(size: int) -> np.ndarray:
    """Each level minus the first: [contrast, level]."""
    return np.concatenate([-np.ones((size - 1, 1)), np.eye(size - 1)], axis=1)


def _fit(cells, who, correlation, covariance) -> tuple[np.ndarray, np.ndarray | None]:
    """Log odds of cells [second, first] flattened, and their covariance; None for no solution."""
    sm = packages.load("statsmodels.api", "gee")
    rows = np.flatnonzero(np.isin(cells.second, cells.kept))
    rows = rows[np.lexsort((cells.first[rows], cells.second[rows], who[rows]))]
    model = sm.GEE(
        cells.correct[rows],
        np.eye(len(cells.kept) * len(cells.labels[0]))[cells.number[rows]],
        groups=who[rows],
        family=sm.families.Binomial(),
        cov_struct=getattr(sm.cov_struct, correlation.capitalize())(),
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
