"""Evidence for and against a difference: Bayes factors of t tests."""

import numpy as np
import pandas as pd
import scipy.integrate
import scipy.stats

from metamer_jax.analysis import tables

MEDIUM = np.sqrt(2) / 2  # BayesFactor's default width of the prior, "medium".
COLUMNS = (
    *("layer", "model_a", "model_b", "unit", "n", "statistic", "bf10", "bf01", "evidence"),
    *("scale", "reason"),
)
# Jeffreys (1961), as worded by Lee and Wagenmakers (2013).
_WORDS = ((100, "extreme"), (30, "very strong"), (10, "strong"), (3, "moderate"), (1, "anecdotal"))


def jzs(t: float, n: int, n2: int | None = None, *, scale: float = MEDIUM) -> float:
    """The JZS Bayes factor of a t test: how much better a difference than none explains the data.

    Rouder, Speckman, Sun, Morey and Iverson (2009, Psychonomic Bulletin and Review 16, 225-237),
    equation 1 with a Cauchy prior of width `scale` on the effect size: the marginal likelihood of
    t over that of no effect,

        BF10 = E_g[(1 + N g r^2)^(-1/2) (1 + t^2 / ((1 + N g r^2) v))^(-(v + 1) / 2)]
               / (1 + t^2 / v)^(-(v + 1) / 2),    g ~ inverse chi-square with 1 degree of freedom,

    integrated by SciPy over log g. It is a wide prior's answer: with few listeners it favours no
    difference only weakly, whatever they say.

    Args:
        t: Of a one-sample (or paired) t test; of a two-sample test where `n2` is given.
        n: Number of values (pairs), or of the first sample.
        n2: Number of the second sample, or None.
        scale: r, the width of the prior, in standard deviations.

    Returns:
        BF10; 1 / BF10 is the evidence for no difference.

    Raises:
        ValueError: A number is not finite, a sample has fewer than two, or `scale` is not positive.
    """
    if not np.isfinite(t):
        raise ValueError(f"t: expected a finite number, got {t!r}.")
    for name, size in (("n", n), ("n2", n2)):
        if size is not None and size < 2:
            raise ValueError(f"{name}: expected at least 2, got {size!r}.")
    if not np.isfinite(scale) or scale <= 0:
        raise ValueError(f"scale: expected a positive number, got {scale!r}.")
    effective, df = (n, n - 1) if n2 is None else (n * n2 / (n + n2), n + n2 - 2)
    null = -(df + 1) / 2 * np.log1p(t**2 / df)

    def integrand(log_g):
        # Inverse chi-square density, times g for the change of variable.
        prior = -0.5 * np.log(2 * np.pi) - 0.5 * log_g - 0.5 * np.exp(-log_g)
        widened = 1 + effective * np.exp(log_g) * scale**2
        likelihood = -0.5 * np.log(widened) - (df + 1) / 2 * np.log1p(t**2 / (widened * df))
        return np.exp(prior + likelihood - null)

    # Outside, the prior holds less than 1e-12 of its mass.
    value, _ = scipy.integrate.quad(integrand, -5, 60, limit=400, epsabs=0, epsrel=1e-10)
    return float(value)


def bayes_factors(compared: pd.DataFrame, *, scale: float = MEDIUM) -> pd.DataFrame:
    """Bayes factors of the paired tests of `compare_models`.

    Args:
        compared: From `compare_models` with method "listener".
        scale: Width of the Cauchy prior on the effect size dz.

    Returns:
        A row per comparison: bf10 (difference over none), bf01 = 1 / bf10, and `evidence` in words.
        NaN and a reason where there is no t.

    Raises:
        ValueError: The table is not of listeners' paired tests.
    """
    check_paired(compared)
    rows = []
    for _, row in compared.iterrows():
        found = {"scale": scale, "reason": row["reason"], "evidence": ""}
        if np.isfinite(row["statistic"]):
            bf = jzs(row["statistic"], int(row["n"]), scale=scale)
            found |= {"bf10": bf, "bf01": 1 / bf, "evidence": evidence(bf)}
        rows.append(
            row[["layer", "model_a", "model_b", "unit", "n", "statistic"]].to_dict() | found
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def evidence(bf10: float) -> str:
    """A Bayes factor in words, such as "moderate for no difference".

    Args:
        bf10: A Bayes factor of a difference over none.

    Returns:
        The side that it favours and how strongly.
    """
    side = "a difference" if bf10 > 1 else "no difference"
    size = max(bf10, 1 / bf10)
    word = next((word for least, word in _WORDS if size > least), "no")
    return f"{word} for {side}"


def check_paired(compared: pd.DataFrame) -> None:
    """Raises ValueError unless the table is of `compare_models` with listeners as the unit.

    Args:
        compared: Any table.

    Raises:
        ValueError: A column is missing, or rows are of another method.
    """
    tables.check_columns(
        compared, ["layer", "method", "model_a", "model_b", "statistic", "n", "sd"]
    )
    if set(compared["method"]) != {"listener"}:
        raise ValueError("compared: expected rows of compare_models with method 'listener'.")
