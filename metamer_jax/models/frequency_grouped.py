"""The paper's grouped network: convolved in time, connected within groups of frequencies."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from metamer_jax.models import base, layers


class FrequencyGrouped(base.WordNetwork):
    """Convolutions over time whose features are frequencies, in groups of neighbours.

    No weight is shared along frequency, and the `groups` bands stay apart up to the dense layer.
    With eight words 1,866,376 trainable parameters. The pool is over frames and features.

    Attributes:
        kernel_size: Extent of the convolutions over frames.
        groups: Bands of frequency; 1 connects every frequency to every other. Any count up to
            that of the frequencies: where it divides them (or the features of a convolution)
            unevenly, the first bands are larger by one.
    """

    conv_features: tuple[int, ...] = (128, 512)
    dense_features: int = 512
    kernel_size: int = 3
    groups: int = 8
    sampled_axes: ClassVar[int] = 1

    def __post_init__(self):
        super().__post_init__()
        for size in (self.input_shape[0], *self.conv_features):
            layers.grouped_runs(size, size, self.groups)  # Refuses too many.

    @nn.nowrap
    def arrange(self, image: jax.Array) -> jax.Array:
        """[batch, frame, frequency as feature]."""
        return jnp.swapaxes(image, -1, -2)

    @nn.nowrap
    def convolution(self, features: int, name: str) -> nn.Module:
        """Makes one of the convolutions, of so many features."""
        return layers.Convolution(features, (self.kernel_size,), self.groups, name=name)
