"""The paper's results, to stand beside those of a run.

Lu, Effects of audio network architecture on network metamers (9.58 Projects in the Science of
Intelligence, MIT). It prints p values and a figure; one set of counts agrees with all of them.
"""

import types
from collections.abc import Mapping

import pandas as pd

CITATIONS = (
    "Lu, Effects of audio network architecture on network metamers (9.58 Projects in the Science "
    "of Intelligence, MIT).",
    "Feather, Durango, Gonzalez and McDermott, Metamers of neural networks reveal divergence from "
    "human perceptual systems, NeurIPS 2019.",
    "Feather, Leclerc, Mądry and McDermott, Model metamers reveal divergent invariances between "
    "biological and artificial neural networks, Nature Neuroscience 26, 2017–2034 (2023).",
)
TRIALS = 56  # Of each network and layer, in the seven conditions that were kept.
CORRECT: Mapping[str, Mapping[str, int]] = types.MappingProxyType(
    {
        "conv2d": {"cochleagram": 56, "conv1": 50, "conv2": 47, "dense": 18, "logits": 8},
        "frequency_grouped": {
            **{"cochleagram": 56, "conv1": 43, "conv2": 46},
            **{"dense": 30, "logits": 8},
        },
    }
)
# Table 1, as printed.
P_VALUES: Mapping[str, float] = types.MappingProxyType(
    {
        **{"all": 0.724, "cochleagram": float("nan")},
        **{"conv1": 0.079, "conv2": 0.803, "dense": 0.022, "logits": 1.0},
    }
)
TEST_ACCURACY: Mapping[str, float] = types.MappingProxyType(
    {"conv2d": 0.88, "frequency_grouped": 0.86}
)
TARGETS_PER_WORD = 10  # "At least", with metamers of the same class at every stage.


def trials() -> pd.DataFrame:
    """Returns the paper's answers one by one, as `recognition` and `compare_models` take them.

    Which listener gave which is not known: participants are numbered in eights, the presentations
    of a layer in one condition.
    """
    return pd.DataFrame(
        {
            **{"participant": i // 8, "model": model, "layer": layer, "layer_index": place},
            "correct": int(i < right),
        }
        for model, counts in CORRECT.items()
        for place, (layer, right) in enumerate(counts.items())
        for i in range(TRIALS)
    )
