"""The paper's grouped network: convolved in time, connected within groups of frequencies."""

import flax.linen as nn

from metamer_jax.models import layers
from metamer_jax.models.frequency_dense import FrequencyDense


class FrequencyGrouped(FrequencyDense):
    """Convolutions over time whose features are frequencies, in groups of neighbours.

    No weight is shared along frequency, and the `groups` bands stay apart up to the dense layer.
    With eight words 1,866,376 trainable parameters. The pool is over frames and features.

    Attributes:
        groups: Bands of frequency; 1 connects every frequency to every other. Any count up to
            that of the frequencies: where it divides them (or the features of a convolution)
            unevenly, the first bands are larger by one.
    """

    groups: int = 8

    def __post_init__(self):
        super().__post_init__()
        for size in (self.input_shape[0], *self.conv_features):
            layers.grouped_runs(size, size, self.groups)  # Refuses too many.

    @nn.nowrap
    def convolution(self, features: int, name: str) -> nn.Module:
        """Makes one of the convolutions, of so many features."""
        return layers.Convolution(features, (self.kernel_size,), self.groups, name=name)
