"""The flags by which several processes divide the work of a run."""

from collections.abc import Callable
from typing import TypeVar

from absl import flags

from metamer_jax import configs, runs
from metamer_jax.commands import drivers

T = TypeVar("T")

flags.disclaim_key_flags()  # They are those of the command that adopts them.

_changed = drivers.setting_flags(
    configs.SharingConfig(),
    {name: name for name in configs.fields_of(configs.SharingConfig)},
    others=False,
)


def begin(read_flags: Callable[[], T]) -> tuple[T, runs.Shard | None]:
    """Returns what the flags ask for, as `drivers.begin`, and which of several processes this is.

    Processes are told apart first: once anything was computed, JAX can no longer do it.

    Args:
        read_flags: Function that returns what the other flags ask for.

    Returns:
        What `read_flags` returns, and the share; None: the process is alone.

    Raises:
        ValueError: The flags do not say which process it is, or as `drivers.begin`.
    """

    def read_all():
        shard = runs.shard_of(_changed(configs.SharingConfig()))
        return read_flags(), shard

    return drivers.begin(read_all)
