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

import dataclasses
import enum
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from metamer_jax import optimizers, programs
from metamer_jax.configs import SynthesisConfig

StageFn = Callable[[Any, jax.Array], jax.Array]

TARGET_AXIS = "target"  # The mesh's only axis.
_log = logging.getLogger(__name__)


class Outcome(enum.IntEnum):
    """How the synthesis of one metamer ended."""

    RUNNING = 0
    CONVERGED = 1  # The relative error reached the tolerance.
    BUDGET = 2  # Every step was taken.
    NON_FINITE = 3  # The loss or its gradient stopped being a number; the best iterate stands.
    SILENT_TARGET = 4  # The target's activation is zero everywhere: nothing to be relative to.


class Metamer(NamedTuple):
    """What is carried from step to step, for one sound (with leading axes: for many)."""

    waveform: jax.Array  # [time] the current iterate.
    opt_state: optax.OptState
    best_waveform: jax.Array  # [time] the iterate with the smallest relative error so far.
    best_error: jax.Array  # [] its relative error.
    best_step: jax.Array  # [] int32, how many updates made it.
    step: jax.Array  # [] int32, updates so far.
    outcome: jax.Array  # [] int32, an Outcome.


class Info(NamedTuple):
    """What a step reports; fields of `advance` are [step, target, seed]."""

    loss: jax.Array  # Of the iterate before the update.
    relative_error: jax.Array  # Norm of the activation difference over the target's norm.
    gradient_norm: jax.Array  # Of the loss with respect to the waveform.
    step: jax.Array  # int32, updates before this evaluation.


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["metamer", "target", "variables"],
    meta_fields=["stage_fn", "config", "mesh"],
)
@dataclasses.dataclass(frozen=True)
class State:
    """A batch of syntheses under way."""

    metamer: Metamer  # Leading axes [target, seed].
    target: jax.Array  # [target, ...] activations to match.
    variables: Any  # The model's, as `stage_fn` takes them.
    stage_fn: StageFn
    config: SynthesisConfig
    mesh: Mesh | None = None  # Which devices share the targets; None: one has all of them.


class Synthesis(NamedTuple):
    """Finished metamers, in NumPy."""

    waveform: np.ndarray  # [target, seed, time] the best iterates.
    relative_error: np.ndarray  # [target, seed] theirs.
    best_step: np.ndarray  # [target, seed]
    last_waveform: np.ndarray  # [target, seed, time]
    last_relative_error: np.ndarray  # [target, seed]
    outcome: np.ndarray  # [target, seed] int8, an Outcome.
    steps: np.ndarray  # [target, seed] updates made.
    trace_step: np.ndarray  # [point] updates before each recorded evaluation.
    trace_loss: np.ndarray  # [target, seed, point]; NaN once a metamer has stopped.
    trace_relative_error: np.ndarray  # [target, seed, point]


def start_waveform(key: jax.Array, num_samples: int, config: SynthesisConfig) -> jax.Array:
    """Draws the noise a synthesis starts from: [num_samples] float32 of rms `config.start_rms`.

    "pink" noise has mean zero and an amplitude spectrum falling as one over the square root of
    frequency (Feather et al., 2019); "gaussian" is white (Feather et al., 2023).
    """
    noise = jax.random.normal(key, (num_samples,))
    if config.start == "pink":
        spectrum = jnp.fft.rfft(noise)
        index = jnp.arange(spectrum.shape[0])
        weight = jnp.where(index > 0, 1 / jnp.sqrt(jnp.maximum(index, 1)), 0.0)
        noise = jnp.fft.irfft(weight * spectrum, num_samples)
    return noise * (config.start_rms / jnp.sqrt(jnp.mean(noise**2)))


def matching_loss(activation: jax.Array, target: jax.Array, kind: str) -> jax.Array:
    """Distance between two activations of one stage, a scalar.

    "half_sum_of_squares" is TensorFlow's `l2_loss` of the difference (Feather et al., 2019);
    "relative_l2" the norm of the difference over the target's (2023); "correlation" is one
    minus Pearson's, which ignores level.
    """
    difference = activation - target
    if kind == "half_sum_of_squares":
        return 0.5 * jnp.sum(difference**2)
    if kind == "relative_l2":
        return _norm(difference) / jnp.maximum(_norm(target), _TINY)
    if kind == "correlation":
        a, b = activation - jnp.mean(activation), target - jnp.mean(target)
        return 1 - jnp.sum(a * b) / jnp.maximum(_norm(a) * _norm(b), _TINY)
    raise ValueError(
        f"kind must be 'half_sum_of_squares', 'relative_l2' or 'correlation', got {kind!r}"
    )


_TINY = 1e-30


def _norm(x):
    """Euclidean norm of all entries, with derivative zero at zero."""
    square = jnp.sum(x**2)
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


def learning_rate_schedule(config: SynthesisConfig) -> optax.Schedule:
    """Returns the step size as a function of the updates made."""
    if config.schedule == "cosine":
        return optax.cosine_decay_schedule(config.learning_rate, config.steps)
    if config.schedule == "linear":
        return optax.linear_schedule(config.learning_rate, 0.0, config.steps)
    return optax.exponential_decay(
        config.learning_rate,
        config.decay_steps,
        config.decay_rate,
        staircase=config.schedule == "staircase",
    )


def make_optimizer(config: SynthesisConfig) -> optax.GradientTransformationExtraArgs:
    """Returns the optimiser of one waveform; its updates also take the loss, as `value`."""
    if config.optimizer == "lbfgs":
        return optimizers.lbfgs(config.learning_rate, config.memory_size)
    schedule = learning_rate_schedule(config)
    if config.optimizer == "adam":
        optimizer = optax.adam(schedule, b1=config.beta1, b2=config.beta2)
    elif config.optimizer == "relative_adam":
        optimizer = optimizers.relative_adam(
            schedule, config.beta1, config.beta2, config.level_window
        )
    else:
        optimizer = optax.chain(
            optax.normalize_by_update_norm(eps=_TINY), optax.scale_by_learning_rate(schedule)
        )
    return optax.with_extra_args_support(optimizer)


def device_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh | None:
    """Returns a mesh of this process's devices (or those given), None where there is but one."""
    devices = jax.local_devices() if devices is None else devices
    return Mesh(np.asarray(devices), (TARGET_AXIS,)) if len(devices) > 1 else None


def place(metamer: Metamer, mesh: Mesh | None) -> Metamer:
    """Puts arrays with a leading axis of targets where a batch on that mesh has them."""
    if mesh is None:
        return jax.tree.map(jnp.asarray, metamer)
    return jax.device_put(metamer, NamedSharding(mesh, P(TARGET_AXIS)))


def _everywhere(values, mesh):
    return values if mesh is None else jax.device_put(values, NamedSharding(mesh, P()))


def _over_devices(function, mesh, in_specs, out_specs):
    """Lets each device run `function` on its own targets: no collectives, by construction."""
    if mesh is None:
        return function
    # Types that follow which values vary over the mesh would have to be declared in every loop
    # of a stage function; they guard sums over devices, of which there are none.
    return jax.shard_map(
        function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
    )


def init(
    key: jax.Array,
    targets: jax.Array,
    target_ids: Sequence[int],
    seeds: Sequence[int] | None = None,
    *,
    stage_fn: StageFn,
    variables: Any = None,
    config: SynthesisConfig | None = None,
    mesh: Mesh | None = None,
) -> State:
    """Prepares the synthesis of one metamer per target and seed.

    Args:
        key: A PRNG key. The start of a metamer depends on it, the target's id and the seed
            alone, not on what else is in the batch.
        targets: [target, time] natural sounds.
        target_ids: One integer per target.
        seeds: Integers; by default the config's.
        stage_fn: (variables, waveform [time]) -> activation of any shape.
        variables: First argument of `stage_fn`.
        config: By default recipe `paper`.
        mesh: From `device_mesh`: its devices each take as many of the targets.

    Raises:
        ValueError: Targets are not finite floats [target, time], ids or seeds do not fit them, or
            the mesh's devices do not divide them.
    """
    config = SynthesisConfig() if config is None else config
    seeds = config.seeds if seeds is None else seeds
    _check_targets(targets, target_ids, seeds)
    if mesh is not None and len(targets) % mesh.size:
        raise ValueError(
            f"targets must be a multiple of the mesh's {mesh.size} devices, got {len(targets)}: "
            f"repeat the last one, as `batches` does"
        )
    programs.make_room()
    variables = _everywhere(variables, mesh)
    activation, metamer = _init(
        variables,
        key,
        jnp.asarray(targets, jnp.float32),
        jnp.asarray(target_ids, jnp.int32),
        jnp.asarray(seeds, jnp.int32),
        stage_fn=stage_fn,
        config=config,
        mesh=mesh,
    )
    return State(metamer, activation, variables, stage_fn, config, mesh)


def _check_targets(targets, target_ids, seeds):
    if np.ndim(targets) != 2:
        raise ValueError(f"targets must be [target, time], got shape {np.shape(targets)}")
    if not jnp.issubdtype(jnp.result_type(targets), jnp.floating):
        raise ValueError(
            f"targets must be floating point (about -1 to 1), got {jnp.result_type(targets)}"
        )
    if not np.all(np.isfinite(targets)):
        bad = np.flatnonzero(~np.all(np.isfinite(targets), axis=1))
        raise ValueError(f"targets must be finite; rows {bad[:10].tolist()} are not")
    if np.shape(target_ids) != np.shape(targets)[:1]:
        raise ValueError(
            f"target_ids must hold one id for each of {np.shape(targets)[0]} targets, "
            f"got shape {np.shape(target_ids)}"
        )
    if np.ndim(seeds) != 1 or not np.size(seeds):
        raise ValueError(f"seeds must be a non-empty sequence of integers, got {seeds!r}")


@functools.partial(programs.jit, static_argnames=("stage_fn", "config", "mesh"))
def _init(variables, key, targets, target_ids, seeds, *, stage_fn, config, mesh):
    fresh = functools.partial(_fresh, stage_fn=stage_fn, config=config)
    mine = P(TARGET_AXIS)
    return _over_devices(fresh, mesh, (P(), P(), mine, mine, P()), (mine, mine))(
        variables, key, targets, target_ids, seeds
    )


def _fresh(variables, key, targets, target_ids, seeds, *, stage_fn, config):
    """Returns the targets' activations [target, ...] and the Metamers [target, seed] to start."""
    optimizer = make_optimizer(config)

    def one(target_id, seed, activation):
        noise_key = jax.random.fold_in(jax.random.fold_in(key, target_id), seed)
        waveform = start_waveform(noise_key, targets.shape[-1], config)
        silent = ~jnp.any(activation != 0)
        return Metamer(
            waveform=waveform,
            opt_state=optimizer.init(waveform),
            best_waveform=waveform,
            best_error=jnp.asarray(jnp.inf, jnp.float32),  # No weak type: `advance` makes none.
            best_step=jnp.asarray(0, jnp.int32),
            step=jnp.asarray(0, jnp.int32),
            outcome=jnp.where(silent, Outcome.SILENT_TARGET, Outcome.RUNNING).astype(jnp.int32),
        )

    with jax.default_matmul_precision(config.matmul_precision):
        activations = jax.vmap(lambda sound: stage_fn(variables, sound))(targets)
    over_seeds = jax.vmap(one, in_axes=(None, 0, None))
    return activations, jax.vmap(over_seeds, in_axes=(0, None, 0))(target_ids, seeds, activations)


def metamer_step(
    metamer: Metamer,
    target: jax.Array,
    variables: Any,
    *,
    stage_fn: StageFn,
    config: SynthesisConfig,
) -> tuple[Metamer, Info]:
    """Evaluates one sound and moves it one step towards one target activation.

    A sound that has stopped stays as it is. One that turns non-finite stops at once, without
    the update, and does not touch its neighbours in a batch.
    """

    def distance(waveform):
        activation = stage_fn(variables, waveform)
        error = _norm(activation - target) / jnp.maximum(_norm(target), _TINY)
        return matching_loss(activation, target, config.loss), error

    (loss, error), gradient = jax.value_and_grad(distance, has_aux=True)(metamer.waveform)
    updates, opt_state = make_optimizer(config).update(
        gradient, metamer.opt_state, metamer.waveform, value=loss
    )
    gradient_norm = jnp.sqrt(jnp.sum(gradient**2))
    finite = jnp.isfinite(loss) & jnp.isfinite(error) & jnp.isfinite(gradient_norm)
    running = metamer.outcome == Outcome.RUNNING
    better = running & finite & (error < metamer.best_error)
    converged = finite & (error <= config.tolerance)
    moving = running & finite & ~converged & (metamer.step < config.steps)
    stopped = jnp.where(
        ~finite,
        Outcome.NON_FINITE,
        jnp.where(converged, Outcome.CONVERGED, jnp.where(moving, Outcome.RUNNING, Outcome.BUDGET)),
    )
    moved = Metamer(
        waveform=_where(moving, metamer.waveform + updates, metamer.waveform),
        opt_state=_where(moving, opt_state, metamer.opt_state),
        best_waveform=_where(better, metamer.waveform, metamer.best_waveform),
        best_error=_where(better, error, metamer.best_error),
        best_step=_where(better, metamer.step, metamer.best_step),
        step=metamer.step + moving,
        outcome=jnp.where(running, stopped, metamer.outcome).astype(jnp.int32),
    )
    return moved, Info(loss, error, gradient_norm, metamer.step)


def _where(condition, new, old):
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def _batched_step(metamers, targets, variables, *, stage_fn, config):
    step = functools.partial(metamer_step, stage_fn=stage_fn, config=config)
    with jax.default_matmul_precision(config.matmul_precision):
        over_seeds = jax.vmap(step, in_axes=(0, None, None))
        return jax.vmap(over_seeds, in_axes=(0, 0, None))(metamers, targets, variables)


@functools.partial(
    programs.jit, static_argnames=("stage_fn", "config", "mesh"), donate_argnames="metamers"
)
def _advance(metamers, targets, variables, steps, *, stage_fn, config, mesh):
    """Takes `steps` <= config.chunk_steps steps; their number is traced, so one program serves all.

    The records of steps not taken are left NaN.
    """
    take = functools.partial(_take_steps, stage_fn=stage_fn, config=config)
    mine = P(TARGET_AXIS)
    return _over_devices(take, mesh, (mine, mine, P(), P()), (mine, P(None, TARGET_AXIS)))(
        metamers, targets, variables, steps
    )


def _take_steps(metamers, targets, variables, steps, *, stage_fn, config):
    def body(i, carry):
        metamers, infos = carry
        metamers, info = _batched_step(
            metamers, targets, variables, stage_fn=stage_fn, config=config
        )
        return metamers, jax.tree.map(lambda all_, one: all_.at[i].set(one), infos, info)

    shape = (config.chunk_steps, *metamers.outcome.shape)
    unset = jnp.full(shape, jnp.nan)
    infos = Info(unset, unset, unset, jnp.zeros(shape, jnp.int32))
    return jax.lax.fori_loop(0, steps, body, (metamers, infos))


def lower(
    num_targets: int,
    num_samples: int,
    num_seeds: int = 1,
    *,
    stage_fn: StageFn,
    variables: Any = None,
    config: SynthesisConfig,
    mesh: Mesh | None = None,
    platform: str | None = None,
) -> jax.stages.Lowered:
    """Lowers the program that `advance` runs, without any data, e.g. for another machine.

    Args:
        num_targets: Targets in the batch, over all devices.
        num_samples: Samples of each.
        num_seeds: Metamers of each.
        stage_fn: As for `init`, like the other arguments up to `mesh`.
        variables: Arrays or `jax.ShapeDtypeStruct`s.
        config: The synthesis.
        mesh: The devices, which need not be here.
        platform: Whose program, such as "tpu"; by default that of the devices at hand.

    Returns:
        What `compile()` makes a program of, with its `cost_analysis` and `memory_analysis`.
    """

    def shaped(values, spec):
        sharding = None if mesh is None else NamedSharding(mesh, spec)
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x), sharding=sharding),
            values,
        )

    def struct(shape, dtype):
        return jax.ShapeDtypeStruct(shape, dtype)

    target, metamer = jax.eval_shape(
        functools.partial(_fresh, stage_fn=stage_fn, config=config),
        variables,
        jax.eval_shape(lambda: jax.random.key(0)),
        struct((num_targets, num_samples), jnp.float32),
        struct((num_targets,), jnp.int32),
        struct((num_seeds,), jnp.int32),
    )
    traced = _advance.on(platform or jax.default_backend()).trace(
        shaped(metamer, P(TARGET_AXIS)),
        shaped(target, P(TARGET_AXIS)),
        shaped(variables, P()),
        shaped(struct((), jnp.int32), P()),
        stage_fn=stage_fn,
        config=config,
        mesh=mesh,
    )
    return traced.lower() if platform is None else traced.lower(lowering_platforms=(platform,))


def advance(state: State, steps: int) -> tuple[State, Info]:
    """Takes up to `steps` more steps with every sound that is still running.

    The state's sounds are donated to the new state: use that one from here on.

    Args:
        state: From `init` or an earlier `advance`.
        steps: At least 1.

    Returns:
        The new state, and what each step saw, NumPy arrays [step, target, seed].
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    metamers, infos = state.metamer, []
    for done in range(0, steps, state.config.chunk_steps):
        count = min(state.config.chunk_steps, steps - done)
        metamers, info = _advance(
            metamers,
            state.target,
            state.variables,
            count,
            stage_fn=state.stage_fn,
            config=state.config,
            mesh=state.mesh,
        )
        infos.append(jax.tree.map(lambda leaf, count=count: np.asarray(leaf[:count]), info))
    info = jax.tree.map(lambda *leaves: np.concatenate(leaves), *infos)
    return dataclasses.replace(state, metamer=metamers), info


class Trace(NamedTuple):
    """The recorded evaluations of one batch; at most about `TRACE_POINTS` of them."""

    step: np.ndarray  # [point]
    loss: np.ndarray  # [point, target, seed]; NaN once a metamer has stopped.
    relative_error: np.ndarray  # [point, target, seed]


TRACE_POINTS = 500


def empty_trace(state: State) -> Trace:
    """Returns a trace without points, for a fresh state."""
    none = np.zeros((0, *state.metamer.outcome.shape), np.float32)
    return Trace(np.zeros(0, np.int32), none, none)


def extend_trace(trace: Trace, info: Info, config: SynthesisConfig) -> Trace:
    """Appends every n-th evaluation, n such that a whole synthesis has about TRACE_POINTS."""
    every = max(1, -(-config.steps // TRACE_POINTS))
    step = info.step.reshape(len(info.step), -1).max(axis=1)  # Stopped ones stand still.
    taken = np.flatnonzero((step % every == 0) | (step == config.steps))
    # A sound that has stopped keeps its step: its evaluations are repeats.
    moving = info.step == step[:, None, None]
    kept = [np.where(moving, values, np.nan)[taken] for values in (info.loss, info.relative_error)]
    parts = zip(trace, (step[taken], *kept), strict=True)
    return Trace(*(np.concatenate([old, new.astype(old.dtype)]) for old, new in parts))


def is_running(state: State) -> bool:
    """Whether any sound of the batch still moves."""
    return bool(np.any(np.asarray(state.metamer.outcome) == Outcome.RUNNING))


def next_steps(state: State) -> int:
    """How many steps to take before looking at the batch again; the last evaluates only."""
    left = state.config.steps + 1 - int(np.min(np.asarray(state.metamer.step)))
    return max(1, min(state.config.chunk_steps, left))


def finish(state: State, trace: Trace) -> Synthesis:
    """Collects a batch that no longer runs, and checks that it does not."""
    if is_running(state):
        raise ValueError("state still has sounds that run: advance it until is_running is False")
    metamer = jax.tree.map(np.asarray, state.metamer)
    return Synthesis(
        waveform=metamer.best_waveform,
        relative_error=metamer.best_error,
        best_step=metamer.best_step,
        last_waveform=metamer.waveform,
        last_relative_error=_last_finite(trace.relative_error),
        outcome=metamer.outcome.astype(np.int8),
        steps=metamer.step,
        trace_step=trace.step,
        trace_loss=np.moveaxis(trace.loss, 0, -1),
        trace_relative_error=np.moveaxis(trace.relative_error, 0, -1),
    )


def _last_finite(values):
    """The last non-NaN entry along the first axis, NaN where there is none."""
    last = np.full(values.shape[1:], np.nan, values.dtype)
    for row in values:
        last = np.where(np.isnan(row), last, row)
    return last


def synthesize(
    key: jax.Array,
    targets: jax.Array,
    target_ids: Sequence[int],
    seeds: Sequence[int] | None = None,
    *,
    stage_fn: StageFn,
    variables: Any = None,
    config: SynthesisConfig | None = None,
    mesh: Mesh | None = None,
    on_chunk: Callable[[State, Info], None] | None = None,
) -> Synthesis:
    """Synthesises one metamer per target and seed, in batches of `config.batch_size`.

    Args:
        key: As for `init`, like the other arguments up to `config`.
        targets: [target, time].
        target_ids: One integer per target.
        seeds: Integers; by default the config's.
        stage_fn: (variables, waveform [time]) -> activation.
        variables: First argument of `stage_fn`.
        config: By default recipe `paper`.
        mesh: From `device_mesh`: the devices among which each batch is divided.
        on_chunk: Called every `config.chunk_steps` steps of a batch, e.g. to show progress.

    Returns:
        The metamers, in the order of the targets, whatever became of each (see `outcome`).
    """
    config = SynthesisConfig() if config is None else config
    seeds = config.seeds if seeds is None else tuple(seeds)
    _check_targets(targets, target_ids, seeds)
    variables = _everywhere(variables, mesh)
    size = choose_batch_size(
        len(targets),
        np.shape(targets)[1],
        len(seeds),
        stage_fn=stage_fn,
        variables=variables,
        config=config,
        mesh=mesh,
    )
    parts = []
    for batch in batches(len(targets), size):
        state = init(
            key,
            np.asarray(targets)[batch],
            np.asarray(target_ids)[batch],
            seeds,
            stage_fn=stage_fn,
            variables=variables,
            config=config,
            mesh=mesh,
        )
        trace = empty_trace(state)
        while is_running(state):
            state, info = advance(state, next_steps(state))
            trace = extend_trace(trace, info, config)
            if on_chunk is not None:
                on_chunk(state, info)
        parts.append(finish(state, trace))
    return concatenate(parts, len(targets))


# Metamers at once where nothing is asked for. On a CPU the subbands of 4 (full cochleagram) to 8
# sounds (networks) fit its caches, and more are slower. On an accelerator throughput is flat well
# before the largest batch.
_CPU_BATCH, _MAX_BATCH_PER_DEVICE = 8, 256
_PROBE = 4  # Targets per device of the program whose memory is measured.
_MEMORY_SHARE = 0.7  # Of a device's memory that a batch may take: allocation is never perfect.


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
        num_targets: How many there are.
        num_samples: Samples of each.
        num_seeds: Metamers of each.
        stage_fn: As for `init`, like the other arguments.
        variables: The model's.
        config: The synthesis.
        mesh: The devices.

    Returns:
        A number of targets, a multiple of the mesh's devices.
    """
    devices = 1 if mesh is None else mesh.size
    device = jax.local_devices()[0] if mesh is None else mesh.devices.flat[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if config.batch_size is not None:
        size, why = config.batch_size // num_seeds, "as asked for"
    elif not stats or "bytes_limit" not in stats:
        size, why = _CPU_BATCH // num_seeds, f"the default on {device.platform}"
    else:
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
        fixed = sum(x.nbytes for x in jax.tree.leaves(variables))
        needed = memory.temp_size_in_bytes + memory.argument_size_in_bytes - fixed
        each = max(1, needed // _PROBE)
        room = int(_MEMORY_SHARE * stats["bytes_limit"]) - fixed
        size = devices * max(1, min(room // each, _MAX_BATCH_PER_DEVICE // num_seeds))
        why = f"{each / 2**20:.0f} MiB each of {stats['bytes_limit'] / 2**30:.0f} GiB a device"
    size = min(max(1, size), num_targets)
    size = -(-size // devices) * devices
    _log.info(
        "%d targets at once (%d metamers) on %d %s device%s: %s",
        size, size * num_seeds, devices, device.platform, "s" * (devices > 1), why,
    )  # fmt: skip
    return size


def batches(num_targets: int, size: int) -> list[np.ndarray]:
    """Splits targets into batches of `size`: each a list of indices, the last padded.

    Padding repeats the last target, so that one compilation serves every batch.
    """
    starts = range(0, num_targets, size)
    return [np.minimum(np.arange(start, start + size), num_targets - 1) for start in starts]


def concatenate(parts: Sequence[Synthesis], num_targets: int) -> Synthesis:
    """Joins batches along the targets and drops the padding of the last."""
    longest = max((part.trace_step for part in parts), key=len)

    def padded(trace):
        missing = len(longest) - trace.shape[-1]
        return np.pad(trace, [(0, 0), (0, 0), (0, missing)], constant_values=np.nan)

    parts = [
        part._replace(
            trace_step=longest,
            trace_loss=padded(part.trace_loss),
            trace_relative_error=padded(part.trace_relative_error),
        )
        for part in parts
    ]
    joined = [np.concatenate(leaves)[:num_targets] for leaves in zip(*parts, strict=True)]
    return Synthesis(*joined)._replace(trace_step=longest)
