"""Compiled programs: the same bits at every call, and room for many in one process.

XLA maps the code of a program for CPUs into memory in hundreds to thousands of pieces. Linux grants
a process 65,530 maps (vm.max_map_count); when they are used up, after some sixty programs of ours,
XLA ends the process ("Unable to allocate section memory").
"""

import functools
import gc
import pathlib
from collections.abc import Callable

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


def jit(function: Callable, **options) -> Callable:
    """`jax.jit` for the outermost function, whose results on a CPU are the same at every call.

    XLA divides the transforms of one FFT among threads, unless it comes upon it in one of these
    threads itself, which is a matter of timing; those at the end of a thread's share are rounded
    otherwise. Here an FFT is never divided. Several run side by side, so nothing is slower.

    Args:
        function: What to compile.
        **options: As of `jax.jit`.

    Returns:
        The compiled function; its attribute `on` is what `jax.jit` returned, by platform.
    """

    @functools.cache
    def compiled(platform):
        reproducible = {"xla_cpu_multi_thread_eigen": False} if platform == "cpu" else None
        return jax.jit(function, compiler_options=reproducible, **options)

    @functools.wraps(function)
    def call(*args, **kwargs):
        return compiled(jax.default_backend())(*args, **kwargs)

    call.on = compiled
    return call
