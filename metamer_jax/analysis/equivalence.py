"""Is a difference too small to matter? Two one-sided tests against a smallest difference."""

import numpy as np
import pandas as pd
import scipy.stats

from metamer_jax.analysis import bayes, intervals

COLUMNS = (
    *("layer", "model_a", "model_b", "unit", "n", "difference", "bound", "ci_low", "ci_high"),
    *("t_lower", "t_upper", "df", "p", "p_holm", "equivalent", "reason"),
)


def equivalence_tests(
    compared: pd.DataFrame, bound: float = 0.1, *, alpha: float = 0.05
) -> pd.DataFrame:
    """Equivalence tests (TOST: Schuirmann, 1987; Lakens, 2017) of `compare_models`' differences.

    The null hypothesis is a difference of at least `bound`, either way; where both one-sided paired
    t tests reject it, the two models are equivalent to within the bound. That is the case where the
    interval of confidence 1 - 2 alpha lies within the bounds. As statsmodels' `ttost_paired`, from
    the mean and SD of the differences, so that tables of results serve too.

    Args:
        compared: From `compare_models` with method "listener".
        bound: Smallest difference of proportions that would matter; choose it before looking.
        alpha: Level of each one-sided test, and of `equivalent`.

    Returns:
        A row per comparison: the interval of confidence 1 - 2 alpha, both t, p (the larger), p_holm
        over the layers of all pairs ("all" is a test of its own), and whether p (p_holm where
        there is one) is below alpha. NaN and a reason where the differences do not vary.

    Raises:
        ValueError: Naming the argument at fault.
    """
    bayes.check_paired(compared)
    intervals.check_share(bound, "bound")
    intervals.check_share(alpha, "alpha")
    table = compared[["layer", "model_a", "model_b", "unit", "n", "difference", "df", "reason"]]
    n, df, mean = (compared[name].to_numpy(float) for name in ("n", "df", "difference"))
    sd = compared["sd"].to_numpy(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        se = np.where(sd > 0, sd / np.sqrt(n), np.nan)
        lower, upper = (mean + bound) / se, (mean - bound) / se
        p = np.maximum(scipy.stats.t.sf(lower, df), scipy.stats.t.cdf(upper, df))
        half = scipy.stats.t.isf(alpha, df) * se
    layers = (compared["layer"] != "all").to_numpy()
    corrected = intervals.correct(np.where(layers, p, np.nan))
    decisive = np.where(np.isnan(corrected), p, corrected)
    found = table.assign(
        bound=bound,
        ci_low=mean - half,
        ci_high=mean + half,
        t_lower=lower,
        t_upper=upper,
        p=p,
        p_holm=corrected,
        equivalent=pd.arrays.BooleanArray(decisive < alpha, mask=np.isnan(p)),
    )
    return found[list(COLUMNS)]
