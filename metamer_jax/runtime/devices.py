"""The devices that share a batch, and how many sounds each takes."""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import Mesh

TARGET_AXIS = "target"  # The mesh's only axis.

# Sounds at once where nothing is asked for. On a CPU the subbands of 4 (full cochleagram) to 8
# sounds (networks) fit its caches, and more are slower. On an accelerator throughput is flat well
# before the largest batch.
_CPU_BATCH, _MAX_BATCH = 8, 256
_MEMORY_SHARE = 0.7  # Of a device's memory that a batch may take: allocation is never perfect.


def device_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh | None:
    """Returns a mesh of this process's devices (or those given), None where there is but one."""
    devices = jax.local_devices() if devices is None else devices
    return Mesh(np.asarray(devices), (TARGET_AXIS,)) if len(devices) > 1 else None


def batch_of_device(
    device: jax.Device, bytes_of_one: Callable[[], int], fixed: int = 0, width: int = 1
) -> tuple[int, str]:
    """Chooses how many examples a device takes at once.

    On a CPU what suits its caches, on an accelerator what fits its memory.

    Args:
        device: The device.
        bytes_of_one: Function that measures what an example takes of its memory; called where the
            memory is known.
        fixed: Bytes that any batch takes, such as weights.
        width: Number of sounds in an example.

    Returns:
        Number of examples, at least one, and why, in words.
    """
    stats = device.memory_stats() if device.platform != "cpu" else None
    if not stats or "bytes_limit" not in stats:
        return max(1, _CPU_BATCH // width), f"the default on {device.platform}"
    each, limit = bytes_of_one(), stats["bytes_limit"]
    size = max(1, min((int(_MEMORY_SHARE * limit) - fixed) // each, _MAX_BATCH // width))
    return size, f"{each / 2**20:.0f} MiB each of {limit / 2**30:.0f} GiB a device"
