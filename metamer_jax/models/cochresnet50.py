"""CochResNet50: the residual network of He et al. (2016) on a cochleagram (Feather et al. 2023)."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from metamer_jax.models import blocks, layers

_EXPANSION = 4  # Features out of a block over those within.


class CochResNet50(blocks.CochleagramNetwork):
    """A 7 x 7 convolution, a pool, four groups of bottleneck blocks, an average, the words.

    As torchvision's `resnet50`, whose 3 x 3 convolutions have the stride, with one input in the
    place of three colours: with the defaults and 1,000 words 25,550,760 trainable parameters.

    Stages: `conv1_relu1` and `layer1` to `layer4` [channel, frame, feature], `avgpool` [feature],
    `final` [word].

    Attributes:
        features: Features of the first convolution; those within the blocks of the groups are as
            many, then doubled from group to group.
        block_counts: Blocks in each group.
        pooling: "max", or "hann": an antialiased pool of the same stride (`layers.hann_pool`).
    """

    features: int = 64
    block_counts: tuple[int, ...] = (3, 4, 6, 3)
    pooling: str = "max"

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Names of the stages, in processing order."""
        groups = (f"layer{i}" for i, _ in enumerate(self.block_counts, start=1))
        return ("cochleagram", "conv1_relu1", *groups, "avgpool", "final")

    @nn.nowrap
    def respond(
        self, x: jax.Array, stages: layers.Activations, *, relu: layers.Relu, train: bool
    ) -> jax.Array:
        """Computes the classes of cochleagrams and fills in `stages`; see the base class."""
        x = _convolution(self.features, 7, 2, "conv1")(x[..., None])
        x = blocks.batch_norm(train, "bn1")(x)
        x = stages["conv1_relu1"] = relu(x, "conv1_relu1")
        if self.pooling == "hann":
            x = layers.hann_pool(x, (2, 2))
        else:
            x = blocks.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for group, count in enumerate(self.block_counts, start=1):
            for i in range(count):
                block = Bottleneck(
                    self.features * 2 ** (group - 1),
                    stride=2 if i == 0 and group > 1 else 1,
                    name=f"layer{group}_{i}",
                )
                # The last ReLU of a group is the stage's, and the only one to be overridden.
                stage = f"layer{group}" if i == count - 1 else ""
                x = block(x, train=train, relu=lambda x, stage=stage: relu(x, stage))
            stages[f"layer{group}"] = x
        x = stages["avgpool"] = jnp.mean(x, axis=(1, 2))
        return blocks.dense(self.num_words, "fc")(x)


class Bottleneck(nn.Module):
    """Convolutions 1 x 1, 3 x 3, 1 x 1 around which the input is led, and added.

    Attributes:
        features: Features of the inner convolutions; four times as many leave the block.
        stride: Stride of the 3 x 3 convolution. The input is convolved where its shape must change.
    """

    features: int
    stride: int = 1

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool, relu: Callable[[jax.Array], jax.Array]
    ) -> jax.Array:
        """Maps [batch, channel, frame, feature] to the block's activation; `relu` is its last."""
        wide = _EXPANSION * self.features
        y = _convolution(self.features, 1, 1, "conv1")(x)
        y = nn.relu(blocks.batch_norm(train, "bn1")(y))
        y = _convolution(self.features, 3, self.stride, "conv2")(y)
        y = nn.relu(blocks.batch_norm(train, "bn2")(y))
        y = _convolution(wide, 1, 1, "conv3")(y)
        y = blocks.batch_norm(train, "bn3")(y)
        if self.stride > 1 or x.shape[-1] != wide:
            x = _convolution(wide, 1, self.stride, "downsample_0")(x)
            x = blocks.batch_norm(train, "downsample_1")(x)
        return relu(x + y)


def _convolution(features, extent, stride, name):
    """PyTorch's padding, equal on both sides also where a stride leaves points over."""
    pads = ((extent // 2, extent // 2),) * 2
    return blocks.Convolution(
        features,
        (extent, extent),
        (stride, stride),
        padding=pads,
        kernel_init=blocks.he_fan_out,
        name=name,
    )
