"""The flags by which several processes divide the work of a run."""

from absl import flags

from metamer_jax import configs, runs
from metamer_jax.commands import drivers

flags.disclaim_key_flags()  # They are those of the command that adopts them.

_changed = drivers.setting_flags(
    configs.SharingConfig(),
    {name: name for name in configs.fields_of(configs.SharingConfig)},
    others=False,
)


def shard() -> runs.Shard | None:
    """Returns which of several processes this is; None: it is alone.

    Raises:
        ValueError: The flags do not say it.
    """
    return runs.shard_of(_changed(configs.SharingConfig()))
