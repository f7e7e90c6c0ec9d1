"""Statistics of listening experiments, on tables of trials or of proportions.

Every result is a pandas table that says its unit and n; an undefined number is NaN and a column
`reason` says why. `to_json` and `DataFrame.to_csv` write it.
"""

from metamer_jax.analysis import suite as suite
from metamer_jax.analysis.bayes import bayes_factors as bayes_factors
from metamer_jax.analysis.bayes import jzs as jzs
from metamer_jax.analysis.clustered import gee as gee
from metamer_jax.analysis.confusions import confusion_similarity as confusion_similarity
from metamer_jax.analysis.confusions import response_bias as response_bias
from metamer_jax.analysis.confusions import transmitted_information as transmitted_information
from metamer_jax.analysis.contrasts import planned_contrasts as planned_contrasts
from metamer_jax.analysis.curves import curve_summary as curve_summary
from metamer_jax.analysis.equivalence import equivalence_tests as equivalence_tests
from metamer_jax.analysis.intervals import CORRECTIONS as CORRECTIONS
from metamer_jax.analysis.mixed import mixed_model as mixed_model
from metamer_jax.analysis.observers import both_observers as both_observers
from metamer_jax.analysis.observers import network_trials as network_trials
from metamer_jax.analysis.observers import observer_anova as observer_anova
from metamer_jax.analysis.observers import with_natural_layer as with_natural_layer
from metamer_jax.analysis.paired import compare_models as compare_models
from metamer_jax.analysis.planning import power as power
from metamer_jax.analysis.reaction_times import order_effects as order_effects
from metamer_jax.analysis.reaction_times import response_times as response_times
from metamer_jax.analysis.reliability import error_consistency as error_consistency
from metamer_jax.analysis.reliability import machine_correlation as machine_correlation
from metamer_jax.analysis.reliability import noise_ceiling as noise_ceiling
from metamer_jax.analysis.reliability import split_half as split_half
from metamer_jax.analysis.reliability import stimuli as stimuli
from metamer_jax.analysis.scores import confusion as confusion
from metamer_jax.analysis.scores import matrix as matrix
from metamer_jax.analysis.scores import recognition as recognition
from metamer_jax.analysis.scores import recognition_matrix as recognition_matrix
from metamer_jax.analysis.tables import Pairing as Pairing
from metamer_jax.analysis.tables import pair_layers as pair_layers
from metamer_jax.analysis.tables import select as select
from metamer_jax.analysis.tables import to_json as to_json
from metamer_jax.analysis.tables import to_records as to_records
from metamer_jax.analysis.variance import SCHEMES as SCHEMES
from metamer_jax.analysis.variance import anova as anova
from metamer_jax.analysis.variance import epsilons as epsilons
