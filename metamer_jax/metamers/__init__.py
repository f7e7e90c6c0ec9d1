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

from metamer_jax.metamers.batching import (
    batches,
    choose_batch_size,
    concatenate,
    run_batch,
    synthesize,
)
from metamer_jax.metamers.lowering import lower
from metamer_jax.metamers.objective import matching_loss, start_waveform
from metamer_jax.metamers.optimizers import learning_rate_schedule, make_optimizer
from metamer_jax.metamers.parametrisation import AsPlayed, Parametrisation, parametrised
from metamer_jax.metamers.placement import place
from metamer_jax.metamers.state import Info, Metamer, Outcome, StageFn, State, Synthesis
from metamer_jax.metamers.step import advance, init, metamer_step
from metamer_jax.metamers.traces import (
    TRACE_POINTS,
    Trace,
    empty_trace,
    extend_trace,
    finish,
    is_running,
    next_steps,
)
from metamer_jax.runtime.devices import device_mesh

__all__ = [
    "AsPlayed",
    "Info",
    "Metamer",
    "Outcome",
    "Parametrisation",
    "StageFn",
    "State",
    "Synthesis",
    "TRACE_POINTS",
    "Trace",
    "advance",
    "batches",
    "choose_batch_size",
    "concatenate",
    "device_mesh",
    "empty_trace",
    "extend_trace",
    "finish",
    "init",
    "is_running",
    "learning_rate_schedule",
    "lower",
    "make_optimizer",
    "matching_loss",
    "metamer_step",
    "next_steps",
    "parametrised",
    "place",
    "run_batch",
    "start_waveform",
    "synthesize",
]
