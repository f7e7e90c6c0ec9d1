"""How well a network recognises words, and the losses that attacks climb."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metamer_jax.models import Grid, Network
from metamer_jax.runtime.batches import in_batches

# Inputs [example, ...] to losses [example], each of its own input alone.
LossFn = Callable[[jax.Array], jax.Array]


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


def evaluate(
    model: Network,
    variables: dict[str, Any],
    features: np.ndarray | jax.Array,
    labels: np.ndarray | jax.Array,
    *,
    grid: Grid | None = None,
    batch_size: int = 64,
) -> Evaluation:
    """Scores a network on plain clips.

    Args:
        model: Network to be scored.
        variables: The network's own variables.
        features: [clip, channel, frame].
        labels: [clip] int.
        grid: Channels and frames that `features` hold, if not all.
        batch_size: Clips at a time; it does not change the result but for rounding.

    Returns:
        Loss, accuracy, confusions and answers.
    """
    respond = functools.partial(_logits, variables, model=model, grid=grid)
    logits = in_batches(respond, features, batch_size).astype(np.float64)
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


def cross_entropy(
    model: Network,
    variables: dict[str, Any],
    labels: jax.Array,
    *,
    feature_fn: Callable[[jax.Array], jax.Array] | None = None,
    grid: Grid | None = None,
) -> LossFn:
    """Makes the loss that training against perturbations lets rise, of a network without dropout.

    Args:
        model: Network to be scored.
        variables: The network's own variables.
        labels: [batch] int.
        feature_fn: From what is perturbed to cochleagrams; None: cochleagrams are.
        grid: Channels and frames that the cochleagrams hold, if not all.

    Returns:
        [batch, ...] -> [batch] cross-entropy, nats.
    """
    logits_fn = _logits_fn(model, variables, feature_fn, grid)

    def loss(inputs):
        return optax.softmax_cross_entropy_with_integer_labels(logits_fn(inputs), labels)

    return loss


def margin(
    model: Network,
    variables: dict[str, Any],
    labels: jax.Array,
    *,
    feature_fn: Callable[[jax.Array], jax.Array] | None = None,
    grid: Grid | None = None,
) -> LossFn:
    """Makes the margin by which an answer is wrong: best wrong logit less the right one.

    Carlini and Wagner (2017). Its gradient does not vanish where a network is sure of itself, as
    the cross-entropy's does.

    Args:
        model: Network to be attacked.
        variables: The network's own variables.
        labels: [batch] int.
        feature_fn: From what is perturbed to cochleagrams; None: cochleagrams are.
        grid: Channels and frames that the cochleagrams hold, if not all.

    Returns:
        [batch, ...] -> [batch] margin, logits.
    """
    logits_fn = _logits_fn(model, variables, feature_fn, grid)

    def loss(inputs):
        logits = logits_fn(inputs)
        right = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
        best_wrong = jnp.max(jnp.where(right, -jnp.inf, logits), axis=-1)
        return best_wrong - jnp.max(jnp.where(right, logits, -jnp.inf), axis=-1)

    return loss


def _logits_fn(model, variables, feature_fn, grid):
    def logits(inputs):
        features = inputs if feature_fn is None else feature_fn(inputs)
        return model.apply(variables, features, grid=grid)[0]

    return logits
