"""Figures of a run: every function takes arrays or a table and returns a matplotlib `Figure`.

Nothing here reads or writes files or keeps state: figures are made without pyplot, so no backend
is chosen and none has to be closed. The panels are small; a page or a slide arranges them.
"""

from metamer_jax.figures.cochleagrams import cochleagram_pair as cochleagram_pair
from metamer_jax.figures.cochleagrams import frequency_ticks as frequency_ticks
from metamer_jax.figures.cochleagrams import hz_label as hz_label
from metamer_jax.figures.cochleagrams import metamer_grid as metamer_grid
from metamer_jax.figures.recognition import WHO as WHO
from metamer_jax.figures.recognition import recognition_curves as recognition_curves
from metamer_jax.figures.run import MEASURES as MEASURES
from metamer_jax.figures.run import confusion as confusion
from metamer_jax.figures.run import error_by_stage as error_by_stage
from metamer_jax.figures.run import error_traces as error_traces
from metamer_jax.figures.run import null_histogram as null_histogram
from metamer_jax.figures.run import nulls_by_stage as nulls_by_stage
from metamer_jax.figures.run import training_curves as training_curves
from metamer_jax.figures.studies import accuracy_under_attack as accuracy_under_attack
from metamer_jax.figures.studies import benchmark_bars as benchmark_bars
from metamer_jax.figures.studies import benchmark_history as benchmark_history
from metamer_jax.figures.style import INK as INK
from metamer_jax.figures.style import MUTED as MUTED
from metamer_jax.figures.style import Figure as Figure
from metamer_jax.figures.style import house_style as house_style
from metamer_jax.figures.style import network_color as network_color
from metamer_jax.figures.style import one_panel as one_panel
