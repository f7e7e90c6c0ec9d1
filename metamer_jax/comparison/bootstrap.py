"""Intervals over crossed samples: the seeds of a network and the targets.

A score that was averaged over S seeds and T targets varies with both, and with what is a single
metamer's own. Draws resample seeds and targets each by itself, as if others had been taken (the
pigeonhole bootstrap: Owen, 2007, Annals of Applied Statistics 1, 386-411). Of the true variance of
the mean, the seeds' part comes out as (S - 1) / S of what it is (with three seeds a third too
small), the targets' as (T - 1) / T, that of single metamers up to three times too large: intervals
are wide rather than narrow where single metamers differ more than seeds do. What has one level,
such as one seed, does not vary, and the interval says nothing about it.
"""

from collections.abc import Sequence

import numpy as np

from metamer_jax.analysis import intervals


def draw_weights(count: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of `count` levels is in each sample drawn with replacement.

    Returns:
        [resample, level] float64, each row sums to `count`.
    """
    return rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(float)


def weighted_means(values: np.ndarray, weights: Sequence[np.ndarray]) -> np.ndarray:
    """Means over all cells that are there, for each draw of weights.

    Args:
        values: [level of factor 1, level of factor 2, ...], NaN where a cell is missing.
        weights: For each factor [resample, level].

    Returns:
        [resample]; NaN where a draw holds no cell.

    Raises:
        ValueError: The weights do not fit the values.
    """
    values = np.asarray(values, float)
    sizes = tuple(each.shape[1] for each in weights)
    if sizes != values.shape:
        raise ValueError(f"weights must be for {values.shape} levels, got {sizes}")
    there = np.isfinite(values)
    # Factor by factor, the last axis first: [resample, ...] stays small.
    sums = [np.where(there, values, 0.0), there.astype(float)]
    for i, part in enumerate(sums):
        part = np.einsum("bl,...l->b...", weights[-1], part)
        for each in reversed(weights[:-1]):
            part = np.einsum("bl,b...l->b...", each, part)
        sums[i] = part
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(sums[1] > 0, sums[0] / sums[1], np.nan)


def interval(draws: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """The percentile interval of draws [resample]; NaN where none of them is defined."""
    intervals.check_share(confidence, "confidence")
    draws = draws[np.isfinite(draws)]
    if not draws.size:
        return np.nan, np.nan
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def mean_interval(
    values: np.ndarray, *, resamples: int = 4000, seed: int = 0, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Mean of an array with one crossed factor an axis, and its interval.

    Args:
        values: [level of factor 1, ...], NaN where a cell is missing.
        resamples: Draws.
        seed: Of the draws.
        confidence: Of the interval.

    Returns:
        mean, low, high; NaN where no cell is there.
    """
    values = np.asarray(values, float)
    if not np.isfinite(values).any():
        return np.nan, np.nan, np.nan
    rng = np.random.default_rng(seed)
    draws = weighted_means(values, [draw_weights(n, resamples, rng) for n in values.shape])
    return float(np.nanmean(values)), *interval(draws, confidence)


def median_interval(
    values: np.ndarray, *, resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Median of [seed, target], no cell missing, and its interval over both.

    Returns:
        median, low, high.
    """
    values = np.asarray(values, float)
    rng = np.random.default_rng(seed)
    rows, columns = (rng.integers(0, n, (resamples, n)) for n in values.shape)
    drawn = values[rows[:, :, None], columns[:, None, :]].reshape(resamples, -1)
    return float(np.median(values)), *interval(np.median(drawn, axis=1), confidence)
