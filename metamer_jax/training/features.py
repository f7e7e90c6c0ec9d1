"""Cochleagrams of clips in batches, and the statistics that standardise them."""

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from metamer_jax.models import Grid, Network
from metamer_jax.runtime import compilation


def compute_features(
    feature_fn: Callable[[jax.Array], jax.Array], waveforms: np.ndarray, *, batch_size: int = 64
) -> np.ndarray:
    """Applies [batch, time] -> [batch, channel, frame] to waveforms [clip, time] in batches."""
    features = [
        _features(jax.tree_util.Partial(feature_fn), jnp.asarray(batch))[:size]
        for batch, size in padded_batches(waveforms, batch_size)
    ]
    return np.concatenate([np.asarray(each) for each in features])


@compilation.jit
def _features(feature_fn, waveforms):
    return feature_fn(waveforms)


def fit_normalization(
    model: Network, features: np.ndarray, *, grid: Grid | None = None, batch_size: int = 256
) -> dict[str, jax.Array]:
    """The scalar mean and variance of the resized training inputs, as Keras's `adapt`.

    Args:
        model: Resizes.
        features: [clip, channel, frame].
        grid: What `features` hold, if not everything.
        batch_size: Clips resized at a time.

    Returns:
        The collection "normalization": mean, variance, count (of points).
    """
    total = squares = count = 0.0
    for start in range(0, len(features), batch_size):
        batch = jnp.asarray(features[start : start + batch_size])
        image = np.asarray(_resized(batch, model=model, grid=grid), np.float64)
        total, squares, count = total + image.sum(), squares + (image**2).sum(), count + image.size
    mean = total / count
    return {
        "mean": jnp.float32(mean),
        "variance": jnp.float32(squares / count - mean**2),
        "count": jnp.int32(count),
    }


@functools.partial(jax.jit, static_argnames=("model", "grid"))
def _resized(features, *, model, grid):
    return model.resized(features, grid)


def padded_batches(inputs: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Batches of one size, the last filled up, with the number of clips that count."""
    for start in range(0, len(inputs), batch_size):
        batch = np.asarray(inputs[start : start + batch_size])
        size = len(batch)
        if size < batch_size and start > 0:
            batch = np.concatenate([batch, np.repeat(batch[:1], batch_size - size, axis=0)])
        yield batch, size
