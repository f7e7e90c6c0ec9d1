"""Room for compiled programs in a process that compiles many.

XLA maps the code of a program for CPUs into memory in hundreds to thousands of pieces. Linux grants
a process 65,530 maps (vm.max_map_count); when they are used up, after some sixty programs of ours,
XLA ends the process ("Unable to allocate section memory").
"""

import gc
import pathlib

import jax
from absl import logging

_MAPS, _LIMIT = pathlib.Path("/proc/self/maps"), pathlib.Path("/proc/sys/vm/max_map_count")
_SHARE = 0.5  # Of the limit: room for the largest program, several times over.


def make_room(share: float = _SHARE) -> bool:
    """Forgets compiled programs if they take more than this share of the process's memory maps.

    What is needed again is compiled again, or comes from the compilation cache on disk. Called
    where long work begins; elsewhere than on Linux, where there is no such limit, it does nothing.

    Args:
        share: In (0, 1].

    Returns:
        Whether programs were forgotten.
    """
    try:
        with _MAPS.open("rb") as lines:
            used = sum(1 for _ in lines)
        limit = int(_LIMIT.read_text("ascii"))
    except OSError:
        return False
    if used <= share * limit:
        return False
    jax.clear_caches()
    gc.collect()
    logging.info("forgot compiled programs: they took %d of %d memory maps", used, limit)
    return True
