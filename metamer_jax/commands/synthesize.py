"""Synthesises metamers from the run's trained networks: metamers/ in the run folder.

  metamer-jax synthesize --workdir=runs/mine

All of a machine's devices are used. Several processes, on one machine or on several that share
the run folder, each take a part of the targets; `metamer-jax verify` joins what they
made. Training, verification and the report are one process each.

  metamer-jax synthesize --workdir=runs/mine --coordinator=host0:1234 \\
      --num_processes=2 --process_id=0     # and the same with --process_id=1
"""

from collections.abc import Sequence

import jax
from absl import flags

from metamer_jax import pipeline, runs
from metamer_jax.commands import settings

flags.adopt_module_key_flags(settings)

_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "Several processes: address of the first, host:port (jax.distributed)."
)
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "Several processes: how many share the targets."
)
_PROCESS_ID = flags.DEFINE_integer(
    "process_id", None, "Several processes: which this one is, from 0."
)
_LONGEST_WAIT_S = 7 * 24 * 3600


def main(argv: Sequence[str]) -> None:
    with settings.open_run(_shard, continues=True) as (run, recordings, stop):
        pipeline.synthesize_metamers(run, recordings, stop=stop)
    print(f"Metamers: {run.path('metamers').resolve()}")


def _shard() -> runs.Shard | None:
    """Joins the other processes where there are any, and returns which of them this one is.

    Raises:
        ValueError: The flags do not say it.
    """
    given = address, count, index = _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value
    if given == (None, None, None):
        return None
    if address is None or count is None or index is None:
        raise ValueError(
            "--coordinator, --num_processes and --process_id are given together, got "
            f"{', '.join(map(str, given))}"
        )
    shard = runs.Shard(index, count)
    # Off, since it would take SIGTERM, on which this process saves its own state and ends.
    jax.config.update("jax_enable_preemption_service", False)
    # The first process to finish waits for the others: none goes on without the coordinator.
    jax.distributed.initialize(address, count, index, shutdown_timeout_seconds=_LONGEST_WAIT_S)
    return shard
