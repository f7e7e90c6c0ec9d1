"""The steps of a batch as a program, not run: for its memory and its cost."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from metamer_jax.configs import SynthesisConfig
from metamer_jax.metamers.state import StageFn
from metamer_jax.metamers.step import advance_program, fresh_metamers
from metamer_jax.runtime.devices import TARGET_AXIS


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

    struct = jax.ShapeDtypeStruct
    target, metamer = jax.eval_shape(
        functools.partial(fresh_metamers, stage_fn=stage_fn, config=config),
        variables,
        jax.eval_shape(lambda: jax.random.key(0)),
        struct((num_targets, num_samples), jnp.float32),
        struct((num_targets,), jnp.int32),
        struct((num_seeds,), jnp.int32),
    )
    traced = advance_program.on(platform or jax.default_backend()).trace(
        shaped(metamer, P(TARGET_AXIS)),
        shaped(target, P(TARGET_AXIS)),
        shaped(variables, P()),
        shaped(struct((), jnp.int32), P()),
        stage_fn=stage_fn,
        config=config,
        mesh=mesh,
    )
    return traced.lower() if platform is None else traced.lower(lowering_platforms=(platform,))
