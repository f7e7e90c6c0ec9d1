"""How a network does on clips as they are: features in batches, answers, a score."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metamer_jax.models import Grid, WordNetwork


class Evaluation(NamedTuple):
    """How a network does.

    Attributes:
        loss: Mean cross-entropy, nats.
        accuracy: Part of the clips recognised.
        confusion: [word, answer] counts.
        predictions: [clip] int, index of the word answered.
    """

    loss: float
    accuracy: float
    confusion: np.ndarray
    predictions: np.ndarray


def compute_features(
    feature_fn: Callable[[jax.Array], jax.Array], waveforms: np.ndarray, *, batch_size: int = 64
) -> np.ndarray:
    """Applies [batch, time] -> [batch, channel, frame] to waveforms [clip, time] in batches."""
    features = [
        _features(jax.tree_util.Partial(feature_fn), jnp.asarray(batch))[:size]
        for batch, size in padded_batches(waveforms, batch_size)
    ]
    return np.concatenate([np.asarray(each) for each in features])


@jax.jit
def _features(feature_fn, waveforms):
    return feature_fn(waveforms)


def evaluate(
    model: WordNetwork,
    variables: dict[str, Any],
    features: np.ndarray,
    labels: np.ndarray,
    *,
    grid: Grid | None = None,
    batch_size: int = 64,
) -> Evaluation:
    """Scores a network on plain clips.

    Args:
        model: The network.
        variables: {"params", "normalization"}.
        features: [clip, channel, frame].
        labels: [clip] int.
        grid: What `features` hold, if not everything.
        batch_size: Clips at a time; it does not change the result but for rounding.
    """
    logits = np.concatenate(
        [
            np.asarray(_logits(variables, jnp.asarray(batch), model=model, grid=grid))[:size]
            for batch, size in padded_batches(features, batch_size)
        ]
    ).astype(np.float64)
    labels = np.asarray(labels)
    with np.errstate(invalid="ignore"):  # A network that diverged has a loss of NaN.
        log_sum = np.logaddexp.reduce(logits, axis=1)
        loss = np.mean(log_sum - logits[np.arange(len(labels)), labels])
    predictions = logits.argmax(axis=1)
    confusion = np.zeros((model.num_words, model.num_words), np.int64)
    np.add.at(confusion, (labels, predictions), 1)
    return Evaluation(float(loss), float(np.mean(predictions == labels)), confusion, predictions)


@functools.partial(jax.jit, static_argnames=("model", "grid"))
def _logits(variables, features, *, model, grid):
    return model.apply(variables, features, grid=grid)[0]


def padded_batches(inputs: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Batches of one size, the last filled up, with the number of clips that count."""
    for start in range(0, len(inputs), batch_size):
        batch = np.asarray(inputs[start : start + batch_size])
        size = len(batch)
        if size < batch_size and start > 0:
            batch = np.concatenate([batch, np.repeat(batch[:1], batch_size - size, axis=0)])
        yield batch, size
