"""Programs compiled for devices that are not here, and what XLA says of them.

    python -m metamer_jax.aot              # a TPU v5e with 2 x 2 chips; needs the extra [tpu]

XLA's TPU compiler comes with libtpu and needs no TPU. What it makes for a topology cannot be run
here, but has a cost analysis: operations and bytes moved, which bound the time a step takes.
"""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from metamer_jax import cochleagram
from metamer_jax.configs import CochleagramConfig
from metamer_jax.runtime.devices import TARGET_AXIS

TOPOLOGY = "v5e:2x2"
# float32 products in six passes of bfloat16, of 197e12 operations a second, and memory bandwidth:
# a TPU v5e chip, https://cloud.google.com/tpu/docs/v5e.
V5E_FLOPS_PER_S, V5E_BYTES_PER_S = 197e12 / 6, 819e9


class Cost(NamedTuple):
    """One program, one device's part."""

    compile_s: float
    flops: float
    bytes_accessed: float
    peak_bytes: int  # Arguments, results and everything between.
    collectives: int  # Operations that talk to other devices.

    @property
    def floor_s(self) -> float:
        """The least time a TPU v5e chip could take."""
        return max(self.flops / V5E_FLOPS_PER_S, self.bytes_accessed / V5E_BYTES_PER_S)


def missing() -> str:
    """Says why nothing can be compiled for a TPU here; "" if it can."""
    if importlib.util.find_spec("libtpu") is None:
        return "libtpu is not installed: pip install 'metamer_jax[tpu]'"
    return ""


def tpu_mesh(topology: str = TOPOLOGY) -> jax.sharding.Mesh:
    """Returns a mesh of TPU devices that need not exist.

    Raises:
        ValueError: There is no TPU compiler here.
    """
    if reason := missing():
        raise ValueError(f"topology {topology!r} needs XLA's TPU compiler, but {reason}")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # Else libtpu asks a cloud what it runs on.
    from jax.experimental import topologies

    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    return jax.sharding.Mesh(np.asarray(devices), (TARGET_AXIS,))


def lower_cochleagram_step(
    config: CochleagramConfig, mesh: jax.sharding.Mesh, *, num_targets: int = 64
) -> jax.stages.Lowered:
    """Lowers the step that implementations are compared by, for the mesh's devices.

    Full cochleagram, half the squared error to a target's, gradient, plain update.

    Returns:
        The program; `cost` compiles it.
    """
    filters = cochleagram.design_cochleagram(config)

    def step(waveforms, targets, filters):
        def loss(waveform, target):
            made = cochleagram.cochleagram(waveform, filters, config=config)
            return 0.5 * jnp.sum((made - target) ** 2)

        with jax.default_matmul_precision("highest"):
            gradients = jax.vmap(jax.grad(loss))(waveforms, targets)
        return waveforms - 1e-3 * gradients

    mine = P(TARGET_AXIS)
    step = jax.shard_map(
        step, mesh=mesh, in_specs=(mine, mine, P()), out_specs=mine, check_vma=False
    )

    def struct(shape, dtype, spec):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))

    channels = filters.num_channels
    traced = jax.jit(step, donate_argnums=0).trace(
        struct((num_targets, config.num_samples), jnp.float32, mine),
        struct((num_targets, channels, config.num_frames), jnp.float32, mine),
        jax.tree.map(lambda x: struct(x.shape, x.dtype, P()), filters),
    )
    return traced.lower(lowering_platforms=(mesh.devices.flat[0].platform,))


def cost(lowered: jax.stages.Lowered) -> Cost:
    """What XLA estimates of a program, which it compiles for that.

    Args:
        lowered: The program, e.g. of `lower_cochleagram_step`.

    Returns:
        Its cost.

    Raises:
        ValueError: The compiler gives no estimates.
    """
    begin = time.monotonic()
    compiled = lowered.compile()
    seconds = time.monotonic() - begin
    analysis, memory = compiled.cost_analysis(), compiled.memory_analysis()
    text = compiled.as_text()
    if analysis is None or memory is None or text is None:
        raise ValueError("this compiler says nothing of what its programs cost")
    collectives = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
    return Cost(
        compile_s=seconds,
        flops=analysis["flops"],
        bytes_accessed=analysis["bytes accessed"],
        peak_bytes=memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes,
        collectives=sum(text.count(f" {name}") for name in collectives),
    )


def tpu_cochleagram_step(transform: str = "matmul", num_targets: int = 64) -> Cost:
    """Compiles `lower_cochleagram_step` for four chips of a TPU v5e, `num_targets` among them.

    Returns:
        What XLA estimates of it.

    Raises:
        ValueError: There is no TPU compiler here.
    """
    config = dataclasses.replace(CochleagramConfig(method="multirate"), transform=transform)
    return cost(lower_cochleagram_step(config, tpu_mesh(), num_targets=num_targets))


def tpu_cochleagram_step_apart(transform: str = "matmul", num_targets: int = 64) -> Cost:
    """The same in a process of its own: libtpu writes to stderr and takes over signals."""
    done = subprocess.run(
        [sys.executable, "-m", "metamer_jax.aot", transform, str(num_targets)],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ValueError(f"compiling for {TOPOLOGY} failed: {done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Cost(**{field: found[field] for field in Cost._fields})


def main() -> None:
    """Prints as JSON what the step costs that the command line describes: transform, targets."""
    made = tpu_cochleagram_step(
        sys.argv[1] if len(sys.argv) > 1 else "matmul",
        int(sys.argv[2]) if len(sys.argv) > 2 else 64,
    )
    print(json.dumps({**made._asdict(), "floor_s": made.floor_s}))
