"""The exact model's view of sounds: what verification measures, made into tables.

Everything here is computed from the dense cochleagram in float32 at the highest matrix product
precision, whatever fast path made the metamers.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from metamer_jax import cochleagram
from metamer_jax.auditory import model as auditory
from metamer_jax.configs import CochleagramConfig
from metamer_jax.runtime import compilation
from metamer_jax.runtime.batches import in_batches

_NETWORK_BATCH = 64
_HEARD_AT_ONCE = 128  # Exact cochleagrams of a second weigh 170 kB each.


class Responses(NamedTuple):
    """What one network does with sounds."""

    predictions: np.ndarray  # [sound] int, index of the word.
    activations: dict[str, np.ndarray]  # Stage -> [sound, ...].


def exact(config: CochleagramConfig) -> CochleagramConfig:
    """Returns the config of the exact cochleagram."""
    return dataclasses.replace(config, method="dense")


def dense_cochleagrams(
    waveforms: np.ndarray,
    config: CochleagramConfig,
    *,
    batch_size: int = 8,
    on_batch: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Computes exact cochleagrams.

    Args:
        waveforms: Sounds [sound, time].
        config: Settings of the cochleagram, whose method is not used.
        batch_size: Number of cochleagrams made at once.
        on_batch: Function called with the number of cochleagrams that a batch made.

    Returns:
        [sound, channel, frame] float32.
    """
    config = exact(config)
    filters = cochleagram.design_cochleagram(config)
    make = functools.partial(_cochleagrams, filters=filters, config=config)
    with jax.default_matmul_precision("highest"):
        return in_batches(make, waveforms, batch_size, on_batch)


_cochleagrams = compilation.jit(cochleagram.cochleagram, static_argnames="config")


@dataclasses.dataclass(eq=False)
class Sounds:
    """Sounds, and their exact cochleagrams once a network asks for them.

    Networks of this project hear cochleagrams. A model that says `hears_waveforms` (one of
    somebody else's, as a run folder keeps it) is given the sounds themselves.

    Attributes:
        waveforms: [sound, time].
        config: Settings of the cochleagrams.
        batch_size: Number of cochleagrams made at once.
        on_batch: Function called with the number of sounds of each batch, once for every sound.
    """

    waveforms: np.ndarray
    config: CochleagramConfig
    _: dataclasses.KW_ONLY
    batch_size: int = 8
    on_batch: Callable[[int], None] | None = None

    def __len__(self) -> int:
        return len(self.waveforms)

    @functools.cached_property
    def cochleagrams(self) -> np.ndarray:
        """Exact cochleagrams [sound, channel, frame]."""
        on_batch, self.on_batch = self.on_batch, None
        return dense_cochleagrams(
            self.waveforms, self.config, batch_size=self.batch_size, on_batch=on_batch
        )

    def heard_by(self, model: auditory.Listener) -> np.ndarray:
        """What a model is given of them: [sound, time], or [sound, channel, frame]."""
        if not hears_waveforms(model):
            return self.cochleagrams
        on_batch, self.on_batch = self.on_batch, None
        if on_batch is not None:
            on_batch(len(self))
        return np.asarray(self.waveforms, np.float32)


def hears_waveforms(model: auditory.Listener) -> bool:
    """Says whether a model is given sounds where a network is given cochleagrams."""
    return getattr(model, "hears_waveforms", False)


def run_network(
    model: auditory.Listener,
    variables: auditory.Variables,
    sounds: np.ndarray | Sounds,
    stages: Sequence[str] | None = None,
) -> Responses:
    """Runs a network on sounds, or on their cochleagrams.

    Args:
        model: The network.
        variables: Its variables.
        sounds: Sounds, or their exact cochleagrams [sound, channel, frame].
        stages: Names of the stages to keep; None: all of them.

    Returns:
        The word that each sound is taken for, and the stages' activations.
    """
    cochleagrams = sounds.heard_by(model) if isinstance(sounds, Sounds) else sounds
    compilation.make_room()
    stages = auditory.stage_names(model) if stages is None else tuple(stages)
    variables = auditory.without_filters(variables)
    respond = functools.partial(_apply, variables, model=model, stages=stages)
    logits, activations = in_batches(respond, cochleagrams, _NETWORK_BATCH)
    return Responses(np.argmax(logits, axis=-1), {stage: activations[stage] for stage in stages})


def recognize(
    networks: Sequence[tuple[auditory.Listener, auditory.Variables]],
    waveforms: np.ndarray,
    config: CochleagramConfig,
    *,
    batch_size: int = 8,
    on_batch: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Lets several networks hear the same sounds, through the exact cochleagram.

    Args:
        networks: Module and variables of each network.
        waveforms: Sounds [sound, time], at the level at which they are to be heard.
        config: Settings of the cochleagram.
        batch_size: Number of cochleagrams made at once.
        on_batch: Function called with the number of cochleagrams that a batch made.

    Returns:
        [network, sound] int, index of the word that each hears.
    """
    found = np.empty((len(networks), len(waveforms)), int)
    for start in range(0, len(waveforms), _HEARD_AT_ONCE):
        rows = slice(start, min(start + _HEARD_AT_ONCE, len(waveforms)))
        sounds = Sounds(waveforms[rows], config, batch_size=batch_size, on_batch=on_batch)
        for i, (model, variables) in enumerate(networks):
            found[i, rows] = run_network(model, variables, sounds, stages=()).predictions
    return found


@functools.partial(jax.jit, static_argnames=("model", "stages"))
def _apply(variables, batch, *, model, stages):
    with jax.default_matmul_precision("highest"):
        logits, activations = model.apply(variables, batch)
    return logits, {stage: activations[stage] for stage in stages}
