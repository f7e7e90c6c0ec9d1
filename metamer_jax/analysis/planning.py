"""How many listeners does an experiment need? Power by simulation."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import scipy.special
import scipy.stats

from metamer_jax.analysis import intervals

_CHUNK = 4_000_000  # Numbers held at once: 32 MB.


def power(
    listeners: int | Sequence[int] = (5, 7, 10, 15, 20, 30),
    *,
    proportions: Sequence[float] = (0.32, 0.54),
    trials: int = 8,
    listener_sd: float = 0.5,
    model_sd: float = 0.3,
    item_sd: float = 0.0,
    items: int | None = None,
    alpha: float = 0.05,
    simulations: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Share of simulated experiments in which a paired t test finds a difference of two models.

    A listener's chance of a right answer is, in logits, that of the model's proportion, plus the
    listener's own deviation (the same for both models), plus one per listener and model, plus the
    metamer's; answers are independent given these. An experiment whose differences do not vary
    finds nothing.

    Metamers are sampled too. Where `items` of them are shared by all listeners, a difference that
    is only these metamers' is found over and over: with equal proportions, power is then the rate
    of false alarms of a test over listeners, and `mixed_model` is the remedy (Clark, 1973).

    Args:
        listeners: Numbers of listeners to try, each 2 or more.
        proportions: Of right answers to the two models' metamers, for the average listener; the
            default is the paper's dense layer.
        trials: Per listener and model.
        listener_sd: Of listeners, in logits.
        model_sd: Of listener by model, in logits: differences of models vary with sqrt(2) times it.
        item_sd: Of metamers, in logits.
        items: Metamers of each model, of which every listener hears `trials`, drawn without
            replacement; None: none is heard by two listeners.
        alpha: Two-sided level.
        simulations: Number of experiments for each number of listeners.
        seed: Of the simulation.

    Returns:
        A row per number of listeners: n, power, ci_low, ci_high (95 % Wilson interval of the
        simulation), unit, the arguments, and `assumptions` in words.

    Raises:
        ValueError: Naming the argument at fault.
    """
    sizes = list(listeners) if isinstance(listeners, Iterable) else [listeners]
    if not sizes:
        raise ValueError("listeners: expected at least one number of listeners, got none.")
    sizes = [intervals.check_count(n, "listeners", 2) for n in sizes]
    if np.shape(proportions) != (2,):
        raise ValueError(f"proportions: expected two, one per model, got {proportions!r}.")
    proportions = [intervals.check_share(p, "proportions") for p in proportions]
    intervals.check_count(trials, "trials", 1)
    intervals.check_count(simulations, "simulations", 1)
    intervals.check_share(alpha, "alpha")
    if items is not None and intervals.check_count(items, "items", 1) < trials:
        raise ValueError(f"items: expected at least as many as trials ({trials}), got {items}.")
    for argument, value in (
        ("listener_sd", listener_sd),
        ("model_sd", model_sd),
        ("item_sd", item_sd),
    ):
        if not np.isfinite(value) or value < 0:
            raise ValueError(f"{argument}: expected 0 or more (logits), got {value!r}.")
    settings = {
        "proportion_a": proportions[0],
        "proportion_b": proportions[1],
        "trials": trials,
        "listener_sd": listener_sd,
        "model_sd": model_sd,
        "item_sd": item_sd,
        "items": np.nan if items is None else items,
        "alpha": alpha,
        "simulations": simulations,
    }
    rows = []
    for n in sizes:
        rng = np.random.default_rng([seed, n])
        sds = (listener_sd, model_sd, item_sd)
        found = _experiments(n, proportions, trials, sds, items, alpha, simulations, rng)
        _, _, share, low, high, _ = intervals.proportion(found, 0.5, 0.95)
        words = (
            f"{n} listeners, {trials} trials per listener and model, right answers "
            f"{proportions[0]:.3g} and {proportions[1]:.3g} for the average listener, SD "
            f"{listener_sd:g} logit of listeners and {model_sd:g} logit of listener by model, "
            f"{_items_in_words(item_sd, items)}"
            f"answers independent given these, paired t test over listeners, "
            f"two-sided level {alpha:g}, one test; "
            f"{simulations} simulated experiments"
        )
        row = {"unit": "participant", "n": n, "power": share, "ci_low": low, "ci_high": high}
        rows.append(row | settings | {"assumptions": words})
    return pd.DataFrame(rows)


def _items_in_words(item_sd: float, items: int | None) -> str:
    if not item_sd:
        return ""
    shared = "each heard by one listener" if items is None else f"{items} of each model for all"
    return f"SD {item_sd:g} logit of metamers ({shared}), "


def _experiments(n, proportions, trials, sds, items, alpha, simulations, rng) -> np.ndarray:
    """Whether each simulated experiment found a difference: [simulation] 0 or 1."""
    listener_sd, model_sd, item_sd = sds
    logits = scipy.special.logit(proportions) + rng.normal(0, model_sd, (simulations, n, 2))
    logits += rng.normal(0, listener_sd, (simulations, n, 1))
    if not item_sd:
        correct = rng.binomial(trials, scipy.special.expit(logits))
    else:
        correct = np.empty((simulations, n, 2))
        for at in range(0, simulations, max(1, _CHUNK // (n * 2 * (items or trials)))):
            part = slice(at, at + max(1, _CHUNK // (n * 2 * (items or trials))))
            correct[part] = _with_items(logits[part], trials, item_sd, items, rng)
    difference = correct[..., 1] - correct[..., 0]
    spread = difference.std(axis=1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = difference.mean(axis=1) / (spread / np.sqrt(n))
    p = 2 * scipy.stats.t.sf(np.abs(t), n - 1)
    return ((spread > 0) & (p < alpha)).astype(float)


def _with_items(logits, trials, item_sd, items, rng) -> np.ndarray:
    """Right answers [simulation, listener, model] to metamers of their own difficulty."""
    shape = logits.shape
    if items is None:
        item = rng.normal(0, item_sd, (*shape, trials))
    else:
        pool = rng.normal(0, item_sd, (shape[0], 1, 2, items))
        heard = rng.random((*shape, items)).argsort(axis=-1)[..., :trials]
        item = np.take_along_axis(np.broadcast_to(pool, (*shape, items)), heard, axis=-1)
    share = scipy.special.expit(logits[..., None] + item)
    return (rng.random(share.shape) < share).sum(axis=-1)
