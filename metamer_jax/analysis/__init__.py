"""Statistics of listening experiments, on tables of trials or of proportions.

Every result is a pandas table that says its unit and n; an undefined number is NaN and a column
`reason` says why. `to_json` and `DataFrame.to_csv` write it.
"""

from metamer_jax.analysis import suite
from metamer_jax.analysis.bayes import bayes_factors, jzs
from metamer_jax.analysis.clustered import gee
from metamer_jax.analysis.confusions import (
    confusion_similarity,
    response_bias,
    transmitted_information,
)
from metamer_jax.analysis.contrasts import planned_contrasts
from metamer_jax.analysis.curves import curve_summary
from metamer_jax.analysis.equivalence import equivalence_tests
from metamer_jax.analysis.mixed import mixed_model
from metamer_jax.analysis.observers import network_trials, observer_anova, with_natural_layer
from metamer_jax.analysis.paired import compare_models
from metamer_jax.analysis.planning import power
from metamer_jax.analysis.reaction_times import order_effects, response_times
from metamer_jax.analysis.reliability import (
    error_consistency,
    machine_correlation,
    noise_ceiling,
    split_half,
    stimuli,
)
from metamer_jax.analysis.scores import confusion, matrix, recognition, recognition_matrix
from metamer_jax.analysis.tables import Pairing, pair_layers, to_json, to_records
from metamer_jax.analysis.variance import anova, epsilons

__all__ = [
    "Pairing",
    "anova",
    "bayes_factors",
    "compare_models",
    "confusion",
    "confusion_similarity",
    "curve_summary",
    "epsilons",
    "equivalence_tests",
    "error_consistency",
    "gee",
    "jzs",
    "machine_correlation",
    "matrix",
    "mixed_model",
    "network_trials",
    "noise_ceiling",
    "observer_anova",
    "order_effects",
    "pair_layers",
    "planned_contrasts",
    "power",
    "recognition",
    "recognition_matrix",
    "response_bias",
    "response_times",
    "split_half",
    "stimuli",
    "suite",
    "to_json",
    "to_records",
    "transmitted_information",
    "with_natural_layer",
]
