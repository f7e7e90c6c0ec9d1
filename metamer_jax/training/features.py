"""Cochleagrams of clips in batches, and the statistics that standardise them."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from metamer_jax.models import Grid, Network
from metamer_jax.runtime import compilation
from metamer_jax.runtime.batches import in_batches


def compute_features(
    feature_fn: Callable[[jax.Array], jax.Array],
    waveforms: np.ndarray | jax.Array,
    *,
    batch_size: int = 64,
) -> np.ndarray:
    """Computes the cochleagrams of many clips.

    Args:
        feature_fn: [batch, time] -> [batch, channel, frame].
        waveforms: [clip, time].
        batch_size: Clips at a time.

    Returns:
        [clip, channel, frame].
    """
    feature_fn = jax.tree_util.Partial(feature_fn)
    return in_batches(functools.partial(_features, feature_fn), waveforms, batch_size)


@compilation.jit
def _features(feature_fn, waveforms):
    return feature_fn(waveforms)


def fit_normalization(
    model: Network,
    features: np.ndarray | jax.Array,
    *,
    grid: Grid | None = None,
    batch_size: int = 256,
) -> dict[str, jax.Array]:
    """Fits the scalar mean and variance of the resized training inputs, as Keras's `adapt`.

    Args:
        model: Network whose resize is applied.
        features: [clip, channel, frame].
        grid: Channels and frames that `features` hold, if not all.
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
