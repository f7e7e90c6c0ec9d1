"""A cochleagram and a network as one model of hearing, and its exact view of sounds.

model    variables with filters, stages by name, from a waveform to an activation
exact    what a network makes of sounds on the dense cochleagram, in batches
"""

from metamer_jax.auditory.model import (
    FILTERS,
    Listener,
    Variables,
    feature_fn,
    forward,
    init_variables,
    read_cochleagram,
    stage_fn,
    stage_names,
    with_filters,
    without_filters,
)

__all__ = [
    "FILTERS",
    "Listener",
    "Variables",
    "feature_fn",
    "forward",
    "init_variables",
    "read_cochleagram",
    "stage_fn",
    "stage_names",
    "with_filters",
    "without_filters",
]
