"""People beside the networks that made the metamers: the same sounds, judged by both."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from metamer_jax.analysis import intervals, tables, variance

NATURAL = "natural"
ANOVA_COLUMNS = ("model", *variance.COLUMNS, "left_out")


def with_natural_layer(trials: pd.DataFrame, kinds: Sequence[str] = ("natural",)) -> pd.DataFrame:
    """Natural sounds as level 0 of `layer`, as in Feather et al. (2023).

    They belong to no model: a listener's trials of them count under each.

    Args:
        trials: With kind, model, layer and layer_index.
        kinds: Which trials are natural sounds.

    Returns:
        The metamers, their layer_index shifted to begin at 1, and for each model the natural
        sounds as metamers of layer "natural", layer_index 0.

    Raises:
        ValueError: There is no natural sound, or a layer has that name already.
    """
    tables.check_columns(trials, ["kind", "model", "layer", "layer_index"])
    metamers = trials[trials["kind"] == "metamer"]
    natural = trials[trials["kind"].isin(list(kinds))]
    if natural.empty:
        raise ValueError(f"natural sounds: no trial is of kind {list(kinds)}.")
    if (metamers["layer"] == NATURAL).any():
        raise ValueError(f"natural sounds: a layer is called {NATURAL!r} already.")
    places = {
        (model, layer): place
        for model, layers in tables.own_layers(metamers).items()
        for place, layer in enumerate(layers, start=1)
    }
    index = metamers["layer_index"]
    if index.isna().any():
        index = [places[key] for key in zip(metamers["model"], metamers["layer"], strict=True)]
    else:
        index = index.astype(int) + 1 - int(index.min())
    parts = [metamers.assign(layer_index=index)]
    for model in tables.levels(metamers["model"])[1]:
        parts.append(natural.assign(kind="metamer", model=model, layer=NATURAL, layer_index=0))
    return pd.concat(parts, ignore_index=True)


def network_trials(
    trials: pd.DataFrame, predictions: pd.DataFrame, own: pd.DataFrame | None = None
) -> pd.DataFrame:
    """What the generating network says to each sound that a listener heard.

    Args:
        trials: Listeners' trials that count, with stimulus_id, model and word.
        predictions: A row per metamer: stimulus_id, model, model_prediction, and
            played_model_prediction (of the sound as played), which is preferred where there is one;
            the manifest of an experiment.
        own: Trials of the networks themselves as listeners (`participant` is the network's name),
            for natural sounds, or None.

    Returns:
        The trials with the network's response, right or wrong. Those to which no network's
        response is known are left out.

    Raises:
        ValueError: A column is missing, or no response is known at all.
    """
    tables.check_columns(trials, ["stimulus_id", "model", "word"])
    tables.check_columns(predictions, ["stimulus_id", "model", "model_prediction"])
    said: dict[tuple[str, str], str] = {}
    if own is not None:
        themselves = zip(own["participant"], own["stimulus_id"], own["response"], strict=True)
        said |= {(network, stimulus): response for network, stimulus, response in themselves}
    columns = [c for c in ("model_prediction", "played_model_prediction") if c in predictions]
    for column in columns:  # The last one wins.
        rows = predictions[predictions[column].fillna("").astype(str) != ""]
        keys = zip(rows["model"], rows["stimulus_id"], strict=True)
        said |= dict(zip(keys, rows[column].astype(str), strict=True))
    keys = list(zip(trials["model"], trials["stimulus_id"], strict=True))
    known = np.array([key in said for key in keys], bool)
    if not known.any():
        raise ValueError("the manifest does not tell what networks say to these sounds")
    response = pd.Series([said[key] for key in keys if key in said], dtype=object)
    found = trials[known].reset_index(drop=True)
    return found.assign(response=response, correct=(response == found["word"]).astype(float))


def both_observers(people: pd.DataFrame, networks: pd.DataFrame) -> pd.DataFrame:
    """One table of both, with a column `observer`: "human" and "network".

    Args:
        people: Trials or proportions of listeners.
        networks: Those of the generating networks.

    Returns:
        The rows of both.
    """
    return pd.concat(
        [people.assign(observer="human"), networks.assign(observer="network")], ignore_index=True
    )


def observer_anova(
    people: pd.DataFrame,
    networks: pd.DataFrame,
    *,
    subject: Sequence[str] = ("participant",),
    permutations: int = 10_000,
    scheme: str = "residual",
    seed: int = 0,
) -> pd.DataFrame:
    """Mixed analysis of variance of each model: human or network, by layer.

    The design of Feather et al. (2023): a subject is a listener, or the generating network on the
    sounds that this listener heard. These are not other networks: their spread is that of sounds.

    Args:
        people: Trials or proportions of listeners: participant, model, layer, correct.
        networks: Those of the generating networks on the same listeners' sounds, such as from
            `network_trials`.
        subject: Columns that name a listener.
        permutations: Draws for p_perm.
        scheme: "residual", or "feather2023" to reproduce theirs: see `anova`.
        seed: Of the permutations.

    Returns:
        Rows of `anova` for each model, with `left_out`, how many listeners lack a layer and were
        left out. A layer that one observer lacks altogether is left out for both. A model for which
        there is none has a row with the reason.

    Raises:
        ValueError: A column or value is at fault.
    """
    intervals.check_choice(scheme, "scheme", variance.SCHEMES)
    both = both_observers(people, networks)
    tables.check_columns(both, [*subject, "model", "layer", "correct"])
    found = []
    for model in tables.levels(people["model"])[1]:
        own = both[both["model"] == model]
        layers = own.groupby("layer")["observer"].nunique()
        own = own[own["layer"].map(layers) == 2]
        count = own.groupby([*subject])[["observer", "layer"]].apply(
            lambda rows: len(rows.drop_duplicates())
        )
        complete = count[count == 2 * own["layer"].nunique()].index
        keys = pd.MultiIndex.from_frame(own[list(subject)])
        wanted = complete if len(subject) > 1 else pd.MultiIndex.from_arrays([complete])
        left_out = len(count) - len(complete)
        try:
            result = variance.anova(
                own[keys.isin(wanted)],
                dv="correct",
                subject=["observer", *subject],
                within="layer",
                between="observer",
                permutations=permutations,
                scheme=scheme,
                seed=seed,
            )
        except ValueError as error:
            result = pd.DataFrame([{"reason": str(error), "scheme": scheme}])
        found.append(result.assign(model=model, left_out=left_out))
    return pd.concat(found, ignore_index=True).reindex(columns=list(ANOVA_COLUMNS))
