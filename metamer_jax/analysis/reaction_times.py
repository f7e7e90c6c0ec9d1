"""How long answers take, and what changes in the course of a session."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

from metamer_jax.analysis import intervals, scores, tables

COLUMNS = (
    *("geometric_mean_ms", "ci_low_ms", "ci_high_ms", "median_ms", "quartile_1_ms"),
    *("quartile_3_ms", "trials", "left_out", "unit", "n", "reason"),
)
ORDER_COLUMNS = (
    *("what", "part", "mean", "ci_low", "ci_high", "statistic", "df", "p", "unit", "n", "trials"),
    "reason",
)


def response_times(
    table: pd.DataFrame,
    by: str | Sequence[str] = ("model", "layer"),
    *,
    kinds: Sequence[str] | None = ("metamer",),
    shortest_ms: float = 0.0,
    longest_ms: float = np.inf,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Describes how long listeners took to answer.

    Times are skewed: a listener's typical time is the geometric mean, and the interval is that of
    t over listeners' mean logarithms. From the end of the sound, as the page records them.

    Args:
        table: Trials with participant and rt_ms, and the columns of `by` ("correct" among them
            tells right from wrong answers).
        by: Columns to tell apart.
        kinds: Rows to use of a table with a column `kind`; None for all.
        shortest_ms: Trials below are left out, and counted.
        longest_ms: Trials above are.
        confidence: Of the intervals.

    Returns:
        A row per combination, with the columns of `by`; median and quartiles are of trials pooled,
        n counts listeners. NaN and a reason where undefined.

    Raises:
        ValueError: An unknown column, no time at all, or an impossible argument.
    """
    intervals.check_share(confidence, "confidence")
    if not 0 <= shortest_ms < longest_ms:
        raise ValueError(f"shortest_ms: expected 0 to {longest_ms}, got {shortest_ms!r}.")
    by = tables.as_names(by, "by")
    table, times, usable = _timed(table, by, kinds, shortest_ms, longest_ms)
    cell, labels = scores.cells_of(table, by)
    who, _ = tables.subjects(table, ["participant"])
    rows = []
    for i, label in enumerate(labels):
        here = (cell == i) & usable
        row: dict[str, Any] = dict(zip(by, label, strict=True))
        row |= {"trials": int(here.sum()), "left_out": int(((cell == i) & ~usable).sum())}
        own = pd.Series(np.log(times[here])).groupby(who[here]).mean().to_numpy()
        row |= {"unit": "participant", "n": len(own), "reason": ""}
        if not len(own):
            rows.append(row | {"reason": "no time was recorded"})
            continue
        quartiles = np.quantile(times[here], [0.25, 0.5, 0.75])
        row |= dict(zip(("quartile_1_ms", "median_ms", "quartile_3_ms"), quartiles, strict=True))
        row["geometric_mean_ms"] = float(np.exp(own.mean()))
        low, high, reason = _t_interval(own, confidence)
        row |= {"ci_low_ms": np.exp(low), "ci_high_ms": np.exp(high), "reason": reason}
        rows.append(row)
    return pd.DataFrame(rows, columns=[*by, *COLUMNS])


def _timed(table, by, kinds, shortest_ms, longest_ms):
    """The table, its times and which of them are used."""
    tables.check_columns(table, list(dict.fromkeys(["participant", "rt_ms", *by])))
    table = tables.only_kinds(table, kinds)
    times = pd.to_numeric(table["rt_ms"], errors="coerce").to_numpy(float)
    if not np.isfinite(times).any():
        raise ValueError("no response time was recorded")
    usable = np.isfinite(times) & (times > 0) & (times >= shortest_ms) & (times <= longest_ms)
    return table, np.where(usable, times, np.nan), usable


def _t_interval(values: np.ndarray, confidence: float) -> tuple[float, float, str]:
    if len(values) < 2:
        return np.nan, np.nan, "one listener"
    half = scipy.stats.t.isf((1 - confidence) / 2, len(values) - 1) * scipy.stats.sem(values)
    return values.mean() - half, values.mean() + half, ""


def order_effects(
    table: pd.DataFrame,
    *,
    parts: int = 4,
    kinds: Sequence[str] | None = ("metamer",),
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Describes practice and fatigue: recognition and response time in the course of a session.

    Parts hold different metamers for each listener. So each answer is compared with the mean of its
    cell (model and layer) over all listeners: a part's row is the mean of its listeners' means of
    that difference, put back to the overall mean. The row "slope" is the mean over listeners of
    each one's regression on the place in the session (0 first, 1 last), with t over listeners.

    Args:
        table: Trials with participant, session, trial (the place in the session), model, layer,
            correct and, for times, rt_ms.
        parts: Equal parts of a session.
        kinds: Rows to use of a table with a column `kind`; None for all.
        confidence: Of the intervals, by t over listeners.

    Returns:
        For "recognition" (shares), and "response time" (natural logarithm of ms; none without
        times), a row per part and one "slope". NaN and a reason where undefined.

    Raises:
        ValueError: An unknown column, the order is not known, or the answers are proportions.
    """
    intervals.check_count(parts, "parts", 2)
    needed = ["participant", "session", "trial", "model", "layer", "correct"]
    tables.check_columns(table, needed)
    table = tables.only_kinds(table, kinds)
    correct = tables.numbers(tables.single_trials(table), "correct")
    if table["trial"].isna().any():
        raise ValueError("the answers do not tell in which order sounds were heard")
    place = table.groupby(["participant", "session"])["trial"].rank(method="first")
    count = table.groupby(["participant", "session"])["trial"].transform("size")
    place = ((place - 1) / np.maximum(count - 1, 1)).to_numpy(float)
    part = np.minimum((place * parts).astype(int), parts - 1)
    who, keys = tables.subjects(table, ["participant"])
    cell, _ = tables.subjects(table, ["model", "layer"])
    measures = {"recognition": correct}
    if "rt_ms" in table and table["rt_ms"].notna().any():
        _, times, _ = _timed(table, [], kinds, 0.0, np.inf)
        measures["response time"] = np.log(times)
    rows = []
    for what, values in measures.items():
        here = np.isfinite(values)
        means = np.bincount(cell[here], values[here]) / np.maximum(np.bincount(cell[here]), 1)
        rest = values[here] - means[cell[here]]
        listener, at = who[here], place[here]
        about = {"what": what, "unit": "participant"}
        for i in range(parts):
            inside = part[here] == i
            own = pd.Series(rest[inside]).groupby(listener[inside]).mean().to_numpy()
            row: dict[str, Any] = about | {"part": str(i + 1), "n": len(own)}
            row["trials"] = int(inside.sum())
            if not len(own):
                rows.append(row | {"reason": "no trials"})
                continue
            own = own + values[here].mean()
            low, high, reason = _t_interval(own, confidence)
            row |= {"mean": own.mean(), "ci_low": low, "ci_high": high, "reason": reason}
            rows.append(row)
        slopes = []
        for i in range(len(keys)):
            mine = listener == i
            if mine.sum() > 2 and np.ptp(at[mine]) > 0:
                slopes.append(scipy.stats.linregress(at[mine], rest[mine]).slope)
        slopes = np.array(slopes)
        row = about | {"part": "slope", "n": len(slopes), "trials": int(here.sum())}
        if len(slopes) < 2 or np.ptp(slopes) < 1e-12:
            reason = "fewer than two listeners" if len(slopes) < 2 else "zero variance"
            rows.append(row | {"reason": reason})
            continue
        test = scipy.stats.ttest_1samp(slopes, 0)
        low, high, reason = _t_interval(slopes, confidence)
        row |= {"mean": slopes.mean(), "ci_low": low, "ci_high": high, "reason": reason}
        row |= {"statistic": float(test.statistic), "df": len(slopes) - 1, "p": float(test.pvalue)}
        rows.append(row)
    return pd.DataFrame(rows, columns=list(ORDER_COLUMNS))
