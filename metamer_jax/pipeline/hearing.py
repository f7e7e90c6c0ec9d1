"""What the networks of a run hear in each other's metamers: machine listeners, nothing trained.

The tables are named as those of people's answers are (participant, model, layer, response), so that
`analysis` takes either.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

SOURCE = "machine"
NATURAL = "", ""  # Network and stage of a target, which no network made.

_COLUMNS = (
    *("source", "participant", "kind", "model", "layer", "layer_index", "target_id", "seed"),
    *("word", "response", "correct", "verdict"),
)


def of_metamers(
    table: "pd.DataFrame", words: np.ndarray, said: Mapping[str, np.ndarray]
) -> "pd.DataFrame":
    """Says what networks hear in metamers of one stage.

    Args:
        table: A row per metamer: network, stage, stage_index, target_id, seed, verdict.
        words: [metamer] the word spoken in each one's target.
        said: [metamer] the word heard, by network.

    Returns:
        A row per network and metamer.
    """
    names = {"network": "model", "stage": "layer", "stage_index": "layer_index"}
    kept = ["network", "stage", "stage_index", "target_id", "seed", "verdict"]
    return _rows(table[kept].rename(columns=names).assign(kind="metamer", word=words), said)


def of_targets(
    target_ids: np.ndarray, words: np.ndarray, said: Mapping[str, np.ndarray]
) -> "pd.DataFrame":
    """Says what networks hear in the targets themselves, as `of_metamers` does.

    Args:
        target_ids: [target].
        words: [target] the word spoken.
        said: [target] the word heard, by network.

    Returns:
        A row per network and target.
    """
    import pandas as pd

    table = pd.DataFrame({"target_id": target_ids, "word": words})
    unknown: dict[str, Any] = {"layer_index": pd.NA, "seed": pd.NA}
    table = table.assign(kind="natural", model="", layer="", **unknown)
    return _rows(table.assign(verdict=""), said)


def _rows(table, said):
    import pandas as pd

    parts = [
        table.assign(participant=name, response=heard, correct=heard == table["word"].to_numpy())
        for name, heard in said.items()
    ]
    return pd.concat(parts, ignore_index=True).assign(source=SOURCE)[list(_COLUMNS)]


def recognition(heard: "pd.DataFrame", *, chance: float | None) -> "pd.DataFrame":
    """Counts how often each network recognises the verified metamers of each network and stage.

    Args:
        heard: From `of_metamers` and `of_targets`.
        chance: Probability of a right answer by guessing; None: there is nothing to guess.

    Returns:
        A row per listener, model and layer, as `analysis.recognition_matrix`.
    """
    # Only here: it takes a second to import.
    from metamer_jax import analysis

    verified = heard[(heard["verdict"] == "pass") & (heard["kind"] == "metamer")]
    return analysis.recognition_matrix(verified, chance=chance).assign(source=SOURCE)
