"""A curve in two numbers: the stage at which half is recognised, and how steeply it falls."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.optimize
import scipy.special

from metamer_jax.analysis import intervals, reliability, tables

COLUMNS = (
    *("model", "half_stage", "half_low", "half_high", "half_layers", "crossing", "slope"),
    *(
        "slope_low",
        "slope_high",
        "ceiling",
        "half_level",
        "rms_error",
        "layers",
        "unit",
        "n",
        "chance",
    ),
    "reason",
)
_STEEPEST = np.log(20.0)


def curve_summary(
    table: pd.DataFrame,
    *,
    chance: float,
    ceiling: float | None = None,
    kinds: Sequence[str] | None = ("metamer",),
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Fits each model's recognition by layer with a falling logistic curve.

        recognised(x) = chance + (ceiling - chance) / (1 + exp((x - half) k)),

    x the place of the layer, 0 the first; least squares (SciPy's `curve_fit`) on the mean over
    listeners. `half` is where recognition is halfway between ceiling and chance, `slope` the change
    of the share of right answers per layer there, -(ceiling - chance) k / 4. As it stands on a
    curve's shape, `crossing` is beside it: where the mean curve, drawn with straight lines, first
    falls below the half level.

    Args:
        table: Trials or proportions with participant, model, layer and correct.
        chance: Share of right answers by guessing: the curve's floor.
        ceiling: Its start, such as the recognition of natural sounds. None: fitted too, as people
            miss some of what is clear.
        kinds: Rows to use of a table with a column `kind`; None for all.
        confidence: Of the percentile intervals over listeners.
        resamples: Bootstrap samples of listeners; 0: no intervals.
        seed: Of the bootstrap.

    Returns:
        A row per model; `half_layers` names the layers that the half lies between. Listeners who
        lack a layer are left out; n counts the others. NaN and a reason where a curve does not
        cross the half level or cannot be fitted.

    Raises:
        ValueError: Naming the argument, column or row at fault.
    """
    intervals.check_share(chance, "chance")
    if ceiling is not None and not chance < ceiling <= 1:
        raise ValueError(f"ceiling: expected a share above chance {chance}, got {ceiling!r}.")
    table = tables.only_kinds(table, kinds)
    profiles = reliability.profiles(table)
    rows = []
    least = 3 if ceiling is not None else 4
    for model, layers in tables.own_layers(table).items():
        curves = profiles[[(model, layer) for layer in layers]].dropna().to_numpy(float)
        row: dict[str, Any] = {"model": model, "layers": len(layers), "unit": "participant"}
        row |= {"n": len(curves), "chance": chance, "reason": ""}
        if not len(curves) or len(layers) < least:
            few = f"fewer than {least} layers"
            rows.append(row | {"reason": few if len(curves) else "nobody heard all layers"})
            continue
        mean = curves.mean(axis=0)
        level = ((mean.max() if ceiling is None else ceiling) + chance) / 2
        if np.isnan(crossing(mean, level)):
            side = "never falls below" if mean[0] >= level else "starts below"
            rows.append(row | {"reason": f"the curve {side} half ({level:.3g})"})
            continue
        fit = _fit(mean, chance, ceiling, None)
        if fit is None:
            rows.append(row | {"reason": "the fit did not converge"})
            continue
        level = (fit.ceiling + chance) / 2
        row |= {"ceiling": fit.ceiling, "half_level": level, "crossing": crossing(mean, level)}
        row |= {"half_stage": fit.half, "slope": fit.slope(chance), "rms_error": fit.error}
        row["half_layers"] = _between(fit.half, layers)
        if len(curves) > 1 and resamples:
            row |= _intervals(curves, chance, ceiling, fit, confidence, resamples, seed)
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def crossing(curve: np.ndarray, level: float) -> float:
    """Where a curve [layer], joined by straight lines, first falls below a level; else NaN."""
    below = np.flatnonzero(curve < level)
    if not below.size or below[0] == 0:
        return np.nan
    i = int(below[0])
    return i - 1 + (curve[i - 1] - level) / (curve[i - 1] - curve[i])


class _Fit(NamedTuple):
    half: float
    k: float
    ceiling: float
    error: float  # Root mean square, shares of right answers.

    def slope(self, chance: float) -> float:
        return -(self.ceiling - chance) * self.k / 4


def _fit(mean: np.ndarray, chance: float, ceiling: float | None, start: _Fit | None) -> _Fit | None:
    """Least squares on a mean curve [layer]; None where it does not converge."""
    places = np.arange(len(mean), dtype=float)

    def top(free):
        if ceiling is not None:
            return ceiling
        return chance + (1 - chance) * scipy.special.expit(free[0])

    def logistic(x, half, log_k, *free):
        # Steeper than that, all that is known is between which layers it falls.
        k = np.exp(np.clip(log_k, -10.0, _STEEPEST))
        return chance + (top(free) - chance) * scipy.special.expit(-(x - half) * k)

    if start is None:
        highest = float(np.clip(mean.max(), chance + 0.02, 0.98))
        half = crossing(mean, (highest + chance) / 2)
        start = _Fit(len(mean) / 2 if np.isnan(half) else half, 1.5, highest, 0.0)
    share = np.clip((start.ceiling - chance) / (1 - chance), 0.01, 0.99)
    guess = [start.half, np.log(start.k)]
    guess += [] if ceiling is not None else [scipy.special.logit(share)]
    try:
        with warnings.catch_warnings():
            # No covariance of the parameters, where a step leaves the steepness open.
            warnings.simplefilter("ignore", scipy.optimize.OptimizeWarning)
            found = scipy.optimize.curve_fit(logistic, places, mean, p0=guess, maxfev=600)[0]
    except RuntimeError:
        return None
    half, log_k, *free = found
    error = float(np.sqrt(np.mean((logistic(places, half, log_k, *free) - mean) ** 2)))
    k = float(np.exp(np.clip(log_k, -10.0, _STEEPEST)))
    return _Fit(float(half), k, float(top(free)), error)


def _intervals(curves, chance, ceiling, start, confidence, resamples, seed) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    last = curves.shape[1]
    draws = []
    for who in rng.integers(0, len(curves), (resamples, len(curves))):
        fit = _fit(curves[who].mean(axis=0), chance, ceiling, start)
        if fit is not None:
            # A draw that does not cross within the network counts as beyond its end.
            draws.append((np.clip(fit.half, -1, last), fit.slope(chance)))
    if len(draws) < resamples / 2:
        return {"reason": "most bootstrap samples could not be fitted: no interval"}
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    (half_low, slope_low), (half_high, slope_high) = np.quantile(draws, tails, axis=0)
    row = {"half_low": half_low, "half_high": half_high}
    return row | {"slope_low": slope_low, "slope_high": slope_high}


def _between(half: float, layers: Sequence) -> str:
    if half < 0:
        return f"before {layers[0]}"
    if half > len(layers) - 1:
        return f"after {layers[-1]}"
    i = int(np.floor(half))
    return f"{layers[i]} to {layers[min(i + 1, len(layers) - 1)]}"
