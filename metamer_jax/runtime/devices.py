"""The devices that share a batch."""

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh

TARGET_AXIS = "target"  # The mesh's only axis.


def device_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh | None:
    """Returns a mesh of this process's devices (or those given), None where there is but one."""
    devices = jax.local_devices() if devices is None else devices
    return Mesh(np.asarray(devices), (TARGET_AXIS,)) if len(devices) > 1 else None
