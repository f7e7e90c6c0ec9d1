"""Intervals, corrections and resampling used by every comparison.

The methods are SciPy's and statsmodels'. What is here is what they leave open: tests that are
undefined, samples without variance, and ties. Shares of right answers tie often, and sums of thirds
tie but for rounding, so statistics are rounded to `_DECIMALS` before they are compared.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

from metamer_jax.analysis import packages

_DECIMALS = 12


class Proportion(NamedTuple):
    """A proportion of trials, which it takes as independent of each other."""

    correct: float
    trials: float
    proportion: float
    low: float  # Wilson interval
    high: float
    p_chance: float  # two-sided exact binomial test against chance


def proportion(values: np.ndarray, chance: float | None, confidence: float) -> Proportion:
    """Counts, Wilson (1927) interval and binomial test of single trials.

    Args:
        values: [trial] 0 or 1; shares between them leave everything but the mean undefined.
        chance: Probability of a right answer by guessing; None: no test.
        confidence: Of the interval, such as 0.95.

    Returns:
        The counts and what follows from them.
    """
    if not len(values):
        return Proportion(0, 0, *[np.nan] * 4)
    if not is_binary(values):
        return Proportion(np.nan, np.nan, float(values.mean()), *[np.nan] * 3)
    correct, trials = int(values.sum()), len(values)
    test = scipy.stats.binomtest(correct, trials, 0.5 if chance is None else chance)
    low, high = test.proportion_ci(confidence, method="wilson")
    p = np.nan if chance is None else float(test.pvalue)
    return Proportion(correct, trials, correct / trials, float(low), float(high), p)


def wilson(share: float, trials: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's (1927) score interval, which need not be of whole counts.

    Args:
        share: Of right answers; the mean of shares where each trial has one.
        trials: How many trials there were.
        confidence: Of the interval.

    Returns:
        Its ends; NaN without trials.
    """
    if not trials > 0:
        return np.nan, np.nan
    z = scipy.stats.norm.ppf((1 + confidence) / 2)
    middle = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z * np.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2) / (1 + z**2 / trials)
    return float(max(middle - half, 0)), float(min(middle + half, 1))


def is_binary(values: np.ndarray) -> bool:
    """Whether all values are 0 or 1: single trials.

    Args:
        values: [trial].

    Returns:
        True where each is 0 or 1.
    """
    return bool(np.all((values == 0) | (values == 1)))


def check_share(value: float, argument: str) -> float:
    """A number strictly between 0 and 1, or a ValueError naming the argument.

    Args:
        value: What was given.
        argument: Name of the argument.

    Returns:
        The number.

    Raises:
        ValueError: It is none, or not between 0 and 1.
    """
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not 0 < value < 1:
        raise ValueError(f"{argument}: expected a number between 0 and 1, got {value!r}.")
    return float(value)


def check_count(value: int, argument: str, least: int) -> int:
    """A whole number of at least `least`, or a ValueError naming the argument.

    Args:
        value: What was given.
        argument: Name of the argument.
        least: Smallest number allowed.

    Returns:
        The number.

    Raises:
        ValueError: It is no whole number, or too small.
    """
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < least:
        raise ValueError(f"{argument}: expected a whole number from {least}, got {value!r}.")
    return int(value)


def check_choice(value: object, argument: str, options: Sequence[str]) -> None:
    """Raises ValueError naming the argument unless the value is one of the options."""
    if value not in options:
        raise ValueError(f"{argument}: expected one of {options}, got {value!r}.")


CORRECTIONS = ("holm", "bonferroni", "holm-sidak", "fdr_bh", "fdr_by")


def correct(p: np.ndarray, method: str = "holm") -> np.ndarray:
    """Correction over the p values of a family that are defined, by statsmodels' `multipletests`.

    Args:
        p: [test]; NaN is not a test.
        method: One of `CORRECTIONS`; "holm" is Holm's (1979) step-down correction.

    Returns:
        [test] corrected p values, NaN where p is.

    Raises:
        ImportError: The package `statsmodels` (extra `statistics`) is not installed.
    """
    corrected = np.full(len(p), np.nan)
    defined = np.isfinite(p)
    if defined.any():
        multitest = packages.load("statsmodels.stats.multitest", "a correction of p values")
        corrected[defined] = multitest.multipletests(p[defined], method=method)[1]
    return corrected


def sign_flip(differences: np.ndarray, permutations: int, seed: int) -> tuple[float, int]:
    """Two-sided permutation test of paired differences: each may as well have the other sign.

    Args:
        differences: [listener].
        permutations: Draws; when there are no more sign patterns than that, all are counted.
        seed: Of the draws.

    Returns:
        p of SciPy's `permutation_test`, twice that of the nearer tail, and the number of patterns
        or draws it stands on. p is exact where all patterns were counted, else each tail's is
        (b + 1) / (draws + 1); NaN where all differences are zero.
    """
    n = len(differences)
    if n == 0 or permutations == 0 or not np.any(differences):
        return np.nan, 0
    test = scipy.stats.permutation_test(
        (differences,),
        _rounded_mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=permutations,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue), len(test.null_distribution)


def _rounded_mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.round(np.mean(values, axis=axis), _DECIMALS)


def bca(values: np.ndarray, confidence: float, resamples: int, seed: int) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap interval of a mean (Efron, 1987), by SciPy.

    Args:
        values: [listener], a number each.
        confidence: Such as 0.95.
        resamples: Bootstrap samples of listeners.
        seed: Of the bootstrap.

    Returns:
        low and high; NaN where the values do not differ, or there are fewer than two.
    """
    n = len(values)
    if n < 2 or resamples == 0 or np.ptp(values) < 1e-12:
        return np.nan, np.nan
    found = scipy.stats.bootstrap(
        (values,),
        _rounded_mean,
        vectorized=True,
        confidence_level=confidence,
        n_resamples=resamples,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def jackknife(
    estimate: float,
    left_out: Sequence[np.ndarray],
    confidence: float = 0.95,
    *,
    fisher: bool = False,
) -> tuple[float, float]:
    """Interval of what is computed from all listeners at once (Efron and Tibshirani, 1993, 11).

    For correlations of mean profiles, bits and the like: a bootstrap sample holds some listeners
    twice, so its means are noisier than the data's, and such numbers come out too small in all of
    them, often below the estimate itself.

    Args:
        estimate: From all listeners.
        left_out: For each independent sample (listeners, machines) the estimates [listener] without
            one of them; their variances add up.
        confidence: Such as 0.95.
        fisher: The numbers are correlations: the interval is made on Fisher's z.

    Returns:
        low and high, by t with the degrees of freedom of the smallest sample; NaN where a sample
        has fewer than three, or one without a listener is undefined.
    """
    if any(len(values) < 3 for values in left_out):
        return np.nan, np.nan
    # At a correlation of 1 z is infinite, and so are its ends: none can be told.
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.arctanh if fisher else np.asarray
        centre = float(change(estimate))
        variance = sum((len(v) - 1) * np.var(change(np.asarray(v, float))) for v in left_out)
    half = scipy.stats.t.isf((1 - confidence) / 2, min(map(len, left_out)) - 1) * np.sqrt(variance)
    if not np.isfinite(centre + half):
        return np.nan, np.nan
    ends = np.array([centre - half, centre + half])
    low, high = np.tanh(ends) if fisher else ends
    return float(low), float(high)
