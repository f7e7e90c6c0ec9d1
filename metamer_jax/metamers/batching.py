"""Any number of targets: batches of one size, and how large a device bears."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from metamer_jax import storage
from metamer_jax.configs import SynthesisConfig
from metamer_jax.metamers.lowering import lower
from metamer_jax.metamers.parametrisation import Parametrisation, parametrised
from metamer_jax.metamers.placement import replicate
from metamer_jax.metamers.state import Info, StageFn, State, Synthesis
from metamer_jax.metamers.step import advance, check_targets, init
from metamer_jax.metamers.traces import (
    Trace,
    empty_trace,
    extend_trace,
    finish,
    is_running,
    next_steps,
)
from metamer_jax.runtime.devices import batch_of_device

_log = logging.getLogger(__name__)


def synthesize(
    key: jax.Array,
    targets: jax.Array,
    target_ids: Sequence[int],
    seeds: Sequence[int] | None = None,
    *,
    stage_fn: StageFn,
    variables: Any = None,
    parametrisation: Parametrisation | None = None,
    config: SynthesisConfig | None = None,
    mesh: Mesh | None = None,
    on_chunk: Callable[[State, Info], None] | None = None,
) -> Synthesis:
    """Synthesises one metamer per target and seed, in batches of `config.batch_size`.

    Args:
        key: PRNG key, as for `init`, like the other arguments up to `config`.
        targets: Natural sounds [target, time].
        target_ids: One integer per target.
        seeds: Integers, one metamer of each target per seed; by default the config's.
        stage_fn: Function (variables, waveform [time]) -> activation.
        variables: First argument of `stage_fn`.
        parametrisation: Function from the array that is optimised to the sound that the stage is
            given, such as `AsPlayed`; None: the array is the sound.
        config: Settings of the synthesis; by default recipe `paper`.
        mesh: Devices among which each batch is divided, from `device_mesh`.
        on_chunk: Function called with the state and the last evaluations every
            `config.chunk_steps` steps of a batch, e.g. to show progress.

    Returns:
        The metamers, in the order of the targets, whatever became of each (see `outcome`).
    """
    config = SynthesisConfig() if config is None else config
    seeds = config.seeds if seeds is None else tuple(seeds)
    check_targets(targets, target_ids, seeds)
    of_every_batch = {
        "stage_fn": parametrised(stage_fn, parametrisation),
        "variables": replicate(variables, mesh),
        "config": config,
        "mesh": mesh,
    }
    size = choose_batch_size(len(targets), np.shape(targets)[1], len(seeds), **of_every_batch)
    sounds, ids = np.asarray(targets), np.asarray(target_ids)

    def parts():
        for batch in batches(len(sounds), size):
            own_sounds = jnp.asarray(storage.take(sounds, batch))
            state = init(key, own_sounds, ids[batch].tolist(), seeds, **of_every_batch)
            yield run_batch(
                state,
                empty_trace(state),
                None if on_chunk is None else lambda state, info, _: on_chunk(state, info),
            )

    return concatenate(parts(), len(sounds))


def run_batch(
    state: State, trace: Trace, on_chunk: Callable[[State, Info, Trace], None] | None = None
) -> Synthesis:
    """Advances one batch until none of its sounds runs.

    Args:
        state: A batch of syntheses, fresh from `init` or under way.
        trace: The evaluations recorded so far, `empty_trace(state)` for a fresh one.
        on_chunk: Function called with the state, the last evaluations and the trace after every
            `state.config.chunk_steps` steps. It may raise to end early.

    Returns:
        The batch's metamers, padding included.
    """
    while is_running(state):
        state, info = advance(state, next_steps(state))
        trace = extend_trace(trace, info, state.config)
        if on_chunk is not None:
            on_chunk(state, info, trace)
    return finish(state, trace)


_PROBE = 4  # Targets per device of the program whose memory is measured.


def choose_batch_size(
    num_targets: int,
    num_samples: int,
    num_seeds: int = 1,
    *,
    stage_fn: StageFn,
    variables: Any = None,
    config: SynthesisConfig,
    mesh: Mesh | None = None,
) -> int:
    """Chooses how many targets to synthesise at once, over all devices together.

    It is what `config.batch_size` says, or, where that is None, what suits a CPU's caches or fits
    an accelerator's memory: its limit over what the compiled steps need for each target.

    Args:
        num_targets: Number of targets in all.
        num_samples: Samples of each.
        num_seeds: Metamers of each.
        stage_fn: Function as for `init`, like the other arguments.
        variables: First argument of `stage_fn`.
        config: Settings of the synthesis.
        mesh: Devices among which a batch is divided.

    Returns:
        Number of targets, a multiple of the mesh's devices.
    """
    devices = 1 if mesh is None else mesh.size
    device = jax.local_devices()[0] if mesh is None else mesh.devices.flat[0]

    def bytes_of_one():
        program = lower(
            _PROBE * devices,
            num_samples,
            num_seeds,
            stage_fn=stage_fn,
            variables=variables,
            config=config,
            mesh=mesh,
        ).compile()
        memory = program.memory_analysis()
        assert memory is not None  # Accelerators whose memory is known say this too.
        needed = memory.temp_size_in_bytes + memory.argument_size_in_bytes - fixed
        return max(1, needed // _PROBE)

    fixed = sum(x.nbytes for x in jax.tree.leaves(variables))
    if config.batch_size is not None:
        size, why = config.batch_size // num_seeds, "as asked for"
    else:
        size, why = batch_of_device(device, bytes_of_one, fixed, num_seeds)
        size *= devices if device.platform != "cpu" else 1  # CPUs share their caches.
    size = min(max(1, size), num_targets)
    size = -(-size // devices) * devices
    _log.debug(
        "%d targets at once (%d metamers) on %d %s device%s: %s",
        size, size * num_seeds, devices, device.platform, "s" * (devices > 1), why,
    )  # fmt: skip
    return size


def batches(num_targets: int, size: int) -> list[np.ndarray]:
    """Divides targets into batches of one size.

    Args:
        num_targets: Number of targets.
        size: Number of targets in a batch.

    Returns:
        The indices [size] of each batch's targets; the last batch repeats the last target, so
        that one compilation serves every batch.
    """
    starts = range(0, num_targets, size)
    return [np.minimum(np.arange(start, start + size), num_targets - 1) for start in starts]


def concatenate(parts: Iterable[Synthesis], num_targets: int) -> Synthesis:
    """Joins batches along the targets and drops the padding of the last.

    Args:
        parts: Finished batches in the order of `batches`; of an iterator one is in memory at a
            time beside the whole.
        num_targets: Number of targets without padding.

    Returns:
        One synthesis of all targets; traces of batches that stopped early end in NaN.
    """
    whole: dict[str, np.ndarray] = {}
    trace_step, start = np.zeros(0), 0
    for part in parts:
        rows = slice(start, min(start + len(part.waveform), num_targets))
        trace_step = max(trace_step, part.trace_step, key=len) if start else part.trace_step
        for name, values in part._asdict().items():
            if name == "trace_step":
                continue
            if start == 0:
                whole[name] = np.empty((num_targets, *values.shape[1:]), values.dtype)
            if name.startswith("trace_"):
                whole[name] = lengthened(whole[name], len(trace_step))
                values = lengthened(values, len(trace_step))
            whole[name][rows] = values[: rows.stop - start]
        start = rows.stop
    return Synthesis(**whole, trace_step=trace_step)


def lengthened(trace: np.ndarray, length: int) -> np.ndarray:
    """Returns a trace [target, seed, point] that ends in NaN where it was shorter."""
    missing = length - trace.shape[-1]
    if not missing:
        return trace
    return np.pad(trace, [(0, 0), (0, 0), (0, missing)], constant_values=np.nan)
