"""Intervals, corrections and resampling used by every comparison."""

import functools
from typing import NamedTuple

import numpy as np
import scipy.special
import scipy.stats


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


def is_binary(values: np.ndarray) -> bool:
    """Whether all values are 0 or 1: single trials."""
    return bool(np.all((values == 0) | (values == 1)))


def check_share(value: float, argument: str) -> float:
    """A number strictly between 0 and 1, or a ValueError naming the argument."""
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not 0 < value < 1:
        raise ValueError(f"{argument}: expected a number between 0 and 1, got {value!r}.")
    return float(value)


def check_count(value: int, argument: str, least: int) -> int:
    """A whole number of at least `least`, or a ValueError naming the argument."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < least:
        raise ValueError(f"{argument}: expected a whole number from {least}, got {value!r}.")
    return int(value)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's (1979) step-down correction over the p values that are defined.

    Args:
        p: [test]; NaN is not a test.

    Returns:
        [test] corrected p values, NaN where p is.
    """
    corrected = np.full(len(p), np.nan)
    defined = np.flatnonzero(np.isfinite(p))
    order = defined[np.argsort(p[defined], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


def sign_flip(differences: np.ndarray, permutations: int, seed: int) -> tuple[float, int]:
    """Two-sided permutation test of paired differences: each may as well have the other sign.

    Args:
        differences: [listener].
        permutations: Draws; when there are no more sign patterns than that, all are counted.
        seed: Of the draws.

    Returns:
        p, and the number of patterns or draws it stands on. p is exact where all patterns were
        counted, else (b + 1) / (draws + 1); NaN where all differences are zero.
    """
    n = len(differences)
    if n == 0 or permutations == 0 or not np.any(differences):
        return np.nan, 0
    exact = 2**n <= permutations
    means = _signs(n, None if exact else permutations, seed) @ differences
    observed = abs(differences.sum())
    # Ties with the observed sum are frequent among proportions: rounding must not split them.
    beyond = int(np.sum(np.abs(means) >= observed * (1 - 1e-9) - 1e-15))
    if exact:
        return beyond / len(means), len(means)
    return (beyond + 1) / (len(means) + 1), len(means)


@functools.lru_cache(maxsize=4)
def _signs(n: int, draws: int | None, seed: int) -> np.ndarray:
    """[pattern, listener] of -1 and 1; all 2^n patterns where draws is None."""
    if draws is None:
        return ((np.arange(2**n)[:, None] >> np.arange(n)) & 1) * 2.0 - 1
    return np.random.default_rng(seed).integers(0, 2, (draws, n)) * 2.0 - 1


def bca(values: np.ndarray, confidence: float, resamples: int, seed: int) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap interval of a mean (Efron, 1987).

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
    means = values[_resamples(n, resamples, seed)].mean(axis=1)
    mean = values.mean()
    # Ties count half; rounding must not decide which way.
    below = np.mean(means < mean - 1e-12) / 2 + np.mean(means <= mean + 1e-12) / 2
    left_out = (values.sum() - values) / (n - 1)
    spread = left_out.mean() - left_out
    acceleration = (spread**3).sum() / (6 * (spread**2).sum() ** 1.5)
    bias = scipy.special.ndtri(below)
    tail = bias + scipy.special.ndtri(np.array([1 - confidence, 1 + confidence]) / 2)
    low, high = np.quantile(means, scipy.special.ndtr(bias + tail / (1 - acceleration * tail)))
    return float(low), float(high)


@functools.lru_cache(maxsize=4)
def _resamples(n: int, resamples: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, n, (resamples, n))
