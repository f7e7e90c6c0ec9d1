"""Model metamers: sounds that a model cannot tell from a target.

A waveform that starts as noise is moved, step by step, until a stage of the model responds to it
as it does to the target. Everything is written for one sound; two `vmap`s add the axes of targets
and seeds, so that norms, clipping, stopping and the best iterate are each sound's own.

    state = init(key, targets, target_ids, seeds, stage_fn=fn, variables=variables, config=config)
    state, info = advance(state, steps=100)

`synthesize` does both, for any number of targets, until each has converged or spent its steps.
`stage_fn(variables, waveform [time]) -> activation` may be any JAX function of a sound.

With a mesh (`device_mesh`) the targets of a batch are divided among devices. Nothing else is, and
no sound needs another, so the devices never talk to each other.
"""

from metamer_jax.metamers.batching import batches as batches
from metamer_jax.metamers.batching import choose_batch_size as choose_batch_size
from metamer_jax.metamers.batching import concatenate as concatenate
from metamer_jax.metamers.batching import run_batch as run_batch
from metamer_jax.metamers.batching import synthesize as synthesize
from metamer_jax.metamers.lowering import lower as lower
from metamer_jax.metamers.objective import matching_loss as matching_loss
from metamer_jax.metamers.objective import start_waveform as start_waveform
from metamer_jax.metamers.optimizers import learning_rate_schedule as learning_rate_schedule
from metamer_jax.metamers.optimizers import make_optimizer as make_optimizer
from metamer_jax.metamers.parametrisation import AsPlayed as AsPlayed
from metamer_jax.metamers.parametrisation import Parametrisation as Parametrisation
from metamer_jax.metamers.parametrisation import parametrised as parametrised
from metamer_jax.metamers.placement import place as place
from metamer_jax.metamers.state import Info as Info
from metamer_jax.metamers.state import Metamer as Metamer
from metamer_jax.metamers.state import Outcome as Outcome
from metamer_jax.metamers.state import StageFn as StageFn
from metamer_jax.metamers.state import State as State
from metamer_jax.metamers.state import Synthesis as Synthesis
from metamer_jax.metamers.step import advance as advance
from metamer_jax.metamers.step import init as init
from metamer_jax.metamers.step import metamer_step as metamer_step
from metamer_jax.metamers.traces import TRACE_POINTS as TRACE_POINTS
from metamer_jax.metamers.traces import Trace as Trace
from metamer_jax.metamers.traces import empty_trace as empty_trace
from metamer_jax.metamers.traces import extend_trace as extend_trace
from metamer_jax.metamers.traces import finish as finish
from metamer_jax.metamers.traces import is_running as is_running
from metamer_jax.metamers.traces import next_steps as next_steps
from metamer_jax.runtime.devices import device_mesh as device_mesh
