"""One auditory model: a cochleagram and a network on top of it.

    variables = auditory.init_variables(key, model, config)
    logits, stages = auditory.forward(model, variables, waveforms, config=config)
    stage = auditory.stage_fn(model, "conv2", config)   # (variables, waveform) -> activation

The cochleagram's filters live in the variables, beside the network's weights: jit takes them as
arguments, and one set of weights serves a dense and a multirate cochleagram.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from metamer_jax import cochleagram as cochleagrams
from metamer_jax.configs import CochleagramConfig
from metamer_jax.models.layers import Activations

Variables = Mapping[str, Any]

FILTERS = "filters"


class Listener(Protocol):
    """A network, or a model that is called as one (`own_models.saved.SavedModel`)."""

    @property
    def stage_names(self) -> Sequence[str]:
        """Names of the stages, in processing order."""

    def apply(self, variables: Any, sounds: Any, /) -> Any:
        """Returns logits and each stage's activation."""


def stage_names(model: Listener) -> tuple[str, ...]:
    """Names of the model's stages, in processing order, from `cochleagram` to `logits`."""
    return tuple(model.stage_names)


def init_variables(key: jax.Array, model: nn.Module, config: CochleagramConfig) -> Variables:
    """Makes an untrained model's variables, filters included."""
    shape = (1, config.num_channels, config.num_frames)
    return with_filters(model.init(key, jnp.zeros(shape)), model, config)


def with_filters(variables: Variables, model: nn.Module, config: CochleagramConfig) -> Variables:
    """Adds the filters that a config asks for to a network's variables.

    Args:
        variables: The network's own variables, or with other filters.
        model: The network.
        config: The cochleagram's settings.

    Returns:
        The variables with `FILTERS`: "full" makes the whole cochleagram, "read" only the channels
        and frames that the network reads (the same object where it reads everything).
    """
    full = cochleagrams.design_cochleagram(config)
    grid = _grid(model, config)
    read = full
    if grid is not None:
        read = cochleagrams.design_cochleagram(config, channels=grid.channels, frames=grid.frames)
    return {**variables, FILTERS: {"full": full, "read": read}}


def without_filters(variables: Variables) -> Variables:
    """Returns the network's own variables: what is worth saving."""
    return {name: value for name, value in variables.items() if name != FILTERS}


def forward(
    model: nn.Module, variables: Variables, waveforms: jax.Array, *, config: CochleagramConfig
) -> tuple[jax.Array, Activations]:
    """Runs the whole model.

    Args:
        model: The network.
        variables: From `init_variables` or `with_filters`, with the same config.
        waveforms: [batch, time], mean 0 and rms 0.1.
        config: The cochleagram's settings.

    Returns:
        Logits [batch, word], and every stage's activation [batch, ...] in processing order.
    """
    cochleagram = cochleagrams.cochleagram(waveforms, variables[FILTERS]["full"], config=config)
    # Nothing is mutable here, so that what the module returns is all there is.
    return model.apply(without_filters(variables), cochleagram)  # pyrefly: ignore[bad-return]: ^


def read_cochleagram(
    model: nn.Module, variables: Variables, waveform: jax.Array, *, config: CochleagramConfig
) -> jax.Array:
    """Computes only the part of the cochleagram that the network reads: `Grid.cut` of the whole.

    Args:
        model: The network.
        variables: From `init_variables` or `with_filters`, with the same config.
        waveform: [..., time].
        config: The cochleagram's settings.

    Returns:
        [..., channel read, frame read].
    """
    return cochleagrams.cochleagram(waveform, variables[FILTERS]["read"], config=config)


def feature_fn(model: nn.Module, config: CochleagramConfig) -> jax.tree_util.Partial:
    """Makes the function from sounds to the network's input, for training and attacks.

    Args:
        model: Network whose input it makes.
        config: The cochleagram's settings.

    Returns:
        Waveforms [batch, time] -> [batch, channel read, frame read]. The filters are among its
        arguments, so that a program compiled with it does not hold them as constants.
    """
    filters = with_filters({}, model, config)[FILTERS]["read"]
    return jax.tree_util.Partial(functools.partial(_features, config=config), filters)


def _features(filters, waveforms, *, config):
    return cochleagrams.cochleagram(waveforms, filters, config=config)


@dataclasses.dataclass(frozen=True)
class StageFn:
    """Maps (variables, waveform [time]) to the activation of one stage, without a batch axis.

    Equal settings make equal (and equally hashed) functions, so that jit compiles them once.
    """

    model: nn.Module
    stage: str
    config: CochleagramConfig
    relu_override: bool = False

    @property
    def coarse_levels(self) -> np.ndarray | None:
        """From which level of a coarse-to-fine synthesis on each part counts; None: always."""
        levels_of = getattr(self.model, "coarse_levels", None)
        return None if levels_of is None else levels_of(self.stage)

    def __call__(self, variables: Variables, waveform: jax.Array) -> jax.Array:
        """The stage's activation to one waveform [time]."""
        if self.stage == "cochleagram":
            return cochleagrams.cochleagram(
                waveform, variables[FILTERS]["full"], config=self.config
            )
        cochleagram = read_cochleagram(self.model, variables, waveform, config=self.config)
        _, stages = self.model.apply(
            without_filters(variables),
            cochleagram[None],
            grid=_grid(self.model, self.config),
            straight_through=self.stage if self.relu_override else None,
        )
        # Nothing is mutable here: these are the module's activations.
        return stages[self.stage][0]  # pyrefly: ignore[bad-return]: flax has either in mind


def stage_fn(
    model: nn.Module, stage: str, config: CochleagramConfig, *, relu_override: bool = False
) -> StageFn:
    """Makes the function from sound to one stage's activation, for `metamers.synthesize`.

    Args:
        model: The network.
        stage: One of `stage_names(model)`.
        config: The cochleagram's settings.
        relu_override: At this stage, let the gradient pass where the ReLU is off. The values are
            the same with and without.

    Returns:
        The function, with one hash for equal settings.

    Raises:
        ValueError: The model has no such stage.
    """
    if stage not in stage_names(model):
        raise ValueError(f"stage must be one of {stage_names(model)}, got {stage!r}")
    return StageFn(model, stage, config, relu_override)


def _grid(model, config):
    return model.reads(config.num_channels, config.num_frames)
