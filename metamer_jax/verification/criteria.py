"""Which metamers pass, why the others do not, and how many of each kind there are."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from metamer_jax import configs
from metamer_jax.verification.null import NullDistribution, NullMeasure
from metamer_jax.verification.quality import MatchQuality

if TYPE_CHECKING:
    import pandas as pd

NON_FINITE_OUTCOMES = ("non_finite",)


class Verdicts(NamedTuple):
    """What was decided about each metamer; the fields are columns of verification/metamers.csv."""

    class_match: np.ndarray  # [metamer] bool
    null_percentile: np.ndarray  # [metamer] share of null pairs below its Spearman value, percent
    null_max: np.ndarray  # [metamer] largest Spearman value of the null pairs
    decided_by: np.ndarray  # [metamer] "spearman" or "relative_error"
    verdict: np.ndarray  # [metamer] "pass" or "fail"
    reason: np.ndarray  # [metamer] why it failed; "" where it passed


# What must exceed its null, by what decides; the three are those of Feather et al. (2023).
_OF_THE_NULL = {
    "spearman": ("spearman",),
    "three_measures": ("spearman", "pearson_r", "snr_db"),
}
# What the columns of a verdict begin with. The sound as it is played decides; the waveform as it
# was optimised is another one where it was not made to be played.
PREFIXES = {"played": "", "optimised": "optimised_"}
# Columns of a run's tables that are text whatever they hold: a word may be called "7" or "nan".
TEXTS = (
    *("word", "name", "speaker", "target_name", "target_prediction", "prediction", "reason"),
    *("optimised_prediction", "optimised_reason", "played_prediction", "played_reason"),
)
_OF_A_VERDICT = (
    *("prediction", "spearman", "pearson_r2", "snr_db", "relative_error"),
    *("class_match", "null_percentile", "verdict", "reason"),
)


def current_columns(table: "pd.DataFrame") -> "pd.DataFrame":
    """Gives a verification/metamers.csv of any age today's columns.

    Tables were once made with two verdicts, of the waveform as it was optimised and, in columns
    "played_...", of the sound as it is played. Today's is the latter, and "optimised_..." says
    what became of the former.

    Args:
        table: A row per metamer.

    Returns:
        The table, itself where it has today's columns.
    """
    if "played_verdict" not in table:
        return table
    old = [name for name in _OF_A_VERDICT if f"played_{name}" in table and name in table]
    names = {name: PREFIXES["optimised"] + name for name in old}
    names |= {f"played_{name}": name for name in old}
    return table.rename(columns=names)


def deciding_measure(num_features: int, config: configs.VerificationConfig) -> str:
    """Chooses what decides at a stage.

    Args:
        num_features: Features of the stage, all its axes together.
        config: The criterion, and how many features a rank correlation needs.

    Returns:
        "spearman" or "relative_error"; "three_measures" with the criterion of Feather et al.
        (2023), at every stage.
    """
    if config.criterion == "feather2023":
        return "three_measures"
    return "spearman" if num_features >= config.min_rank_features else "relative_error"


def verdicts(
    predictions: Sequence[Any] | np.ndarray,
    target_predictions: Sequence[Any] | np.ndarray,
    quality: MatchQuality,
    *,
    null: NullDistribution,
    num_features: int,
    config: configs.VerificationConfig | None = None,
    outcomes: Sequence[str] | np.ndarray | None = None,
) -> Verdicts:
    """Decides which of a stage's metamers pass, and says why the others do not.

    A metamer passes if the network gives it the class that it gives the target, and the match at
    the stage is no chance match: Spearman correlation above the largest of the null distribution
    or, at stages of fewer than `config.min_rank_features` features, relative error of at most
    `config.max_relative_error`. With `config.criterion="feather2023"`, at every stage, Spearman's
    and Pearson's correlation and SNR must each be above the largest of its null distribution. One
    whose synthesis did not stay finite fails.

    Args:
        predictions: [metamer] class of each metamer, best as its word: reasons name it.
        target_predictions: [metamer] class that the same network gives each metamer's target.
        quality: Fields [metamer], at the matched stage.
        null: Of the matched stage.
        num_features: Of the matched stage, all its axes together.
        config: None: the defaults.
        outcomes: [metamer] outcome of the synthesis by name; "non_finite" fails.

    Returns:
        One entry per metamer in each field.

    Raises:
        ValueError: The lengths differ.
    """
    config = configs.VerificationConfig() if config is None else config
    predictions, target_predictions = np.asarray(predictions), np.asarray(target_predictions)
    measured = {name: np.atleast_1d(v) for name, v in quality._asdict().items() if v is not None}
    count = len(predictions)
    outcomes = np.full(count, "") if outcomes is None else np.asarray(outcomes)
    for name, values in (
        ("target_predictions", target_predictions),
        ("quality", measured["spearman"]),
        ("outcomes", outcomes),
    ):
        if values.shape != (count,):
            raise ValueError(f"{name} must be [{count}] as predictions are, got {values.shape}")
    class_match = predictions == target_predictions
    decided_by = deciding_measure(num_features, config)
    reasons = []
    for i in range(count):
        found = []
        outcome = str(outcomes[i]).lower().replace("-", "_")
        if outcome in NON_FINITE_OUTCOMES:
            found.append("synthesis: not finite")
        if not class_match[i]:
            found.append(f"class: {predictions[i]}, target {target_predictions[i]}")
        if decided_by == "relative_error":
            found.append(_error_failure(measured[decided_by][i], config.max_relative_error))
        for name in _OF_THE_NULL.get(decided_by, ()):
            found.append(_null_failure(name, measured[name][i], getattr(null, name)))
        reasons.append("; ".join(filter(None, found)))
    reason = np.array(reasons, dtype=object)
    return Verdicts(
        class_match=class_match,
        null_percentile=null.spearman.percentile(measured["spearman"]),
        null_max=np.full(count, null.spearman.max),
        decided_by=np.full(count, decided_by, dtype=object),
        verdict=np.where(reason == "", "pass", "fail").astype(object),
        reason=reason,
    )


def judged(
    version: str,
    predictions: Sequence[Any] | np.ndarray,
    target_predictions: Sequence[Any] | np.ndarray,
    quality: MatchQuality,
    **how: Any,
) -> dict[str, Any]:
    """Columns of a table of metamers: their class, how alike they are to the targets, and verdict.

    Args:
        version: Which sounds they are, of `PREFIXES`.
        predictions: As of `verdicts`, like the others.
        target_predictions: Likewise.
        quality: Likewise.
        **how: Likewise.

    Returns:
        [metamer] each, by name with the version's prefix; what is the same for all versions is
        with the sounds as they are played.
    """
    decided = verdicts(predictions, target_predictions, quality, **how)
    columns = {"prediction": predictions, **quality._asdict(), **decided._asdict()}
    if version != "played":
        del columns["null_max"], columns["decided_by"]
    return {PREFIXES[version] + name: values for name, values in columns.items()}


def _null_failure(name: str, value: float, null: NullMeasure) -> str:
    if np.isnan(value):
        return f"{name} undefined (an activation is constant or not finite)"
    if np.isnan(null.max):
        return f"{name} has no null distribution (constant activations)"
    return "" if value > null.max else f"{name} {value:.4g} within null (max {null.max:.4g})"


def _error_failure(relative_error: float, limit: float) -> str:
    if not np.isfinite(relative_error):
        return "relative error undefined (the target's activation is zero or one is not finite)"
    if relative_error <= limit:
        return ""
    return f"relative error {relative_error:.4g} above {limit:.4g}"


def yields(table: "pd.DataFrame") -> "pd.DataFrame":
    """Counts what passed for each network, stage and word, and for all words together.

    Args:
        table: A row per metamer, with at least the columns network, stage, word, class_match,
            verdict, relative_error and spearman. Stages stay in the order of `stage_index` where
            there is one, else in that of first appearance.

    Returns:
        Columns network, stage, word (in sorted order, then "all"), metamers, class_match and
        passed (counts), median_relative_error and median_spearman.

    Raises:
        ValueError: A column is missing, or a word is called "all".
    """
    import pandas as pd

    columns = ("network", "stage", "word", "class_match", "verdict", "relative_error", "spearman")
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise ValueError(f"table must have the columns {columns}, got none named {missing}")
    if (table["word"] == "all").any():
        raise ValueError('table has a word called "all", which names the rows of all words')
    if "stage_index" in table.columns:
        table = table.sort_values("stage_index", kind="stable")
    stages = list(dict.fromkeys(table["stage"]))
    rows = []
    for network in dict.fromkeys(table.sort_index(kind="stable")["network"]):
        of_network = table[table["network"] == network]
        for stage in stages:
            of_stage = of_network[of_network["stage"] == stage]
            groups = list(of_stage.groupby("word", sort=True)) + [("all", of_stage)]
            for word, group in groups if len(of_stage) else ():
                rows.append(
                    {
                        "network": network,
                        "stage": stage,
                        "word": word,
                        "metamers": len(group),
                        "class_match": int(group["class_match"].astype(bool).sum()),
                        "passed": int((group["verdict"] == "pass").sum()),
                        "median_relative_error": float(group["relative_error"].median()),
                        "median_spearman": float(group["spearman"].median()),
                    }
                )
    names = ["network", "stage", "word", "metamers", "class_match", "passed"]
    return pd.DataFrame(rows, columns=[*names, "median_relative_error", "median_spearman"])
