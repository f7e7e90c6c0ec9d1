"""Single trials of listeners and recordings, both drawn from many: crossed random effects."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.linalg
import scipy.stats

from metamer_jax.analysis import clustered, packages, tables

COLUMNS = (
    *("effect", "level", "estimate", "se", "odds_ratio", "ci_low", "ci_high", "statistic", "df1"),
    *("p", "unit", "n", "listeners", "items", "levels", "listener_sd", "listener_by_first_sd"),
    *("item_sd", "metamer_sd", "log_likelihood", "reason"),
)


class Fit(NamedTuple):
    """A fitted model."""

    log_odds: np.ndarray  # [cell]
    covariance: np.ndarray  # [cell, cell]
    sds: dict[str, float]  # Standard deviations of the random effects, logit.
    log_likelihood: float


def mixed_model(
    table: pd.DataFrame,
    factors: str | Sequence[str] = ("model", "layer"),
    *,
    listener: str = "participant",
    item: str = "target_id",
    slopes: bool = True,
    kinds: Sequence[str] | None = ("metamer",),
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Logistic mixed model of trials with crossed random effects of listeners and items.

    A difference that holds for other listeners and for other recordings: each has its own
    deviation (Baayen, Davidson and Bates, 2008; Clark, 1973). With `slopes`, so has each listener
    at each level of the first factor, and each metamer (an item in a cell): what is to be
    generalised over must vary in what is tested (Barr et al., 2013).

    Fitted by maximum likelihood with Laplace's approximation by the package `mixedlm`, which gives
    lme4's `glmer` to 4 digits; standard errors take the random effects' SDs as known (lme4's
    `use.hessian = FALSE`), a percent or two too small. Each combination of the factors has its own
    log odds, and effects are contrasts of them as in `gee`, tested by Wald's z and chi-square,
    which with few listeners or metamers finds too much: of 100 simulated experiments without a
    difference, 15 listeners and 8 shared metamers of SD 1 logit, 11 at p < .05, where a paired t
    test finds 33 and `gee` 31. A level where a cell has only right or only wrong answers is left
    out, as in `gee`.

    Args:
        table: Trials: correct (0 or 1), the factors, listener and item.
        factors: One or two columns.
        listener: Column of the listener.
        item: Column of the recording.
        slopes: Also random effects of listener by level of the first factor, and of metamer.
        kinds: Rows to use of a table with a column `kind`; None for all.
        confidence: Of the intervals of odds ratios.

    Returns:
        Rows and columns as of `gee`, with the SDs of the random effects (logit). NaN and a reason
        where undefined.

    Raises:
        ValueError: Naming the argument, or the column and row, at fault.
        ImportError: The package `mixedlm` is not installed.
    """
    factors = tables.as_names(factors, "factors")
    if len(factors) > 2 or {listener, item} & set(factors):
        raise ValueError(
            f"factors: expected one or two columns beside {listener!r} and {item!r}, got {factors}."
        )
    tables.check_columns(table, [*factors, listener, item, "correct"])
    table = tables.only_kinds(table, kinds)
    cells = clustered.Cells.of(table, factors)
    random = {}
    for argument, name in (("listener", listener), ("item", item)):
        codes, labels = tables.levels(table[name].astype(str))
        if len(labels) < 2:
            raise ValueError(f"{argument}: {name!r} needs two levels or more.")
        random[argument] = codes
    if slopes:
        firsts, seconds = map(len, cells.labels)
        random["listener_by_first"] = random["listener"] * firsts + cells.first
        cell = cells.second * firsts + cells.first
        random["metamer"] = random["item"] * firsts * seconds + cell
    fit, failure = None, ""
    if cells.kept:
        inside = np.isin(cells.second, cells.kept)
        codes = {name: of[inside] for name, of in random.items()}
        fit, failure = fit_crossed(cells.correct[inside], cells.number[inside], codes)
    rows = []
    for test in cells.tests():
        inside, row = cells.row(test)
        row |= {
            "unit": f"trial, {listener} and {item} random",
            "listeners": len(np.unique(random["listener"][inside])),
            "items": len(np.unique(random["item"][inside])),
            "reason": test.reason or failure,
        }
        if fit is not None:
            row |= {f"{name}_sd": sd for name, sd in fit.sds.items()}
            row["log_likelihood"] = fit.log_likelihood
            if test.contrasts is not None:
                row |= _wald(fit, test.contrasts, confidence)
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def fit_crossed(
    correct: np.ndarray, cell: np.ndarray, random: dict[str, np.ndarray]
) -> tuple[Fit | None, str]:
    """Fits log odds of cells with independent random intercepts.

    Args:
        correct: [trial] 0 or 1.
        cell: [trial] int, from 0; every cell occurs.
        random: Name of a random effect to [trial] int, its level.

    Returns:
        The fit and "", or None and the reason why there is none.

    Raises:
        ImportError: The package `mixedlm` (extra `statistics`) is not installed.
    """
    mixedlm = packages.load("mixedlm", "mixed_model")
    families = packages.load("mixedlm.families", "mixed_model")
    cells = int(cell.max()) + 1
    data = {f"c{i}": (cell == i).astype(float) for i in range(cells)}
    data |= {name: np.char.add("g", codes.astype(str)) for name, codes in random.items()}
    formula = " + ".join(
        ["correct ~ 0", *(f"c{i}" for i in range(cells)), *(f"(1 | {name})" for name in random)]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # What they would say becomes the reason.
        try:
            fit = mixedlm.glmer(
                formula, pd.DataFrame(data).assign(correct=correct), family=families.Binomial()
            )
        except (np.linalg.LinAlgError, ValueError) as error:
            return None, f"the fit failed: {error}"
    if not fit.converged:
        return None, "the fit did not converge"
    # Random intercepts alone, in the formula's order: theta holds their SDs.
    sds = dict(zip(random, map(float, np.abs(fit.theta)), strict=True))
    covariance = np.array(fit.vcov(), float)
    found = Fit(np.array(fit.beta, float), covariance, sds, float(fit.logLik()))
    if not np.isfinite(found.covariance).all():
        return None, "singular covariance"
    return found, ""


def _wald(fit: Fit, contrasts: np.ndarray, confidence: float) -> dict[str, Any]:
    estimates = contrasts @ fit.log_odds
    covariance = contrasts @ fit.covariance @ contrasts.T
    q = len(estimates)
    if q == 1:
        estimate, se = float(estimates[0]), float(np.sqrt(covariance[0, 0]))
        half = scipy.stats.norm.isf((1 - confidence) / 2) * se
        row = {"df1": 1, "estimate": estimate, "se": se, "odds_ratio": float(np.exp(estimate))}
        row |= {"ci_low": np.exp(estimate - half), "ci_high": np.exp(estimate + half)}
        z = estimate / se
        return row | {"statistic": z, "p": float(2 * scipy.stats.norm.sf(abs(z)))}
    if np.linalg.matrix_rank(covariance) < q:
        return {"df1": q, "reason": "singular covariance"}
    chi2 = float(estimates @ scipy.linalg.solve(covariance, estimates, assume_a="pos"))
    return {"df1": q, "statistic": chi2, "p": float(scipy.stats.chi2.sf(chi2, q))}
