"""Compiled programs: the same bits at every call, and room for many in one process.

XLA maps the code of a program for CPUs into memory in hundreds to thousands of pieces. Linux grants
a process 65,530 maps (vm.max_map_count); when they are used up, after some sixty programs of ours,
XLA ends the process ("Unable to allocate section memory").
"""

import functools
import gc
import pathlib
from collections.abc import Callable
from typing import Any

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


class Compiled:
    """A function that is compiled for the platform at hand when it is called."""

    def __init__(self, function: Callable, options: dict[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self._function, self._options = function, options
        self._programs: dict[str, Any] = {}

    def on(self, platform: str) -> Any:
        """What `jax.jit` makes of the function for a platform, to be lowered or called."""
        if platform not in self._programs:
            reproducible = {"xla_cpu_multi_thread_eigen": False} if platform == "cpu" else None
            self._programs[platform] = jax.jit(
                self._function, compiler_options=reproducible, **self._options
            )
        return self._programs[platform]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls what was compiled for JAX's default platform."""
        return self.on(jax.default_backend())(*args, **kwargs)


def jit(function: Callable, **options: Any) -> Compiled:
    """`jax.jit` for the outermost function, whose results on a CPU are the same at every call.

    XLA divides the transforms of one FFT among threads, unless it comes upon it in one of these
    threads itself, which is a matter of timing; those at the end of a thread's share are rounded
    otherwise. Here an FFT is never divided. Several run side by side, so nothing is slower.

    Args:
        function: What to compile.
        **options: As of `jax.jit`.

    Returns:
        The compiled function.
    """
    return Compiled(function, options)
