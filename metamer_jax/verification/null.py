"""How alike random pairs of different recordings are: what a match must exceed."""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from metamer_jax.configs.synthesis import MIN_NULL_PAIRS
from metamer_jax.verification.quality import average_ranks, dot, for_each_row, is_constant

MEASURES = ("spearman", "pearson_r2", "snr_db", "pearson_r")  # Those that have a null distribution.
QUANTILES = (0.5, 0.9, 0.99, 0.999, 0.9999)

# Features per matrix product: blocks are accumulated in float64, so that float32 rounding does not
# grow with the number of features, and only one block at a time is held centred.
_BLOCK_FEATURES = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class NullMeasure:
    """One measure over all the null pairs for which it is defined."""

    name: str
    values: np.ndarray  # [pair] float32, ascending
    undefined: int  # Pairs left out: a constant activation has no correlation, silence no SNR.

    @property
    def max(self) -> float:
        """The largest value; nan where no pair has one."""
        return float(self.values[-1]) if self.values.size else float("nan")

    def quantile(self, q: float) -> float:
        """Returns the value below which the share `q` of the pairs lies; nan without pairs."""
        return float(np.quantile(self.values, q)) if self.values.size else float("nan")

    def percentile(self, value: np.ndarray | float) -> np.ndarray:
        """Returns the percentage of pairs strictly below `value` (any shape); nan for nan.

        It is 100 exactly where `value` exceeds the maximum.
        """
        value = np.asarray(value, np.float64)
        if not self.values.size:
            return np.full(value.shape, np.nan)
        # As a float32 array would be searched with a float32 key: the verdict compares in float64.
        below = np.searchsorted(self.values.astype(np.float64), value, side="left")
        return np.where(np.isnan(value), np.nan, 100.0 * below / self.values.size)

    def histogram(self, bins: int = 200) -> tuple[np.ndarray, np.ndarray]:
        """Returns (edges [bins + 1], counts [bins]); correlations over their whole range."""
        finite = self.values[np.isfinite(self.values)]
        low, high = (0.0, 1.0) if self.name == "pearson_r2" else (-1.0, 1.0)
        if self.name == "snr_db" and finite.size:
            low, high = float(finite[0]), float(finite[-1])
            high = high if high > low else low + 1.0
        counts, edges = np.histogram(finite, bins=bins, range=(low, high))
        return edges, counts


@dataclasses.dataclass(frozen=True, eq=False)
class NullDistribution:
    """How alike the activations of different recordings are at one stage of one network."""

    recordings: int
    pairs: int  # Pairs measured, each once, in random order (the first is the SNR's signal).
    same_speaker_pairs: int  # Of those, by one known speaker: included, they are the closest.
    duplicates_excluded: int  # Pairs of recordings with the same samples: not different sounds.
    spearman: NullMeasure
    pearson_r2: NullMeasure
    snr_db: NullMeasure
    pearson_r: NullMeasure

    def summary(self) -> dict[str, Any]:
        """Returns counts, quantiles and maxima as plain values, for verification/null.json."""
        found: dict[str, Any] = {
            "recordings": self.recordings,
            "pairs": self.pairs,
            "same_speaker_pairs": self.same_speaker_pairs,
            "duplicates_excluded": self.duplicates_excluded,
        }
        for name in MEASURES:
            measure = getattr(self, name)
            quantiles = {str(q): measure.quantile(q) for q in QUANTILES}
            found[name] = {
                "quantiles": quantiles,
                "max": measure.max,
                "undefined": measure.undefined,
            }
        return found

    def histograms(self, bins: int = 200) -> dict[str, np.ndarray]:
        """Returns "<measure>_edges" [bins + 1] and "<measure>_counts" [bins] of each measure."""
        found = {}
        for name in MEASURES:
            edges, counts = getattr(self, name).histogram(bins)
            found |= {f"{name}_edges": edges, f"{name}_counts": counts}
        return found


def fingerprints(waveforms: np.ndarray) -> np.ndarray:
    """Returns a text [recording] that is equal for recordings with exactly the same samples."""
    waveforms = np.ascontiguousarray(waveforms)
    return np.array([hashlib.sha256(w.tobytes()).hexdigest() for w in waveforms])


def null_distribution(
    activations: Any,
    *,
    speakers: Sequence[str] | np.ndarray | None = None,
    fingerprints: Sequence[Any] | np.ndarray | None = None,
    num_pairs: int = 10**6,
    min_pairs: int = MIN_NULL_PAIRS,
    seed: int = 0,
) -> NullDistribution:
    """Measures how alike random pairs of different recordings are at one stage.

    Pairs come from matrix products: of normalised ranks for Spearman, of normalised centred
    activations for Pearson, and SNR from the latter with the means and norms. Products are float32
    over blocks of features that are summed in float64: correlations are within 1e-5 of a float64
    computation, SNR within 0.01 dB up to about 40 dB. Besides `activations` it needs room for one
    more float32 copy (the ranks) and about 40 bytes per entry of [recording, recording].

    Args:
        activations: Finite activations [recording, feature...].
        speakers: Speaker of each [recording], "" where unknown; their pairs are counted, not left
            out.
        fingerprints: Labels [recording], equal for exact duplicates (see `fingerprints`), whose
            pairs are left out.
        num_pairs: Number of pairs to draw without replacement; every pair if there are fewer.
            10^6 pairs need at least 1,415 recordings.
        min_pairs: Number of pairs below which no distribution is made: a match that has to exceed
            the largest of a few is not shown to be beyond chance.
        seed: Seed of the draw, and of which recording of a pair comes first.

    Returns:
        The distribution of each measure.

    Raises:
        ValueError: Fewer than two recordings, a value that is not finite, labels of another
            length, or fewer pairs of different recordings than `min_pairs`.
    """
    activations = np.asarray(activations)
    recordings = activations.shape[0] if activations.ndim >= 2 else 0
    if recordings < 2 or activations.size == 0:
        raise ValueError(
            f"activations must be [recording, feature...] of at least two recordings, "
            f"got shape {activations.shape}"
        )
    if num_pairs < 1:
        raise ValueError(f"num_pairs must be at least 1, got {num_pairs}")
    for name, labels in (("speakers", speakers), ("fingerprints", fingerprints)):
        if labels is not None and len(labels) != recordings:
            raise ValueError(
                f"{name} must hold one entry for each of the {recordings} recordings, "
                f"got {len(labels)}"
            )
    rows = activations.reshape(recordings, -1)
    if rows.dtype.kind != "f" or rows.dtype.itemsize < 4:
        rows = rows.astype(np.float32)
    first, second, excluded = _draw_pairs(recordings, fingerprints, num_pairs, seed)
    if len(first) < min(min_pairs, num_pairs):
        needed = math.ceil((1 + math.sqrt(1 + 8 * min_pairs)) / 2)  # n (n - 1) / 2 >= min_pairs.
        raise ValueError(
            f"activations must be of at least {needed} different recordings, whose {min_pairs} "
            f"pairs make a null distribution, got {recordings} recordings, {len(first)} pairs"
        )

    means, norms = _means_and_norms(rows)
    bad = np.flatnonzero(~np.isfinite(norms))
    if bad.size:
        raise ValueError(
            f"activations must be finite, got nan, inf or an overflow in recordings "
            f"{bad[:5].tolist()}{' and more' if bad.size > 5 else ''}"
        )
    correlation = _correlations(rows, means, norms)[first, second]
    snr_db = _snr_db(correlation, means, norms, first, second, rows.shape[1])

    ranks = average_ranks(rows, np.float32)
    rank_correlations = _correlations(ranks, *_means_and_norms(ranks))[first, second]

    same_speaker = 0
    if speakers is not None:
        _, ids = np.unique(np.asarray(speakers), return_inverse=True)
        known = np.asarray(speakers) != ""
        same_speaker = int(((ids[first] == ids[second]) & known[first]).sum())
    return NullDistribution(
        recordings=recordings,
        pairs=len(first),
        same_speaker_pairs=same_speaker,
        duplicates_excluded=excluded,
        spearman=_null_measure("spearman", rank_correlations),
        pearson_r2=_null_measure("pearson_r2", correlation**2),
        snr_db=_null_measure("snr_db", snr_db),
        pearson_r=_null_measure("pearson_r", correlation),
    )


def _draw_pairs(
    recordings: int, fingerprints: Any, num_pairs: int, seed: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns (first [pair], second [pair], pairs excluded as duplicates)."""
    rng = np.random.default_rng(seed)
    total = recordings * (recordings - 1) // 2
    excluded, groups = 0, np.arange(recordings)
    if fingerprints is not None:
        _, groups, counts = np.unique(
            np.asarray(fingerprints), return_inverse=True, return_counts=True
        )
        excluded = int((counts * (counts - 1) // 2).sum())
    if total == excluded:
        raise ValueError("fingerprints say that all recordings are duplicates: no pair is left")
    # Pairs (i, j), i < j < n, are numbered row by row in the upper triangle: row i has n - 1 - i of
    # them, and (i, j) is number row_starts[i] + j - i - 1. Drawing `excluded` more than wanted
    # leaves enough whichever of them are duplicates.
    if num_pairs + excluded >= total:
        numbers = np.arange(total)
    else:
        numbers = rng.choice(total, num_pairs + excluded, replace=False)
    row_starts = np.concatenate(([0], np.cumsum(np.arange(recordings - 1, 0, -1))))[:-1]
    first = np.searchsorted(row_starts, numbers, side="right") - 1
    second = numbers - row_starts[first] + first + 1
    different = groups[first] != groups[second]
    first, second = first[different], second[different]
    if len(first) > num_pairs:
        keep = rng.permutation(len(first))[:num_pairs]
        first, second = first[keep], second[keep]
    swap = rng.random(len(first)) < 0.5
    return np.where(swap, second, first), np.where(swap, first, second), excluded


def _means_and_norms(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns each row's mean and, about that mean, its norm: [row] float64, norm 0 if constant."""
    means, norms = np.empty(len(rows)), np.empty(len(rows))

    def measure(i: int) -> None:
        means[i] = row_mean = rows[i].mean(dtype=np.float64)
        centred = rows[i] - row_mean
        # Rounding of the mean leaves a constant row a tiny norm, which would be scaled up to one.
        norms[i] = 0.0 if is_constant(rows[i]) else np.sqrt(dot(centred, centred))

    with np.errstate(invalid="ignore", over="ignore"):
        for_each_row(measure, len(rows))
    return means, norms


def _correlations(rows: np.ndarray, means: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Returns the correlation of every two rows: [row, row] float64, nan for constant rows."""
    scale = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    found = np.zeros((len(rows), len(rows)))
    for start in range(0, rows.shape[1], _BLOCK_FEATURES):
        block = rows[:, start : start + _BLOCK_FEATURES] - means[:, None]
        block *= scale[:, None]
        block = block.astype(np.float32)
        found += block @ block.T
    np.clip(found, -1.0, 1.0, out=found)
    constant = norms == 0
    found[constant, :] = np.nan
    found[:, constant] = np.nan
    return found


def _snr_db(
    correlation: np.ndarray,
    means: np.ndarray,
    norms: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    num_features: int,
) -> np.ndarray:
    """SNR [pair] in dB of the second recording as a rendering of the first, from moments.

    With n features, means s', m' and centred norms S, M, whose correlation is r,

        sum s^2 = S^2 + n s'^2,    sum (s - m)^2 = S^2 + M^2 - 2 r S M + n (s' - m')^2.

    Returns:
        [pair], NaN where the first recording's activation is zero throughout.
    """
    energy = norms**2 + num_features * means**2
    signal = energy[first]
    covariance = np.nan_to_num(correlation) * norms[first] * norms[second]  # 0 if one is constant.
    noise = norms[first] ** 2 + norms[second] ** 2 - 2 * covariance
    noise = np.maximum(noise, 0.0) + num_features * (means[first] - means[second]) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(signal > 0, 10 * (np.log10(signal) - np.log10(noise)), np.nan)


def _null_measure(name: str, values: np.ndarray) -> NullMeasure:
    defined = np.sort(values[~np.isnan(values)].astype(np.float32))
    return NullMeasure(name, defined, values.size - defined.size)


def percentile(
    null: NullDistribution, value: np.ndarray | float, measure: str = "spearman"
) -> np.ndarray:
    """Returns the percentage of null pairs strictly below `value` (any shape); nan for nan."""
    if measure not in MEASURES:
        raise ValueError(f"measure must be one of {MEASURES}, got {measure!r}")
    return getattr(null, measure).percentile(value)
