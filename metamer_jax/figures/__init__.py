"""Figures of a run: every function takes arrays or a table and returns a matplotlib `Figure`.

Nothing here reads or writes files or keeps state: figures are made without pyplot, so no backend
is chosen and none has to be closed. The panels are small; a page or a slide arranges them.
"""

from metamer_jax.figures.cochleagrams import (
    cochleagram_pair,
    frequency_ticks,
    hz_label,
    metamer_grid,
)
from metamer_jax.figures.recognition import WHO, recognition_curves
from metamer_jax.figures.run import (
    MEASURES,
    confusion,
    error_by_stage,
    error_traces,
    null_histogram,
    nulls_by_stage,
    training_curves,
)
from metamer_jax.figures.studies import accuracy_under_attack, benchmark_bars, benchmark_history
from metamer_jax.figures.style import Figure, network_color

__all__ = [
    "Figure",
    "MEASURES",
    "WHO",
    "accuracy_under_attack",
    "benchmark_bars",
    "benchmark_history",
    "cochleagram_pair",
    "confusion",
    "error_by_stage",
    "error_traces",
    "frequency_ticks",
    "hz_label",
    "metamer_grid",
    "network_color",
    "null_histogram",
    "nulls_by_stage",
    "recognition_curves",
    "training_curves",
]
