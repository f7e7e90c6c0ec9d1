"""Convolved in time, locally connected in frequency: neighbours only, weights not shared."""

import flax.linen as nn
import jax

from metamer_jax.models import base, layers


class FrequencyLocal(base.WordNetwork):
    """The 2D network's 3 x 3 kernels, other ones at every frequency.

    With eight words 2,134,280 trainable parameters, and stages of the 2D network's sizes.

    Attributes:
        kernel_size: Extent of the kernels over channels and frames.
    """

    conv_features: tuple[int, ...] = (32, 64)
    dense_features: int = 128
    kernel_size: tuple[int, int] = (3, 3)

    @nn.nowrap
    def arrange(self, image: jax.Array) -> jax.Array:
        """[batch, channel, frame, one feature]."""
        return image[..., None]

    @nn.nowrap
    def convolution(self, features: int, name: str) -> nn.Module:
        """Makes one of the convolutions, of so many features."""
        return layers.LocallyConnected(features, self.kernel_size, name=name)
