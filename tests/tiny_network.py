"""A network with a batch norm that compiles in a moment, and clips of two words for it."""

import jax.numpy as jnp
import numpy as np

from metamer_jax import training
from metamer_jax.models import blocks


class Tiny(blocks.CochleagramNetwork):
    """Batch norm, a convolution, a mean over frames, the words."""

    @property
    def stage_names(self):
        return ("cochleagram", "relu0", "final")

    def respond(self, x, stages, *, relu, train):
        x = blocks.batch_norm(train, "batchnorm0")(x[..., None])
        x = blocks.Convolution(4, (3, 3), (2, 2), name="conv0")(x)
        x = stages["relu0"] = relu(x, "relu0")
        x = jnp.mean(x, axis=2).reshape(len(x), -1)
        return blocks.dense(self.num_words, "classification")(x)


def clips(num_clips, seed):
    """Cochleagrams 20 x 20, mean about 3, of two words that differ in where their energy is."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, num_clips)
    inputs = rng.gamma(9.0, 1 / 3, (num_clips, 20, 20))
    for i, label in enumerate(labels):
        inputs[i, 10 * label : 10 * label + 5] += 1.0
    return training.Examples(inputs.astype(np.float32), labels)
