"""The paper's 2D network: time and frequency convolved together."""

import flax.linen as nn
import jax

from metamer_jax.models import base, layers


class Conv2D(base.WordNetwork):
    """3 x 3 convolutions over channels and frames, whose weights all frequencies share.

    With eight words 1,625,608 trainable parameters.

    Attributes:
        kernel_size: Extent of the convolutions over channels and frames.
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
        return layers.Convolution(features, self.kernel_size, name=name)
