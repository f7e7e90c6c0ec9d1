"""One step of one sound, and the steps of a batch: evaluate, keep the best, then move.

Everything is written for one sound; two `vmap`s add the axes of targets and seeds, so that norms,
clipping, stopping and the best iterate are each sound's own. The last iterate is evaluated too, so
`steps` updates cost `steps + 1` evaluations.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from metamer_jax import storage
from metamer_jax.configs import SynthesisConfig
from metamer_jax.gradients import norm
from metamer_jax.metamers.objective import TINY, matching_loss, start_waveform
from metamer_jax.metamers.optimizers import make_optimizer
from metamer_jax.metamers.parametrisation import (
    Parametrisation,
    ParametrisedStageFn,
    parametrised,
)
from metamer_jax.metamers.placement import over_devices, replicate
from metamer_jax.metamers.state import Info, Metamer, Outcome, StageFn, State
from metamer_jax.runtime import compilation
from metamer_jax.runtime.devices import TARGET_AXIS


def init(
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
) -> State:
    """Prepares the synthesis of one metamer per target and seed.

    Args:
        key: PRNG key. The start of a metamer depends on it, the target's id and the seed alone,
            not on what else is in the batch.
        targets: Natural sounds [target, time].
        target_ids: One integer per target.
        seeds: Integers, one metamer of each target per seed; by default the config's.
        stage_fn: Function (variables, waveform [time]) -> activation of any shape.
        variables: First argument of `stage_fn`.
        parametrisation: Function from the array [time] that is optimised to the sound that the
            stage is given, hashable. Targets go through it too, or through its `of_recordings`
            where it has one: a match is one of sounds that were prepared alike. None: the array
            is the sound.
        config: Settings of the synthesis; by default recipe `paper`.
        mesh: Devices that each take as many of the targets, from `device_mesh`.

    Returns:
        The state to `advance`.

    Raises:
        ValueError: Targets are not finite floats [target, time], ids or seeds do not fit them,
            the mesh's devices do not divide them, or the config asks for sounds as played and
            there is nothing to make them.
    """
    config = SynthesisConfig() if config is None else config
    stage_fn = parametrised(stage_fn, parametrisation)
    if config.as_played and not isinstance(stage_fn, ParametrisedStageFn):
        raise ValueError(
            f"parametrisation must be given, e.g. AsPlayed(sample_rate_hz), as recipe "
            f"{config.recipe!r} makes sounds as they are played (config.as_played)"
        )
    seeds = config.seeds if seeds is None else seeds
    check_targets(targets, target_ids, seeds)
    if mesh is not None and len(targets) % mesh.size:
        raise ValueError(
            f"targets must be a multiple of the mesh's {mesh.size} devices, got {len(targets)}: "
            f"repeat the last one, as `batches` does"
        )
    if isinstance(stage_fn, ParametrisedStageFn):
        targets = jnp.asarray(stage_fn.of_recordings(np.asarray(targets, np.float32)))
    compilation.make_room()
    variables = replicate(variables, mesh)
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


def check_targets(targets, target_ids, seeds):
    """Refuses targets, ids or seeds that do not fit each other with a ValueError."""
    if np.ndim(targets) != 2:
        raise ValueError(f"targets must be [target, time], got shape {np.shape(targets)}")
    if not jnp.issubdtype(jnp.result_type(targets), jnp.floating):
        raise ValueError(
            f"targets must be floating point (about -1 to 1), got {jnp.result_type(targets)}"
        )
    sounds = np.asarray(targets)
    finite = [np.isfinite(p).all(axis=1) for p in storage.in_rows(sounds, range(len(sounds)))]
    bad = np.flatnonzero(~np.concatenate([np.ones(0, bool), *finite]))
    if bad.size:
        raise ValueError(f"targets must be finite; rows {bad[:10].tolist()} are not")
    if np.shape(target_ids) != np.shape(targets)[:1]:
        raise ValueError(
            f"target_ids must hold one id for each of {np.shape(targets)[0]} targets, "
            f"got shape {np.shape(target_ids)}"
        )
    if np.ndim(seeds) != 1 or not np.size(seeds):
        raise ValueError(f"seeds must be a non-empty sequence of integers, got {seeds!r}")


@functools.partial(compilation.jit, static_argnames=("stage_fn", "config", "mesh"))
def _init(variables, key, targets, target_ids, seeds, *, stage_fn, config, mesh):
    fresh = functools.partial(fresh_metamers, stage_fn=stage_fn, config=config)
    mine = P(TARGET_AXIS)
    return over_devices(fresh, mesh, (P(), P(), mine, mine, P()), (mine, mine))(
        variables, key, targets, target_ids, seeds
    )


def fresh_metamers(variables, key, targets, target_ids, seeds, *, stage_fn, config):
    """Returns the targets' activations [target, ...] and the Metamers [target, seed] to start."""
    optimizer = make_optimizer(config)

    def one(target_id, seed, activation):
        own_id = 0 if config.shared_start else target_id
        noise_key = jax.random.fold_in(jax.random.fold_in(key, own_id), seed)
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
        plain = stage_fn.stage_fn if isinstance(stage_fn, ParametrisedStageFn) else stage_fn
        activations = jax.vmap(lambda sound: plain(variables, sound))(targets)
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

    Returns:
        The sound after the step, and what the evaluation found.
    """

    def distance(waveform):
        activation = stage_fn(variables, waveform)
        error = norm(activation - target) / jnp.maximum(norm(target), TINY)
        made, wanted = admitted((activation, target), metamer.step, stage_fn, config)
        return matching_loss(made, wanted, config.loss), error

    (loss, error), gradient = jax.value_and_grad(distance, has_aux=True)(metamer.waveform)
    updates, opt_state = make_optimizer(config).update(
        gradient, metamer.opt_state, metamer.waveform, value=loss
    )
    gradient_norm = norm(gradient)
    finite = jnp.isfinite(loss) & jnp.isfinite(error) & jnp.isfinite(gradient_norm)
    running = metamer.outcome == Outcome.RUNNING
    better = running & finite & ((error < metamer.best_error) | (config.kept == "last"))
    converged = finite & (error <= config.tolerance)
    moving = running & finite & ~converged & (metamer.step < config.steps)
    stopped = jnp.where(
        ~finite,
        Outcome.NON_FINITE,
        jnp.where(converged, Outcome.CONVERGED, jnp.where(moving, Outcome.RUNNING, Outcome.BUDGET)),
    )
    moved = Metamer(
        waveform=_where(
            moving, limited(metamer.waveform + jnp.asarray(updates), config), metamer.waveform
        ),
        opt_state=_where(moving, opt_state, metamer.opt_state),
        best_waveform=_where(better, metamer.waveform, metamer.best_waveform),
        best_error=_where(better, error, metamer.best_error),
        best_step=_where(better, metamer.step, metamer.best_step),
        step=metamer.step + moving,
        outcome=jnp.where(running, stopped, metamer.outcome).astype(jnp.int32),
    )
    return moved, Info(loss, error, gradient_norm, metamer.step)


def limited(waveform: jax.Array, config: SynthesisConfig) -> jax.Array:
    """Clamps a waveform [time] as the recipe says after a step."""
    limit = config.waveform_limit
    return waveform if limit is None else jnp.clip(waveform, -limit, limit)


def admitted(
    activations: tuple[jax.Array, ...],
    step: jax.Array,
    stage_fn: StageFn,
    config: SynthesisConfig,
) -> tuple[jax.Array, ...]:
    """Cuts activations to what a coarse-to-fine loss admits at a step; the rest is set to zero.

    A stage function may say from which level on a part of its activation counts
    (`coarse_levels`, that broadcasts to it). In every round of `config.decay_steps` steps the level
    rises by one after each `config.coarse_steps`; in the last round everything counts.

    Args:
        activations: Arrays of the stage's shape.
        step: [] int32, updates made.
        stage_fn: Stage function.
        config: Settings of the synthesis.

    Returns:
        Arrays of the same shapes; the same ones where nothing is cut.
    """
    levels = getattr(stage_fn, "coarse_levels", None)
    if levels is None or not config.coarse_steps:
        return activations
    # The published code counts a step before it looks: the first level lasts one step less.
    level = (step % config.decay_steps + 1) // config.coarse_steps
    last = step // config.decay_steps >= (config.steps - 1) // config.decay_steps
    counts = last | (jnp.asarray(levels) <= level)
    return tuple(jnp.where(counts, a, 0) for a in activations)


def _where(condition, new, old):
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


@functools.partial(
    compilation.jit, static_argnames=("stage_fn", "config", "mesh"), donate_argnames="metamers"
)
def advance_program(metamers, targets, variables, steps, *, stage_fn, config, mesh):
    """Takes `steps` <= config.chunk_steps steps; their number is traced, so one program serves all.

    The records of steps not taken are left NaN.

    Returns:
        The sounds after the steps, and a record of each.
    """
    take = functools.partial(_take_steps, stage_fn=stage_fn, config=config)
    mine = P(TARGET_AXIS)
    return over_devices(take, mesh, (mine, mine, P(), P()), (mine, P(None, TARGET_AXIS)))(
        metamers, targets, variables, steps
    )


def _take_steps(metamers, targets, variables, steps, *, stage_fn, config):
    step = functools.partial(metamer_step, stage_fn=stage_fn, config=config)
    over_seeds = jax.vmap(step, in_axes=(0, None, None))
    over_targets = jax.vmap(over_seeds, in_axes=(0, 0, None))

    def body(i, carry):
        metamers, infos = carry
        with jax.default_matmul_precision(config.matmul_precision):
            metamers, info = over_targets(metamers, targets, variables)
        return metamers, jax.tree.map(lambda all_, one: all_.at[i].set(one), infos, info)

    shape = (config.chunk_steps, *metamers.outcome.shape)
    unset = jnp.full(shape, jnp.nan)
    infos = Info(unset, unset, unset, jnp.zeros(shape, jnp.int32))
    return jax.lax.fori_loop(0, steps, body, (metamers, infos))


def advance(state: State, steps: int) -> tuple[State, Info]:
    """Takes up to `steps` more steps with every sound that is still running.

    The state's sounds are donated to the new state: use that one from here on.

    Args:
        state: From `init` or an earlier `advance`.
        steps: At least 1.

    Returns:
        The new state, and what each step saw, NumPy arrays [step, target, seed].

    Raises:
        ValueError: `steps` is less than one.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    metamers, infos = state.metamer, []
    for done in range(0, steps, state.config.chunk_steps):
        count = min(state.config.chunk_steps, steps - done)
        metamers, info = advance_program(
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
