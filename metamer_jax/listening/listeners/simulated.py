"""Simulated listeners, to try a whole experiment without people; labelled so wherever they appear.

A listener recognises a sound with probability sigmoid(a + b_listener + d_listener,model + i_sound).
The intercept a of each model and layer is set so that the probability averages to the curve that
was given, whatever the spread of the effects; who does not recognise picks another word.
"""

import dataclasses
import datetime
import functools
import math
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.optimize
import scipy.special

from metamer_jax.analysis import paper
from metamer_jax.configs.checks import check_fields, setting
from metamer_jax.listening import responses
from metamer_jax.listening.serving import sessions

SOURCE = "simulated"

PAPER_CURVES: Mapping[str, Mapping[str, float]] = types.MappingProxyType(
    {
        model: {layer: right / paper.TRIALS for layer, right in counts.items()}
        for model, counts in paper.CORRECT.items()
    }
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListenerModel:
    """How simulated listeners answer; standard deviations in logit."""

    listener_sd: float = setting(0.5, "Between listeners.", at_least=0)
    # Differences between models vary by sqrt(2) times as much.
    model_sd: float = setting(0.3, "Between a listener's models.", at_least=0)
    item_sd: float = setting(0.5, "Between sounds.", at_least=0)
    natural: float = setting(1.0, "Natural sounds that are recognised.", at_least=0, at_most=1)
    careless: int = setting(0, "First listeners, who only guess: to be excluded.", at_least=0)
    without_headphones: int = setting(0, "Next ones, who fail the headphone check.", at_least=0)

    def __post_init__(self):
        check_fields(self)


def simulate(
    experiment: sessions.Experiment,
    num_listeners: int,
    curves: Mapping[str, Mapping[str, float]] | None = None,
    model: ListenerModel = ListenerModel(),
    *,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Lets simulated listeners take an experiment, each one condition, all equally often.

    Args:
        experiment: What they take.
        num_listeners: How many.
        curves: Recognition by network and layer, as probabilities. What is missing has the paper's
            value or, for networks and layers that the paper has not, falls evenly with depth from
            1 to chance.
        model: How much listeners and sounds differ.
        seed: The same seed gives the same answers; a listener's do not depend on how many follow.

    Returns:
        Sessions as the page would send them, with "simulated": true, which `responses` turns into
        source "simulated".

    Raises:
        ValueError: A curve is not a probability, or names what the experiment does not have.
    """
    if not sessions.is_whole(num_listeners) or num_listeners < 1:
        raise ValueError(f"num_listeners must be at least 1, got {num_listeners!r}")
    key = responses.AnswerKey(experiment)
    curves = complete_curves(key, curves or {})
    return [
        _session(experiment, key, number, curves, model, seed) for number in range(num_listeners)
    ]


def complete_curves(
    key: responses.AnswerKey, given: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """Returns recognition by network and layer for every metamer of the experiment.

    Raises:
        ValueError: As `simulate`.
    """
    depth: dict[str, dict[str, float]] = {}
    for condition in key.experiment.conditions:
        for _, entry in key.stimuli(condition):
            if entry["kind"] == "metamer":
                layers = depth.setdefault(entry["model"], {})
                layers.setdefault(
                    entry["layer"],
                    len(layers) if entry["layer_index"] is None else entry["layer_index"],
                )
    for network, curve in given.items():
        unknown = set(curve) - set(depth.get(network, ()))
        if network not in depth or unknown:
            raise ValueError(
                f"curves name {network!r} {sorted(unknown) or ''}, and the experiment has metamers "
                f"of { ({name: sorted(layers) for name, layers in depth.items()}) }"
            )
        for layer, share in curve.items():
            if not (isinstance(share, (int, float)) and 0 <= share <= 1):
                raise ValueError(
                    f"curves[{network!r}][{layer!r}] must be a probability, got {share!r}"
                )
    chance = 1 / len(key.experiment.words)
    found = {}
    for network, layers in depth.items():
        known = {**PAPER_CURVES.get(network, {}), **given.get(network, {})}
        low, high = min(layers.values()), max(layers.values())
        found[network] = {
            layer: known.get(layer, 1 - (1 - chance) * (index - low) / max(high - low, 1))
            for layer, index in layers.items()
        }
    return found


def _session(experiment, key, number, curves, model, seed) -> dict[str, Any]:
    random = np.random.default_rng([seed, 1, number])
    condition = experiment.conditions[number % len(experiment.conditions)]
    spread = math.sqrt(model.listener_sd**2 + model.model_sd**2 + model.item_sd**2)
    bias = random.normal(0, model.listener_sd)
    leaning = {name: random.normal(0, model.model_sd) for name in sorted(curves)}
    careless = number < model.careless
    deaf = model.careless <= number < model.careless + model.without_headphones
    started = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
    trials, clock = [], started
    for stimulus, entry in key.stimuli(condition):
        if careless:
            share = 1 / len(experiment.words)
        elif entry["kind"] == "metamer":
            effect = bias + leaning[entry["model"]] + _item(seed, stimulus, model.item_sd)
            mean = curves[entry["model"]][entry["layer"]]
            share = scipy.special.expit(intercept(mean, spread) + effect)
        else:
            share = model.natural
        others = [word for word in experiment.words if word != entry["answer"]]
        right = random.random() < share or not others
        rt_ms = float(np.round(1000 * random.lognormal(0.1, 0.4)))
        clock += datetime.timedelta(milliseconds=1500 + rt_ms)
        trials.append(
            {
                "trial": entry["trial"],
                "stimulus_id": stimulus,
                "response": entry["answer"] if right else str(random.choice(others)),
                "choice_order": list(experiment.words),
                "rt_ms": rt_ms,
                "played_at": _iso(clock),
                "reloaded": False,
            }
        )
    return {
        **experiment.identity,
        "simulated": True,
        "session_id": f"simulated-{seed}-{number:04d}",
        "participant": f"simulated-{number:04d}",
        "condition": condition,
        "started": _iso(started),
        "finished": _iso(clock),
        "user_agent": "simulated listener",
        "headphone": {"answers": [], "passed": not deaf},
        "calibration_done": True,
        "trials": trials,
        "complete": True,
    }


def _iso(time: datetime.datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@functools.lru_cache(maxsize=100_000)
def _item(seed: int, stimulus: str, sd: float) -> float:
    """How much easier this sound is than others like it, to everybody: logit."""
    return float(np.random.default_rng([seed, 2, *stimulus.encode()]).normal(0, sd))


@functools.lru_cache(maxsize=10_000)
def intercept(mean: float, sd: float) -> float:
    """Returns a such that sigmoid(a + e), e normal with this standard deviation, averages `mean`.

    By Gauss-Hermite quadrature. 0 and 1 give minus and plus infinity.
    """
    if mean in (0.0, 1.0) or sd == 0:
        return float(scipy.special.logit(mean))
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    weights = weights / weights.sum()

    def excess(a):
        return float(weights @ scipy.special.expit(a + sd * nodes)) - mean

    found = scipy.optimize.root_scalar(excess, bracket=(-60, 60), method="brentq", xtol=1e-10)
    return float(found.root)
