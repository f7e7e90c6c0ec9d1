"""What is heard in place of the word: information transmitted, biases, likeness to networks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

from metamer_jax.analysis import intervals, reliability, scores, tables

INFORMATION_COLUMNS = (
    *("bits", "bits_corrected", "ci_low", "ci_high", "stimulus_bits", "relative"),
    *("relative_corrected", "unit", "n", "listeners", "reason"),
)
BIAS_COLUMNS = (
    *("word", "spoken_share", "answered_share", "bias", "ci_low", "ci_high", "statistic", "p"),
    *("p_holm", "share_of_errors", "unit", "n", "reason"),
)
SIMILARITY_COLUMNS = (
    *("model", "pearson_r", "ci_low", "ci_high", "spearman_r", "unit", "n", "errors_listeners"),
    *("errors_machines", "listeners", "machines", "reason"),
)


def transmitted_information(
    table: pd.DataFrame,
    by: str | Sequence[str] = ("model", "layer"),
    *,
    words: Sequence[str] | None = None,
    kinds: Sequence[str] | None = ("metamer",),
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Information that answers transmit about the word spoken (Miller and Nicely, 1955).

    T = H(word) + H(answer) - H(word, answer), of all trials pooled; `relative` is T / H(word). Few
    trials make T too large, by (filled rows - 1) (filled columns - 1) / (2 N ln 2) bits (Miller,
    1955), which `bits_corrected` takes away. Unlike the share of right answers, T is 0 for who
    always says the same word, and full for who confuses words one to one.

    Args:
        table: Trials with participant, word and response, and the columns of `by`.
        by: Columns to count apart.
        words: The choices; None: those that occur.
        kinds: Rows to use of a table with a column `kind`; None for all.
        confidence: Of the intervals of bits_corrected: jackknife over listeners.

    Returns:
        A row per combination, with the columns of `by`; n counts trials. NaN and a reason where
        undefined.

    Raises:
        ValueError: An unknown column or word.
    """
    intervals.check_share(confidence, "confidence")
    by = tables.as_names(by, "by")
    counts, groups, _, _ = _counts(table, by, words, kinds)
    rows = []
    for label, of_listeners in zip(groups, counts, strict=True):
        present = of_listeners.sum(axis=(1, 2)) > 0
        square = of_listeners.sum(axis=0)
        row: dict[str, Any] = dict(zip(by, label, strict=True))
        row |= {"unit": "trial", "n": int(square.sum()), "listeners": int(present.sum())}
        information, correction = _information(square)
        entropy = float(scipy.stats.entropy(square.sum(axis=1), base=2))
        row |= {"bits": information, "bits_corrected": information - correction}
        row |= {"stimulus_bits": entropy, "reason": ""}
        if entropy > 0:
            row |= {"relative": information / entropy}
            row |= {"relative_corrected": row["bits_corrected"] / entropy}
        else:
            row["reason"] = "one word was spoken"
        if present.sum() > 2:
            each = [_information(square - own) for own in of_listeners[present]]
            left_out = np.array([bits - too_many for bits, too_many in each])
            ends = intervals.jackknife(row["bits_corrected"], [left_out], confidence)
            row["ci_low"], row["ci_high"] = ends
        else:
            row["reason"] = row["reason"] or "fewer than three listeners: no interval"
        rows.append(row)
    return pd.DataFrame(rows, columns=[*by, *INFORMATION_COLUMNS])


def _counts(table, by, words, kinds):
    """Answers [group, listener, word, response], the groups, the words and the responses."""
    tables.check_columns(table, ["participant", "word", "response", *by])
    table = tables.only_kinds(table, kinds)
    who, listeners = tables.subjects(table, ["participant"])
    flat, labels, words, responses = scores.count_answers(
        table.assign(_listener=who), [*by, "_listener"], words, None
    )
    groups = list(dict.fromkeys(label[:-1] for label in labels))
    counts = np.zeros((len(groups), len(listeners), len(words), len(responses)))
    for square, label in zip(flat, labels, strict=True):
        counts[groups.index(label[:-1]), label[-1]] = square
    return counts, groups, words, responses


def _information(square: np.ndarray) -> tuple[float, float]:
    """Bits transmitted, and how many of them few trials make by chance: [word, response] counts."""
    total = square.sum()
    if total == 0:
        return np.nan, np.nan
    rows, columns = square.sum(axis=1), square.sum(axis=0)
    bits = sum(scipy.stats.entropy(side, base=2) for side in (rows, columns))
    bits -= scipy.stats.entropy(square.ravel(), base=2)
    degrees = (np.count_nonzero(rows) - 1) * (np.count_nonzero(columns) - 1)
    return float(max(bits, 0.0)), degrees / (2 * total * np.log(2))


def response_bias(
    table: pd.DataFrame,
    *,
    words: Sequence[str] | None = None,
    kinds: Sequence[str] | None = ("metamer",),
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Which words are answered more often than they are spoken.

    bias = a listener's share of answers that are the word, less the share of trials that spoke it;
    t over listeners, Holm over words.

    Args:
        table: Trials with participant, word and response.
        words: The choices; None: those that occur.
        kinds: Rows to use of a table with a column `kind`; None for all.
        confidence: Of the BCa intervals over listeners.
        resamples: Bootstrap samples of listeners.
        seed: Of the bootstrap.

    Returns:
        A row per word; share_of_errors is that of all wrong answers which are the word (trials
        pooled); n counts listeners. NaN and a reason where undefined.

    Raises:
        ValueError: An unknown column or word.
    """
    counts, _, spoken, answered = _counts(table, [], words, kinds)
    counts = counts[0]
    totals = counts.sum(axis=(1, 2))
    errors = counts.sum(axis=0)
    errors[: len(spoken), : len(spoken)] -= np.diag(np.diag(errors[:, : len(spoken)]))
    rows = []
    for i, word in enumerate(spoken):
        here = counts[:, i].sum(axis=1) / totals
        given = counts[:, :, answered.index(word)].sum(axis=1) / totals
        bias = given - here
        row: dict[str, Any] = {"word": word, "spoken_share": here.mean(), "unit": "participant"}
        row |= {"answered_share": given.mean(), "bias": bias.mean(), "n": len(bias), "reason": ""}
        if errors.sum():
            row["share_of_errors"] = errors[:, answered.index(word)].sum() / errors.sum()
        if len(bias) < 2 or np.ptp(bias) < 1e-12:
            row["reason"] = "one listener" if len(bias) < 2 else "zero variance"
        else:
            row["ci_low"], row["ci_high"] = intervals.bca(bias, confidence, resamples, seed)
            test = scipy.stats.ttest_1samp(bias, 0)
            row |= {"statistic": float(test.statistic), "p": float(test.pvalue)}
        rows.append(row)
    found = pd.DataFrame(rows, columns=list(BIAS_COLUMNS))
    return found.assign(p_holm=intervals.correct(found["p"].to_numpy(float)))


def confusion_similarity(
    people: pd.DataFrame,
    machines: pd.DataFrame,
    *,
    words: Sequence[str] | None = None,
    kinds: Sequence[str] | None = ("metamer",),
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Do people and networks take words for the same other words?

    The shares of each wrong word among the answers to a word, correlated over all pairs of
    different words that were spoken to both.

    Args:
        people: Trials with participant, model, word and response.
        machines: The same of machines or generating networks.
        words: The choices; None: those that occur in either.
        kinds: Rows to use of tables with a column `kind`; None for all.
        confidence: Of the intervals of pearson_r: jackknife over people, on Fisher's z.

    Returns:
        A row "all", then one per model whose metamers both heard; n counts pairs of words. NaN and
        a reason where undefined.

    Raises:
        ValueError: An unknown column or word.
    """
    people, machines = (tables.only_kinds(table, kinds) for table in (people, machines))
    if words is None:
        heard = [set(t["word"]) | set(t["response"].dropna()) for t in (people, machines)]
        words = sorted(set.union(*heard) - {""})
    common = sorted(set(people["model"]) & set(machines["model"]))
    rows = []
    for model in ["all", *(common if len(common) > 1 else [])]:
        row: dict[str, Any] = {"model": model, "unit": "pair of words", "reason": ""}
        sides = [t if model == "all" else t[t["model"] == model] for t in (people, machines)]
        counts = [_counts(side, [], words, None)[0][0][:, :, : len(words)] for side in sides]
        off = ~np.eye(len(words), dtype=bool)
        profiles = [_errors(c.sum(axis=0))[off] for c in counts]
        both = np.isfinite(profiles[0]) & np.isfinite(profiles[1])
        row |= {"n": int(both.sum()), "listeners": len(counts[0]), "machines": len(counts[1])}
        for name, of_side in (("listeners", counts[0]), ("machines", counts[1])):
            row[f"errors_{name}"] = int(of_side.sum(axis=0)[off].sum())
        r = reliability.row_correlations(profiles[0][None], profiles[1][None])[0]
        if not np.isfinite(r):
            rows.append(row | {"reason": "no errors, or fewer than three pairs of words"})
            continue
        spearman = scipy.stats.spearmanr(profiles[0][both], profiles[1][both]).statistic
        row |= {"pearson_r": float(r), "spearman_r": float(spearman)}
        if len(counts[0]) > 2 and abs(r) < 1:
            total = counts[0].sum(axis=0)
            left_out = np.stack([_errors(total - own)[off] for own in counts[0]])
            others = np.tile(profiles[1], (len(left_out), 1))
            each = reliability.row_correlations(left_out, others)
            ends = intervals.jackknife(float(r), [each], confidence, fisher=True)
            row["ci_low"], row["ci_high"] = ends
        else:
            row["reason"] = "fewer than three listeners: no interval"
        rows.append(row)
    return pd.DataFrame(rows, columns=list(SIMILARITY_COLUMNS))


def _errors(square: np.ndarray) -> np.ndarray:
    """Shares of answers to each word: [word, response]; NaN where a word was not spoken."""
    totals = square.sum(axis=1, keepdims=True)
    return np.where(totals > 0, square / np.maximum(totals, 1), np.nan)
