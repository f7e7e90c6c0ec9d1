"""Where arrays with an axis of targets lie among devices."""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from metamer_jax.metamers.state import Metamer
from metamer_jax.runtime.devices import TARGET_AXIS


def place(metamer: Metamer, mesh: Mesh | None) -> Metamer:
    """Puts arrays with a leading axis of targets where a batch on that mesh has them."""
    if mesh is None:
        return jax.tree.map(jnp.asarray, metamer)
    return jax.device_put(metamer, NamedSharding(mesh, P(TARGET_AXIS)))


def replicate(values, mesh):
    """Puts arrays on every device of a mesh; without one they stay as they are."""
    return values if mesh is None else jax.device_put(values, NamedSharding(mesh, P()))


def over_devices(function, mesh, in_specs, out_specs):
    """Lets each device run `function` on its own targets: no collectives, by construction."""
    if mesh is None:
        return function
    # Types that follow which values vary over the mesh would have to be declared in every loop
    # of a stage function; they guard sums over devices, of which there are none.
    return jax.shard_map(
        function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
    )
