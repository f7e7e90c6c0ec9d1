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

from metamer_jax.listening.listeners.hearing import Part as Part
from metamer_jax.listening.listeners.hearing import hear as hear
from metamer_jax.listening.listeners.hearing import listen_to_experiment as listen_to_experiment
from metamer_jax.listening.listeners.hearing import listen_to_run as listen_to_run
from metamer_jax.listening.listeners.hearing import score as score
from metamer_jax.listening.listeners.panels import DEFAULT_NETWORKS as DEFAULT_NETWORKS
from metamer_jax.listening.listeners.panels import DEFAULT_RECIPES as DEFAULT_RECIPES
from metamer_jax.listening.listeners.panels import FOLDER as FOLDER
from metamer_jax.listening.listeners.panels import RECIPES as RECIPES
from metamer_jax.listening.listeners.panels import SOURCE as SOURCE
from metamer_jax.listening.listeners.panels import Listener as Listener
from metamer_jax.listening.listeners.panels import Network as Network
from metamer_jax.listening.listeners.panels import accuracy as accuracy
from metamer_jax.listening.listeners.panels import load_panel as load_panel
from metamer_jax.listening.listeners.panels import panel as panel
from metamer_jax.listening.listeners.panels import train_panel as train_panel
from metamer_jax.listening.listeners.recognition import agreement as agreement
from metamer_jax.listening.listeners.recognition import of_others as of_others
