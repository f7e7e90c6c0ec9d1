"""Loss curves, how a batch ends, and what it leaves."""

from typing import NamedTuple

import jax
import numpy as np

from metamer_jax.configs import SynthesisConfig
from metamer_jax.metamers.parametrisation import sounds_of
from metamer_jax.metamers.state import Info, Outcome, State, Synthesis


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
    """Collects a batch that no longer runs: sounds, as the stage was given them.

    Args:
        state: A batch of which nothing runs.
        trace: Its recorded evaluations.

    Returns:
        The batch's metamers.

    Raises:
        ValueError: A sound still runs.
    """
    if is_running(state):
        raise ValueError("state still has sounds that run: advance it until is_running is False")
    metamer = jax.tree.map(np.asarray, state.metamer)
    return Synthesis(
        waveform=sounds_of(state.stage_fn, metamer.best_waveform),
        relative_error=metamer.best_error,
        best_step=metamer.best_step,
        last_waveform=sounds_of(state.stage_fn, metamer.waveform),
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
