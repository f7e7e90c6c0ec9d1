"""The exact model's view of sounds: what verification measures, made into tables.

Everything here is computed from the dense cochleagram in float32 at the highest matrix product
precision, whatever fast path made the metamers.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np

from metamer_jax import cochleagram
from metamer_jax.auditory import model as auditory
from metamer_jax.configs import CochleagramConfig
from metamer_jax.runtime import compilation

_NETWORK_BATCH = 64
_HEARD_AT_ONCE = 128  # Exact cochleagrams of a second weigh 170 kB each.


class Heard(NamedTuple):
    """Sounds as one network hears them."""

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
    """Computes exact cochleagrams [sound, channel, frame] of waveforms [sound, time]."""
    config = exact(config)
    filters = cochleagram.design_cochleagram(config)
    shape = (len(waveforms), config.num_channels, config.num_frames)
    out = np.empty(shape, np.float32)
    for rows, batch in _padded(waveforms, min(batch_size, len(waveforms))):
        with jax.default_matmul_precision("highest"):
            made = _cochleagrams(batch, filters, config=config)
        out[rows] = np.asarray(made)[: len(out[rows])]
        if on_batch is not None:
            on_batch(len(out[rows]))
    return out


_cochleagrams = compilation.jit(cochleagram.cochleagram, static_argnames="config")


def hear(
    model: nn.Module,
    variables: auditory.Variables,
    cochleagrams: np.ndarray,
    stages: Sequence[str] | None = None,
) -> Heard:
    """Runs a network on cochleagrams [sound, channel, frame], keeping some stages (None: all)."""
    compilation.make_room()
    stages = auditory.stage_names(model) if stages is None else tuple(stages)
    variables = auditory.without_filters(variables)
    predictions, kept = [], {stage: [] for stage in stages}
    for rows, batch in _padded(cochleagrams, min(_NETWORK_BATCH, len(cochleagrams))):
        logits, activations = _apply(variables, batch, model=model, stages=stages)
        count = len(cochleagrams[rows])
        predictions.append(np.argmax(np.asarray(logits)[:count], axis=-1))
        for stage in stages:
            kept[stage].append(np.asarray(activations[stage])[:count])
    return Heard(
        np.concatenate(predictions), {stage: np.concatenate(v) for stage, v in kept.items()}
    )


def recognize(
    networks: Sequence[tuple[nn.Module, auditory.Variables]],
    waveforms: np.ndarray,
    config: CochleagramConfig,
    *,
    batch_size: int = 8,
    on_batch: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Lets several networks hear the same sounds, through the exact cochleagram.

    Args:
        networks: (module, variables) of each.
        waveforms: [sound, time], at the level at which they are to be heard.
        config: Of the cochleagram.
        batch_size: Cochleagrams made at once.
        on_batch: Called with the number of sounds of which cochleagrams were made.

    Returns:
        [network, sound] int, index of the word that each hears.
    """
    found = np.empty((len(networks), len(waveforms)), int)
    for start in range(0, len(waveforms), _HEARD_AT_ONCE):
        rows = slice(start, min(start + _HEARD_AT_ONCE, len(waveforms)))
        cochleagrams = dense_cochleagrams(
            waveforms[rows], config, batch_size=batch_size, on_batch=on_batch
        )
        for i, (model, variables) in enumerate(networks):
            found[i, rows] = hear(model, variables, cochleagrams, stages=()).predictions
    return found


@functools.partial(jax.jit, static_argnames=("model", "stages"))
def _apply(variables, batch, *, model, stages):
    with jax.default_matmul_precision("highest"):
        logits, activations = model.apply(variables, batch)
    return logits, {stage: activations[stage] for stage in stages}


def _padded(values: np.ndarray, size: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields batches of one size, the last one padded, and which rows each holds."""
    for start in range(0, len(values), size):
        rows = slice(start, min(start + size, len(values)))
        batch = values[rows]
        missing = size - len(batch)
        yield rows, np.pad(batch, [(0, missing)] + [(0, 0)] * (values.ndim - 1), mode="edge")
