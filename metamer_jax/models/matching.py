"""Controls: networks of the same number of parameters, or with stages of the same size.

    for match in match_networks("conv2d", ["frequency_grouped"], num_words=8):
        print(match)
        model = build_model(match.settings, num_words=8)

Nothing is initialised: sizes come from `jax.eval_shape`.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metamer_jax import models
from metamer_jax.models.base import WordNetwork

Settings = str | Mapping[str, Any]

_REPRESENTATIONS = (None, "dense", "every stage")


class Sizes(NamedTuple):
    """How large a network is."""

    parameters: int  # Trainable ones.
    stages: dict[str, int]  # Numbers in each stage of one sound, from the first convolution on.


class Match(NamedTuple):
    """A candidate with the widths that were chosen for it.

    Attributes:
        settings: For `build_model`.
        sizes: With these settings.
        parameter_distance: Parameters over the reference's, less 1.
        stage_distances: The same for the size of each stage that both have.
    """

    settings: dict[str, Any]
    sizes: Sizes
    parameter_distance: float
    stage_distances: dict[str, float]

    def __str__(self) -> str:
        settings = " ".join(f"{k}={v}" for k, v in self.settings.items() if k != "name")
        stages = ", ".join(
            f"{name} {self.sizes.stages[name]:,} ({distance:+.2%})"
            for name, distance in self.stage_distances.items()
        )
        return (
            f"{self.settings['name']} {settings}: {self.sizes.parameters:,} parameters "
            f"({self.parameter_distance:+.2%}); {stages}"
        )


def sizes(model: WordNetwork) -> Sizes:
    """Counts a network's trainable parameters and the numbers in its stages."""
    (_, stages), variables = _shapes(model)
    return Sizes(
        sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"])),
        {name: math.prod(a.shape) for name, a in stages.items() if name != "cochleagram"},
    )


def match_networks(
    reference: Settings,
    candidates: Sequence[Settings],
    *,
    num_words: int,
    parameters: bool = True,
    representation: str | None = None,
    tolerance: float = 1e-3,
) -> tuple[Match, ...]:
    """Chooses the candidates' widths so that they are as large as the reference.

    What `representation` asks for comes first: it fixes widths, at the nearest that there are.
    `parameters` then scales the remaining ones in proportion, and moves each by up to two steps
    to come closer. So both are met where widths remain; where none do ("every stage"), the
    representation is, and `parameter_distance` says how far the parameters are from it.

    Args:
        reference: As for `build_model`.
        candidates: As for `build_model`; of the networks' widths only proportions count.
        num_words: Number of logits.
        parameters: Match the number of trainable parameters.
        representation: Match the size of the stage "dense", of "every stage", or (None) of none.
        tolerance: Relative difference in parameters that is as good as none: within it the
            widths nearest to the candidate's own proportions are taken.

    Returns:
        One `Match` for each candidate, in order, with the distances that are left.

    Raises:
        ValueError: Nothing is to be matched, or the stages do not correspond, or `build_model`
            refuses a network, or one is not in the paper's frame (`models.WORD_NETWORKS`).
    """
    if representation not in _REPRESENTATIONS:
        raise ValueError(
            f"representation must be one of {_REPRESENTATIONS}, got {representation!r}"
        )
    if isinstance(candidates, (str, Mapping)):
        raise ValueError(f"candidates must be a list of networks, got {candidates!r}")
    if not parameters and representation is None:
        raise ValueError("parameters or representation must be given, got neither")
    goal = sizes(_built(reference, num_words))
    found = []
    for candidate in candidates:
        settings = {"name": candidate} if isinstance(candidate, str) else dict(candidate)
        model = _built(settings, num_words)
        widths = (*model.conv_features, model.dense_features)
        fixed = _fixed_widths(model, goal, representation)
        if parameters and len(fixed) < len(widths):
            widths = _with_parameters(model, goal.parameters, fixed, tolerance)
        else:
            widths = tuple(fixed.get(i, width) for i, width in enumerate(widths))
        settings |= {"conv_features": widths[:-1], "dense_features": widths[-1]}
        found.append(_match(settings, goal, num_words))
    return tuple(found)


def _built(settings: Settings, num_words: int) -> WordNetwork:
    model = models.build_model(settings, num_words)
    if not isinstance(model, WordNetwork):
        raise ValueError(f"only {tuple(models.WORD_NETWORKS)} can be matched, got {settings!r}")
    return model


def _match(settings: dict[str, Any], goal: Sizes, num_words: int) -> Match:
    own = sizes(_built(settings, num_words))
    distances = {
        name: own.stages[name] / size - 1
        for name, size in goal.stages.items()
        if name in own.stages
    }
    return Match(settings, own, own.parameters / goal.parameters - 1, distances)


def _shapes(model: WordNetwork) -> Any:
    """((logits, stages), variables) of one sound; at this size nothing is resized."""
    cochleagram = jax.ShapeDtypeStruct((1, *model.input_shape), jnp.float32)
    return jax.eval_shape(model.init_with_output, jax.random.key(0), cochleagram)


def _steps(model: WordNetwork) -> list[int]:
    """What each width is a multiple of: groups stay equal, and features are pooled evenly."""
    groups = getattr(model, "groups", 1)
    pooled = math.prod(model.pool[model.sampled_axes :])
    return [groups] * (len(model.conv_features) - 1) + [groups * pooled, 1]


def _fixed_widths(model: WordNetwork, goal: Sizes, representation: str | None) -> dict[int, int]:
    """The widths that the representation decides, by their index."""
    last = len(model.conv_features)
    if representation is None:
        return {}
    fixed = {last: goal.stages["dense"]}
    if representation == "every stage":
        own = sizes(model).stages
        if list(own) != list(goal.stages):
            raise ValueError(
                f"every stage of {type(model).__name__} must be one of the reference's, "
                f"{list(goal.stages)}, got {list(own)}"
            )
        for i, (width, step) in enumerate(zip(model.conv_features, _steps(model), strict=False)):
            stage = f"conv{i + 1}"
            wanted = goal.stages[stage] * width / own[stage]
            fixed[i] = step * max(1, round(wanted / step))
    return fixed


def _with_parameters(
    model: WordNetwork, goal: int, fixed: Mapping[int, int], tolerance: float
) -> tuple[int, ...]:
    """Widths with `fixed` among them that come closest to `goal` parameters."""
    own = (*model.conv_features, model.dense_features)
    law = _parameter_law(model)

    def scaled(factor):
        return [fixed.get(i, factor * width) for i, width in enumerate(own)]

    exact = scaled(_bisect(lambda factor: law(scaled(factor)), goal))
    choices = [
        [fixed[i]] if i in fixed else _multiples_near(width, step)
        for i, (width, step) in enumerate(zip(exact, _steps(model), strict=True))
    ]

    def distance(widths):
        parameters = abs(law(widths) / goal - 1)
        change = sum(math.log(a / b) ** 2 for a, b in zip(widths, exact, strict=True))
        return (max(parameters, tolerance), change)

    return min(itertools.product(*choices), key=distance)


def _parameter_law(model: WordNetwork) -> Callable[[Sequence[float]], float]:
    """The number of parameters as a function of the widths, convolutions first, dense last."""
    # A layer's weights are in proportion to its own width times the one before, its biases to its
    # own: the factors are read off the network as it is.
    _, variables = _shapes(model)
    own = (1, *model.conv_features, model.dense_features, model.num_words)
    names = (*(f"conv{i + 1}" for i in range(len(model.conv_features))), "dense", "logits")
    factors = []
    for name, (before, width) in zip(names, itertools.pairwise(own), strict=True):
        layer = {k: math.prod(leaf.shape) for k, leaf in variables["params"][name].items()}
        bias = layer.pop("bias")
        factors.append((sum(layer.values()) / (before * width), bias / width))

    def law(widths):
        line = itertools.pairwise((1, *widths, model.num_words))
        return sum(
            (weight * before + bias) * width
            for (weight, bias), (before, width) in zip(factors, line, strict=True)
        )

    return law


def _bisect(increasing: Callable[[float], float], goal: float) -> float:
    """Where a function of a positive factor reaches `goal`, or the end of the range nearest it."""
    low, high = 1e-4, 1e4
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if increasing(middle) < goal else (low, middle)
    return high


def _multiples_near(width: float, step: int) -> list[int]:
    nearest = round(width / step)
    return [step * i for i in range(nearest - 2, nearest + 3) if i >= 1] or [step]
