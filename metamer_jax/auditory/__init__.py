"""A cochleagram and a network as one model of hearing, and its exact view of sounds.

model    variables with filters, stages by name, from a waveform to an activation
exact    what a network makes of sounds on the dense cochleagram, in batches
"""

from metamer_jax.auditory.model import FILTERS as FILTERS
from metamer_jax.auditory.model import Listener as Listener
from metamer_jax.auditory.model import Variables as Variables
from metamer_jax.auditory.model import feature_fn as feature_fn
from metamer_jax.auditory.model import forward as forward
from metamer_jax.auditory.model import init_variables as init_variables
from metamer_jax.auditory.model import read_cochleagram as read_cochleagram
from metamer_jax.auditory.model import stage_fn as stage_fn
from metamer_jax.auditory.model import stage_names as stage_names
from metamer_jax.auditory.model import with_filters as with_filters
from metamer_jax.auditory.model import without_filters as without_filters
