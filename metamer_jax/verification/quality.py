"""How alike the activations of targets and their metamers are."""

import concurrent.futures
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class MatchQuality(NamedTuple):
    """How alike the activations of targets and their metamers are; float64 throughout."""

    spearman: np.ndarray  # [pair], -1 to 1; ties share their average rank
    pearson_r2: np.ndarray  # [pair], 0 to 1: squared linear correlation
    snr_db: np.ndarray  # [pair], dB of power: 10 log10(sum s^2 / sum (s - m)^2)
    relative_error: np.ndarray  # [pair]: ||s - m|| / ||s||


def match_quality(target: Any, metamer: Any) -> MatchQuality:
    """Measures how well metamers match their targets at one stage.

    Sums are taken in float64. What is undefined is nan, without a warning: both correlations where
    either activation is constant, SNR and relative error where the target's is zero throughout,
    everything where a value is not finite. A perfect match has an SNR of inf.

    Args:
        target: [pair, feature...] activations, the signal s; [feature] alone is a single pair.
        metamer: Same shape, m.

    Returns:
        Four arrays [pair]; scalars ([]) for [feature] inputs.

    Raises:
        ValueError: The shapes differ, or there are no features.
    """
    target, metamer = np.asarray(target), np.asarray(metamer)
    if target.shape != metamer.shape:
        raise ValueError(
            f"target and metamer must have one shape, got {target.shape} and {metamer.shape}"
        )
    if target.ndim == 0 or 0 in target.shape[1:] or target.shape == (0,):
        raise ValueError(f"target must be [pair, feature...] with features, got {target.shape}")
    if target.ndim == 1:
        return MatchQuality(*(np.asarray(v) for v in _pair_quality(target, metamer)))
    target, metamer = (x.reshape(x.shape[0], -1) for x in (target, metamer))
    found = np.empty((len(target), 4))

    def measure(i: int) -> None:
        found[i] = _pair_quality(target[i], metamer[i])

    for_each_row(measure, len(target))
    return MatchQuality(*found.T.copy())


def _pair_quality(target: np.ndarray, metamer: np.ndarray) -> tuple[float, float, float, float]:
    """Returns (spearman, pearson_r2, snr_db, relative_error) of two [feature] activations."""
    nan = float("nan")
    signal, match = target.astype(np.float64), metamer.astype(np.float64)
    scale = max(np.abs(signal).max(), np.abs(match).max())
    if not np.isfinite(scale):  # Maximum propagates nan.
        return nan, nan, nan, nan
    if scale > 0:  # Every measure is free of scale; squares of extreme values are not finite.
        signal, match = signal / scale, match / scale
    noise = signal - match
    signal_energy, noise_energy = dot(signal, signal), dot(noise, noise)
    snr_db = relative_error = nan
    if signal_energy > 0:
        relative_error = float(np.sqrt(noise_energy / signal_energy))
        ratio = noise_energy / signal_energy
        snr_db = -10 * float(np.log10(ratio)) if ratio > 0 else float("inf")
    if is_constant(signal) or is_constant(match):
        return nan, nan, snr_db, relative_error
    spearman = _correlation(average_ranks(target[None])[0], average_ranks(metamer[None])[0])
    return spearman, _correlation(signal, match) ** 2, snr_db, relative_error


def is_constant(values: np.ndarray) -> bool:
    """Says whether all values [feature] are the same."""
    return bool((values == values[0]).all())


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    norm = np.sqrt(dot(x, x)) * np.sqrt(dot(y, y))
    return float(np.clip(dot(x, y) / norm, -1.0, 1.0)) if norm > 0 else float("nan")


def dot(x: np.ndarray, y: np.ndarray) -> float:
    """Returns the inner product of two vectors [feature]."""
    # Not `x @ y`: the threads of `for_each_row` would contend for those of the BLAS library
    # (100 pairs of 50,176 features: 7.1 s on two cores instead of 0.1 s).
    return float(np.einsum("i,i", x, y))


def average_ranks(values: np.ndarray, dtype: Any = np.float64) -> np.ndarray:
    """Ranks each row from 1, ties sharing the average of the ranks that they take up.

    Args:
        values: Finite numbers [row, feature].
        dtype: Type of the result. float32 holds the ranks of up to 2^23 features exactly.

    Returns:
        [row, feature], as `scipy.stats.rankdata(values, axis=1)`.
    """
    ranks = np.empty(values.shape, dtype)

    def rank(i: int) -> None:
        row = values[i]
        # A rectified activation is mostly one value, its lowest: only the rest needs sorting.
        above = np.flatnonzero(row > row.min())
        lowest = row.size - above.size
        ranks[i] = (lowest + 1) / 2
        if not above.size:
            return
        row = row[above]
        order = np.argsort(row)
        ordered = row[order]
        # A run of equal values takes up the ranks f + 1, ..., f + c (f values lie below it, c are
        # in it), whose mean is f + (c + 1) / 2.
        first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        counts = np.diff(np.append(first, ordered.size))
        ranks[i, above[order]] = np.repeat(lowest + first + (counts + 1) / 2, counts)

    for_each_row(rank, len(values))
    return ranks


def for_each_row(work: Callable[[int], None], rows: int) -> None:
    """Calls `work(row)` for every row; NumPy's sorts and sums let threads run side by side."""
    threads = min(rows, os.cpu_count() or 1, 16)
    if threads <= 1:
        for row in range(rows):
            work(row)
        return
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, range(rows)):
            pass
