"""Convolved in time, fully connected in frequency."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from metamer_jax.models import base, layers


class FrequencyDense(base.WordNetwork):
    """Convolutions over time whose features are frequencies, every one connected to every other.

    The grouped network with a single group. With eight words 2,049,160 trainable parameters.
    The pool is over frames and features.

    Attributes:
        kernel_size: Extent of the convolutions over frames.
    """

    conv_features: tuple[int, ...] = (128, 512)
    dense_features: int = 512
    kernel_size: int = 3
    sampled_axes: ClassVar[int] = 1

    @nn.nowrap
    def arrange(self, image: jax.Array) -> jax.Array:
        """[batch, frame, frequency as feature]."""
        return jnp.swapaxes(image, -1, -2)

    @nn.nowrap
    def convolution(self, features: int, name: str) -> nn.Module:
        """Makes one of the convolutions, of so many features."""
        return layers.Convolution(features, (self.kernel_size,), name=name)
