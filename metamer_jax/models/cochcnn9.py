"""CochCNN9: the convolutional network of Kell et al. (2018) as Feather et al. (2023) train it."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from metamer_jax.models import blocks, layers

# Extent and stride of each convolution over channels and frames, and of the pools.
_KERNELS = (((7, 14), (3, 3)), ((4, 8), (2, 2)), *[((2, 5), (1, 1))] * 3)
_POOL, _POOL_STRIDES = (2, 5), (2, 2)


class CochCNN9(blocks.CochleagramNetwork):
    """Five convolutions, two max pools and an average pool, a dense layer, the words.

    Everything is padded as TensorFlow's "SAME" does. Batch norm on the input and after each max
    pool; no biases but in the dense layers. With the defaults, the cochleagram `feather2023` and
    794 words: 110,221,980 trainable parameters.

    Stages: `relu0` to `relu4` [channel, frame, feature], `avgpool` [channel, frame, feature],
    `relufc` [feature], `final` [word].

    Attributes:
        conv_features: Features of the five convolutions.
        dense_features: Width of the stage `relufc`.
        dropout_rate: Before the words.
        pooling: "max", or "hann": antialiased pools of the same strides (`layers.hann_pool`) in
            the place of the max pools.
    """

    conv_features: tuple[int, ...] = (96, 256, 512, 1024, 512)
    dense_features: int = 4096
    dropout_rate: float = 0.5
    pooling: str = "max"

    def __post_init__(self):
        super().__post_init__()
        if len(self.conv_features) != len(_KERNELS):
            raise ValueError(
                f"conv_features must be {len(_KERNELS)} widths, got {self.conv_features}"
            )

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Names of the stages, in processing order."""
        relus = (f"relu{i}" for i, _ in enumerate(_KERNELS))
        return ("cochleagram", *relus, "avgpool", "relufc", "final")

    @nn.nowrap
    def respond(
        self, x: jax.Array, stages: layers.Activations, *, relu: layers.Relu, train: bool
    ) -> jax.Array:
        """Computes the classes of cochleagrams and fills in `stages`; see the base class."""
        x = blocks.batch_norm(train, "batchnorm0")(x[..., None])
        for i, (features, (extent, stride)) in enumerate(
            zip(self.conv_features, _KERNELS, strict=True)
        ):
            x = blocks.Convolution(features, extent, stride, name=f"conv{i}")(x)
            x = stages[f"relu{i}"] = relu(x, f"relu{i}")
            if i < 2:
                x = blocks.batch_norm(train, f"batchnorm{i + 1}")(self._pooled(x))
        x = stages["avgpool"] = blocks.average_pool(x, _POOL, _POOL_STRIDES)
        # Laid out as the original, features first: the dense layer's weights fit.
        x = jnp.moveaxis(x, -1, 1).reshape(x.shape[0], -1)
        x = blocks.dense(self.dense_features, "fullyconnected")(x)
        x = stages["relufc"] = relu(x, "relufc")
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        return blocks.dense(self.num_words, "classification")(x)

    @nn.nowrap
    def _pooled(self, x: jax.Array) -> jax.Array:
        if self.pooling == "hann":
            return layers.hann_pool(x, _POOL_STRIDES)
        return blocks.max_pool(x, _POOL, _POOL_STRIDES)
