"""Convolved in time, locally connected in frequency: neighbours only, weights not shared."""

import flax.linen as nn

from metamer_jax.models import layers
from metamer_jax.models.conv2d import Conv2D


class FrequencyLocal(Conv2D):
    """The 2D network's 3 x 3 kernels, other ones at every frequency.

    With eight words 2,134,280 trainable parameters, and stages of the 2D network's sizes.
    """

    @nn.nowrap
    def convolution(self, features: int, name: str) -> nn.Module:
        """Makes one of the convolutions, of so many features."""
        return layers.LocallyConnected(features, self.kernel_size, name=name)
