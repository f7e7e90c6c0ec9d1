"""What the networks have in common: from a cochleagram to logits, with a name for every stage."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from metamer_jax.models import layers


class Network(nn.Module):
    """A network on cochleagrams: says in `respond` how it maps them to logits.

    Variables: "params" holds what is trained; "normalization" the scalars mean, variance and
    count of the resized training inputs (`training.fit_normalization`).

    Attributes:
        num_words: Number of logits.
    """

    num_words: int

    def __post_init__(self):
        super().__post_init__()
        pooling = getattr(self, "pooling", "max")  # Of those that pool.
        if pooling not in ("max", "hann"):
            raise ValueError(f"pooling must be 'max' or 'hann', got {pooling!r}")

    @nn.nowrap
    def respond(
        self, x: jax.Array, stages: layers.Activations, *, relu: layers.Relu, train: bool
    ) -> jax.Array:
        """Maps [batch, channel, frame] to logits, and enters the stages but first and last."""
        raise TypeError(f"{type(self).__name__} must say how it responds")

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Names of the stages, in processing order."""
        raise TypeError(f"{type(self).__name__} must name its stages")

    @nn.nowrap
    def reads(self, num_channels: int, num_frames: int) -> layers.Grid | None:
        """The part that is read of a cochleagram of that size; None: everything."""
        return None

    @nn.nowrap
    def resized(self, cochleagram: jax.Array, grid: layers.Grid | None = None) -> jax.Array:
        """What is standardised: the cochleagram, or what a network resizes it to."""
        if grid is not None:
            raise ValueError(f"grid must be None, for the whole cochleagram is read, got {grid}")
        return cochleagram

    @nn.nowrap
    def variable_shapes(self, num_channels: int, num_frames: int) -> dict[str, Any]:
        """The variables for cochleagrams of a size, as `jax.ShapeDtypeStruct`s."""
        cochleagram = jax.ShapeDtypeStruct((1, num_channels, num_frames), jnp.float32)
        return jax.eval_shape(self.init, jax.random.key(0), cochleagram)

    @nn.compact
    def __call__(
        self,
        cochleagram: jax.Array,
        *,
        train: bool = False,
        straight_through: str | None = None,
        grid: layers.Grid | None = None,
    ) -> tuple[jax.Array, layers.Activations]:
        """Recognises words.

        Args:
            cochleagram: [batch, channel, frame] float32, the whole or what `grid` keeps of it. A
                network on the whole that has been initialised takes others of the same size.
            train: Drop units, which needs the rng "dropout", and let batch norms use the batch's
                statistics and change the running ones, which needs mutable "batch_stats".
            straight_through: Stage whose ReLU, if it ends in one, passes every gradient back.
            grid: Channels and frames that `cochleagram` holds, if not all, e.g. `reads(...)`.

        Returns:
            Logits [batch, word], and every stage's activation in processing order.

        Raises:
            ValueError: `straight_through` is not a stage, or `cochleagram` is not of the size
                that `grid` says or not a batch.
        """
        if straight_through is not None and straight_through not in self.stage_names:
            raise ValueError(
                f"straight_through must be one of {self.stage_names}, got {straight_through!r}"
            )
        if cochleagram.ndim != 3:
            raise ValueError(
                f"cochleagram must be [batch, channel, frame], got shape {cochleagram.shape}"
            )

        def relu(x, stage):
            return layers.relu(x, straight_through=stage == straight_through)

        stages = layers.Activations(cochleagram=cochleagram)
        x = self._standardized(self.resized(cochleagram, grid))
        logits = stages[self.stage_names[-1]] = self.respond(x, stages, relu=relu, train=train)
        return logits, stages

    @nn.nowrap
    def _standardized(self, x: jax.Array) -> jax.Array:
        mean = self.variable("normalization", "mean", jnp.zeros, ())
        variance = self.variable("normalization", "variance", jnp.ones, ())
        self.variable("normalization", "count", jnp.zeros, (), jnp.int32)
        return layers.standardize(x, mean.value, variance.value)


class WordNetwork(Network):
    """Resize, standardise, convolve, pool, a dense layer, the words.

    The frame of TensorFlow's simple audio recognition network, on a cochleagram. A network
    says in `arrange` and `convolution` how it is convolved; everything else it sets by fields.

    Attributes:
        input_shape: Channels and frames after the resize.
        antialias_resize: Low-pass before the resize; the paper does not.
        conv_features: Features of each convolution; each is a stage `conv1`, `conv2`, ...
        pool: Window of the pool, and its stride, over the axes after the batch.
        pooling: "max", or "hann": an antialiased pool (`layers.hann_pool`) over time and
            frequency; over features, whose order means nothing, the maximum is kept.
        dense_features: Width of the stage `dense`.
        dropout_rates: After the pool, and before the words.
    """

    input_shape: tuple[int, int] = (32, 32)
    antialias_resize: bool = False
    conv_features: tuple[int, ...] = ()
    pool: tuple[int, ...] = (2, 2)
    pooling: str = "max"
    dense_features: int = 128
    dropout_rates: tuple[float, float] = (0.25, 0.5)

    # How many axes after the batch are time or frequency; those behind them are features.
    sampled_axes: ClassVar[int] = 2

    @nn.nowrap
    def arrange(self, image: jax.Array) -> jax.Array:
        """Lays [batch, channel, frame] out for the convolutions."""
        raise TypeError(f"{type(self).__name__} must say how its input is arranged")

    @nn.nowrap
    def convolution(self, features: int, name: str) -> nn.Module:
        """The convolution of that name."""
        raise TypeError(f"{type(self).__name__} must say how it is convolved")

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Names of the stages, in processing order."""
        convolutions = (f"conv{i}" for i, _ in enumerate(self.conv_features, start=1))
        return ("cochleagram", *convolutions, "dense", "logits")

    @nn.nowrap
    def reads(self, num_channels: int, num_frames: int) -> layers.Grid | None:
        """The part that is read of a cochleagram of that size; None: everything."""
        return layers.resize_reads(
            num_channels, num_frames, self.input_shape, self.antialias_resize
        )

    @nn.nowrap
    def resized(self, cochleagram: jax.Array, grid: layers.Grid | None = None) -> jax.Array:
        """The image [..., *input_shape] that is standardised; of an image, itself."""
        if grid is None and cochleagram.shape[-2:] == self.input_shape:
            return cochleagram  # Exactly what weights of 0 and 1 would give.
        return layers.resize(
            cochleagram, self.input_shape, antialias=self.antialias_resize, grid=grid
        )

    @nn.nowrap
    def respond(
        self, x: jax.Array, stages: layers.Activations, *, relu: layers.Relu, train: bool
    ) -> jax.Array:
        """Computes the words' logits of images and fills in `stages`; see the base class."""
        x = self.arrange(x)
        for i, features in enumerate(self.conv_features, start=1):
            x = relu(self.convolution(features, f"conv{i}")(x), f"conv{i}")
            stages[f"conv{i}"] = x
        x = self._pooled(x)
        x = nn.Dropout(self.dropout_rates[0], deterministic=not train)(x)
        x = layers.dense(self.dense_features, "dense")(x.reshape(x.shape[0], -1))
        x = stages["dense"] = relu(x, "dense")
        x = nn.Dropout(self.dropout_rates[1], deterministic=not train)(x)
        return layers.dense(self.num_words, "logits")(x)

    @nn.nowrap
    def _pooled(self, x: jax.Array) -> jax.Array:
        if self.pooling == "max":
            return layers.max_pool(x, self.pool)
        sampled = min(self.sampled_axes, len(self.pool))
        # The maximum first: it makes new high frequencies, which the low-pass must still meet.
        x = layers.max_pool(x, (1,) * sampled + self.pool[sampled:])
        return layers.hann_pool(x, self.pool[:sampled])
