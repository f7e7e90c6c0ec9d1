"""Networks: Flax modules that return logits and every named stage.

model = build_model("conv2d", num_words=8)
variables = model.init(key, cochleagram)             # [batch, channel, frame]
logits, stages = model.apply(variables, cochleagram)
"""

import types
from collections.abc import Mapping, Sequence
from typing import Any

from metamer_jax.models.base import Network, WordNetwork
from metamer_jax.models.blocks import CochleagramNetwork
from metamer_jax.models.cochcnn9 import CochCNN9
from metamer_jax.models.cochresnet50 import CochResNet50
from metamer_jax.models.conv2d import Conv2D
from metamer_jax.models.frequency_dense import FrequencyDense
from metamer_jax.models.frequency_grouped import FrequencyGrouped
from metamer_jax.models.frequency_local import FrequencyLocal
from metamer_jax.models.layers import Activations, Grid
from metamer_jax.models.spectemp import SpecTemp

__all__ = [
    "COCHLEAGRAM_NETWORKS",
    "MODELS",
    "PRESETS",
    "WORD_NETWORKS",
    "Activations",
    "CochCNN9",
    "CochResNet50",
    "CochleagramNetwork",
    "Conv2D",
    "FrequencyDense",
    "FrequencyGrouped",
    "FrequencyLocal",
    "Grid",
    "Network",
    "SpecTemp",
    "WordNetwork",
    "build_model",
    "stage_names",
]

# The paper's frame, connected over frequency in four ways.
WORD_NETWORKS: Mapping[str, type[WordNetwork]] = types.MappingProxyType(
    {
        "conv2d": Conv2D,
        "frequency_grouped": FrequencyGrouped,
        "frequency_local": FrequencyLocal,
        "frequency_dense": FrequencyDense,
    }
)
# Those of Feather et al. (2023), on the whole cochleagram.
COCHLEAGRAM_NETWORKS: Mapping[str, type[CochleagramNetwork]] = types.MappingProxyType(
    {"cochcnn9": CochCNN9, "cochresnet50": CochResNet50, "spectemp": SpecTemp}
)
MODELS: Mapping[str, type[Network]] = types.MappingProxyType(
    {**WORD_NETWORKS, **COCHLEAGRAM_NETWORKS}
)


def _sized(name: str, conv_features: tuple[int, ...], dense_features: int) -> dict[str, Any]:
    return {"name": name, "conv_features": conv_features, "dense_features": dense_features}


# Networks by name: the paper's widths under the names of `MODELS`, then the controls. These have
# the sizes of `conv2d` as `matching.match_networks` chooses widths for eight words: in trainable
# parameters (within 0.1 %), in the size of the dense representation (exactly), or in both
# ("_matched"). `frequency_local` has the dense representation of `conv2d` as it is.
PRESETS: Mapping[str, Mapping[str, Any]] = types.MappingProxyType(
    {
        **{name: {"name": name} for name in MODELS},
        "frequency_grouped_parameter_matched": _sized("frequency_grouped", (112, 480), 476),
        "frequency_local_parameter_matched": _sized("frequency_local", (28, 56), 111),
        "frequency_dense_parameter_matched": _sized("frequency_dense", (114, 456), 456),
        "frequency_grouped_representation_matched": _sized("frequency_grouped", (128, 512), 128),
        "frequency_local_representation_matched": _sized("frequency_local", (32, 64), 128),
        "frequency_dense_representation_matched": _sized("frequency_dense", (128, 512), 128),
        "frequency_grouped_matched": _sized("frequency_grouped", (392, 1552), 128),
        "frequency_local_matched": _sized("frequency_local", (26, 51), 128),
        "frequency_dense_matched": _sized("frequency_dense", (245, 980), 128),
        "conv2d_antialiased": {"name": "conv2d", "pooling": "hann", "antialias_resize": True},
        # For a second at 16 kHz and a CPU. The cochleagram is 7.4 times larger there, so that this
        # `rescale` brings the original's level, at which the readout learns at ordinary rates.
        "cochcnn9_small": {
            "name": "cochcnn9",
            "conv_features": (16, 32, 64, 128, 64),
            "dense_features": 256,
        },
        "cochresnet50_small": {"name": "cochresnet50", "features": 8, "block_counts": (1, 1, 1, 1)},
        "spectemp_small": {
            "name": "spectemp",
            "temporal_rates_hz": (0, 2, 8, 32),
            "spectral_rates": (0, 0.25, 1),
            "rescale": 13.5,
        },
    }
)


def build_model(name_or_config: str | Mapping[str, Any], num_words: int) -> Network:
    """Makes the network of a name.

    Args:
        name_or_config: One of `PRESETS`, or a mapping with its "name" and any of the network's
            fields, e.g. `{"name": "frequency_grouped", "groups": 4}`.
        num_words: Number of logits.

    Returns:
        The module.

    Raises:
        ValueError: There is no such network, or it has no such field, or not of such a value.
    """
    settings: dict[str, Any] = (
        {"name": name_or_config} if isinstance(name_or_config, str) else {**name_or_config}
    )
    preset = settings.pop("name", None)
    if preset not in PRESETS:
        raise ValueError(f"name_or_config must name one of {tuple(PRESETS)}, got {preset!r}")
    settings = {**PRESETS[preset], **settings}
    name = settings.pop("name")
    if num_words < 2:
        raise ValueError(f"num_words must be at least 2, got {num_words}")
    fields = set(MODELS[name].__dataclass_fields__) - {"num_words", "parent", "name"}
    if unknown := sorted(set(settings) - fields):
        raise ValueError(f"{name} has no field {unknown}; it has {sorted(fields)}")
    # Lists, as JSON has them, would make the module unhashable.
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    return MODELS[name](num_words=num_words, **settings)


def stage_names(networks: Sequence[str | Mapping[str, Any]]) -> tuple[str, ...]:
    """Lists every stage that one of the networks has, in processing order.

    Args:
        networks: Names or settings, as `build_model` takes them.

    Returns:
        Names of stages, each once.

    Raises:
        ValueError: There is no such network.
    """
    names = [name for network in networks for name in build_model(network, 2).stage_names]
    return tuple(dict.fromkeys(names))
