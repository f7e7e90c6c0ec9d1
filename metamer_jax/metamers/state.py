"""What a synthesis carries, reports and returns."""

import dataclasses
import enum
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from metamer_jax import storage
from metamer_jax.configs import SynthesisConfig

StageFn = Callable[[Any, jax.Array], jax.Array]


class Outcome(enum.IntEnum):
    """How the synthesis of one metamer ended."""

    RUNNING = 0
    CONVERGED = 1  # The relative error reached the tolerance.
    BUDGET = 2  # Every step was taken.
    NON_FINITE = 3  # The loss or its gradient stopped being a number; the best iterate stands.
    SILENT_TARGET = 4  # The target's activation is zero everywhere: nothing to be relative to.


class Metamer(NamedTuple):
    """What is carried from step to step, for one sound (with leading axes: for many)."""

    waveform: jax.Array  # [time] the current iterate, of which a parametrisation makes the sound.
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


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """A batch of syntheses under way."""

    metamer: Metamer  # Leading axes [target, seed].
    target: jax.Array  # [target, ...] activations to match.
    variables: Any  # The model's, as `stage_fn` takes them.
    # From `parametrised`, where there is a parametrisation.
    stage_fn: StageFn = dataclasses.field(metadata={"static": True})
    config: SynthesisConfig = dataclasses.field(metadata={"static": True})
    # Which devices share the targets; None: one has all of them.
    mesh: Mesh | None = dataclasses.field(default=None, metadata={"static": True})


class Synthesis(NamedTuple):
    """Finished metamers, in NumPy."""

    waveform: np.ndarray  # [target, seed, time] the sounds of the best iterates.
    relative_error: np.ndarray  # [target, seed] theirs.
    best_step: np.ndarray  # [target, seed]
    last_waveform: np.ndarray  # [target, seed, time]
    last_relative_error: np.ndarray  # [target, seed]
    outcome: np.ndarray  # [target, seed] int8, an Outcome.
    steps: np.ndarray  # [target, seed] updates made.
    trace_step: np.ndarray  # [point] updates before each recorded evaluation.
    trace_loss: np.ndarray  # [target, seed, point]; NaN once a metamer has stopped.
    trace_relative_error: np.ndarray  # [target, seed, point]

    def rows(self, targets: slice) -> "Synthesis":
        """Returns those of some targets, in memory."""
        arrays = {name: storage.take(values, targets) for name, values in self._asdict().items()}
        return Synthesis(**arrays | {"trace_step": np.array(self.trace_step)})

    def columns(
        self, target_ids: Sequence[int] | np.ndarray, seeds: Sequence[int] | np.ndarray
    ) -> dict[str, Any]:
        """What a table says of each metamer.

        Args:
            target_ids: [target] ids of the targets.
            seeds: [seed] seeds of the starting noise.

        Returns:
            Columns target_id, seed, outcome (by name) and steps; targets in order, seeds within.
        """
        return {
            "target_id": np.repeat(target_ids, len(seeds)),
            "seed": np.tile(seeds, len(target_ids)),
            "outcome": [Outcome(o).name.lower() for o in np.ravel(self.outcome)],
            "steps": np.ravel(self.steps),
        }
