"""Sensitivity d' of same-different and ABX judgements.

Macmillan and Creelman (2005), Detection Theory: A User's Guide, chapter 9.
"""

import math

import numpy as np
import pandas as pd
import scipy.optimize
import scipy.stats

from metamer_jax.analysis import intervals

ANSWERS = {"same_different": ("same", "different"), "abx": ("first", "second")}
_MOST = 12.0  # d' beyond it cannot be told from certainty.
_phi = scipy.stats.norm.cdf


def dprime_same_different(hits: float, false_alarms: float) -> float:
    """Returns d' of a same-different task under the differencing model.

    A listener says "different" where the two impressions differ by more than a criterion k:
    F = 2 Phi(-k / sqrt 2), H = Phi((d' - k) / sqrt 2) + Phi((-d' - k) / sqrt 2).

    Args:
        hits: Share of "different" among different pairs, between 0 and 1.
        false_alarms: Share of "different" among same pairs, between 0 and 1.

    Returns:
        d', at least 0: where hits are no more frequent than false alarms.

    Raises:
        ValueError: A share does not lie strictly between 0 and 1.
    """
    intervals.check_share(hits, "hits")
    intervals.check_share(false_alarms, "false_alarms")
    if hits <= false_alarms:
        return 0.0
    k = -math.sqrt(2) * scipy.stats.norm.ppf(false_alarms / 2)

    def excess(d):
        return _phi((d - k) / math.sqrt(2)) + _phi((-d - k) / math.sqrt(2)) - hits

    return _solved(excess)


def dprime_abx(share_right: float) -> float:
    """Returns d' of an ABX task from the unbiased share of right answers.

    Independent-observation model:
    p = Phi(d' / sqrt 2) Phi(d' / 2) + Phi(-d' / sqrt 2) Phi(-d' / 2).

    Args:
        share_right: Share of right answers, between 0 and 1, as of a listener without bias.

    Returns:
        d', at least 0: where no more than half is right.

    Raises:
        ValueError: The share does not lie strictly between 0 and 1.
    """
    intervals.check_share(share_right, "share_right")
    if share_right <= 0.5:
        return 0.0

    def excess(d):
        a, b = d / math.sqrt(2), d / 2
        return _phi(a) * _phi(b) + _phi(-a) * _phi(-b) - share_right

    return _solved(excess)


def _solved(excess) -> float:
    if excess(_MOST) <= 0:
        return _MOST
    return float(scipy.optimize.root_scalar(excess, bracket=(0, _MOST), method="brentq").root)


def sensitivity(
    trials: pd.DataFrame,
    task: str,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Says how well listeners tell metamers from their recordings, by model and layer.

    The listener is the unit: d' of each, from shares of (n + 0.5) / (N + 1) (Hautus, 1995), so
    that nobody's is infinite; then the mean over listeners.

    Args:
        trials: Trial table of single answers to metamers; `response` is one of the task's.
        task: "same_different" or "abx".
        confidence: Coverage of the intervals.
        resamples: Bootstrap samples of listeners; 0: no intervals.
        seed: Seed of the bootstrap.

    Returns:
        model, layer, layer_index, task, d_prime, ci_low, ci_high (BCa over listeners), share_right,
        n (listeners), trials, unit.

    Raises:
        ValueError: There is no such task, or a response is none of its answers.
    """
    if task not in ANSWERS:
        raise ValueError(f"task must be one of {tuple(ANSWERS)}, got {task!r}")
    answered = trials[trials["correct"].notna()]
    yes, no = ANSWERS[task][::-1]  # "different" and "second" are the signal.
    unknown = set(answered["response"]) - {yes, no}
    if unknown:
        raise ValueError(f"response must be among {(no, yes)}, got {sorted(map(str, unknown))}")
    said = answered["response"] == yes
    signal = said == (answered["correct"] == 1)
    table = answered.assign(_said=said, _signal=signal)
    rows = []
    for (model, layer), cell in table.groupby(["model", "layer"], sort=False):
        values = np.array([_of_listener(own, task) for _, own in cell.groupby("participant")])
        low, high = intervals.bca(values, confidence, resamples, seed)
        rows.append(
            {
                **{"model": model, "layer": layer, "layer_index": cell["layer_index"].iloc[0]},
                **{"task": task, "d_prime": values.mean(), "ci_low": low, "ci_high": high},
                "share_right": cell.groupby("participant")["correct"].mean().mean(),
                **{"n": len(values), "trials": len(cell), "unit": "participant"},
            }
        )
    return pd.DataFrame(rows)


def _of_listener(trials: pd.DataFrame, task: str) -> float:
    def share(of):
        return (trials.loc[of, "_said"].sum() + 0.5) / (of.sum() + 1)

    hits, false_alarms = share(trials["_signal"]), share(~trials["_signal"])
    if task == "same_different":
        return dprime_same_different(hits, false_alarms)
    # The share right of a listener who leans to neither answer, as sensitive as this one.
    z = scipy.stats.norm.ppf
    return dprime_abx(float(_phi((z(hits) - z(false_alarms)) / 2)))
