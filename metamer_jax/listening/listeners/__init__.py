"""Machine listeners: networks trained on the same words, which take the experiment as people do.

They stand in where people's answers are scarce, and everything they say is labelled "machine".
How recognisable a network's metamers are to other networks predicts how recognisable they are to
people (Feather et al., 2023).

    listeners = panel(run.config, 6)
    train_panel(run, recordings, listeners)
    trials = listen_to_run(run, load_panel(run, listeners))     # or listen_to_experiment
    analysis.recognition_matrix(trials)                         # every network on every network's

A listener is a run folder of its own, listeners/<name>/ in the run's: its weights, log and
settings are where any network's are, and its training is picked up again like any other.
"""

from metamer_jax.listening.listeners.hearing import (
    hear,
    listen_to_experiment,
    listen_to_run,
    score,
)
from metamer_jax.listening.listeners.panels import (
    DEFAULT_NETWORKS,
    DEFAULT_RECIPES,
    FOLDER,
    RECIPES,
    SOURCE,
    Listener,
    Network,
    accuracy,
    load_panel,
    panel,
    train_panel,
)
from metamer_jax.listening.listeners.recognition import agreement, of_others

__all__ = [
    "DEFAULT_NETWORKS",
    "DEFAULT_RECIPES",
    "FOLDER",
    "Listener",
    "Network",
    "RECIPES",
    "SOURCE",
    "accuracy",
    "agreement",
    "hear",
    "listen_to_experiment",
    "listen_to_run",
    "load_panel",
    "of_others",
    "panel",
    "score",
    "train_panel",
]
