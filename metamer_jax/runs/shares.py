"""Several processes, one run: who does what, and how one waits for what others owe it.

Work is dealt in whole units, number i to share i modulo the number of shares, so that each unit is
what one process alone would make. Nothing passes between the processes but files of the run's
folder.
"""

import dataclasses
import logging
import pathlib
import re
import threading
import time
from collections.abc import Callable, Mapping

from metamer_jax.configs.sharing import SharingConfig
from metamer_jax.runs.stopping import EXIT_STOPPED

_POLL_S = 0.5, 5.0  # Between two looks: at first, and at most.
# Folders of a run that any progress changes: files are renamed into them.
_WORKED_IN = (
    *(".", "networks/*", "metamers/*/*", "metamers/*/*/wav", "verification/parts"),
    *("listeners/*", "listeners/*/networks/*", "cross_test", "runs/*"),
    *("runs/*/networks/*", "runs/*/metamers/*/*", "runs/*/verification"),
)
# JAX waits five minutes for the others to come and then aborts the process, without an exception.
_JOINING_S = 10.0
_log = logging.getLogger(__name__)


class ShareMissingError(RuntimeError):
    """Another share owes something and makes no progress."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """One process's part of a run that several work on at once, each writing its own files."""

    index: int = 0
    count: int = 1
    timeout_s: float = dataclasses.field(default=3600.0, compare=False)

    def __post_init__(self):
        if not 0 <= self.index < self.count:
            raise ValueError(
                f"index must lie in [0, count), got index={self.index}, count={self.count}"
            )

    def __str__(self) -> str:
        return f"share {self.index}/{self.count}"

    def owns(self, number: int) -> bool:
        """Says whether unit `number` of the work is this process's."""
        return number % self.count == self.index


def shard_of(config: SharingConfig) -> Shard | None:
    """Says which of several processes this is: as the settings say, else as JAX finds.

    A coordinator, the settings' or one that JAX finds (SLURM, Open MPI, GKE, TPU pods), tells the
    processes apart and is left at once: none depends on another's being alive.

    Args:
        config: The settings.

    Returns:
        The share, None where there is but this process.

    Raises:
        ValueError: `share` is no I/N with 0 <= I < N.
    """
    if config.share is not None:
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", config.share)
        if found is None or not int(found[1]) < int(found[2]):
            raise ValueError(
                f"share must be I/N with 0 <= I < N, got {config.share!r} (of an array job that "
                "begins at 1, I is its number less 1)"
            )
        index, count = int(found[1]), int(found[2])
    else:
        index, count = _found_by_jax(config)
    return Shard(index, count, config.share_timeout) if count > 1 else None


def _found_by_jax(config: SharingConfig) -> tuple[int, int]:
    import jax

    if not jax.distributed.is_initialized():
        # Off, since it would take SIGTERM, on which this process saves its own state and ends.
        jax.config.update("jax_enable_preemption_service", False)
        told = threading.Timer(
            _JOINING_S,
            _log.warning,
            ["waiting for the other processes that the flags or the cluster's variables name; a "
             "process that is alone takes --share=0/1"],
        )  # fmt: skip
        told.start()
        try:
            jax.distributed.initialize(config.coordinator, config.num_processes, config.process_id)
        except ValueError as error:
            if "coordinator_address should be defined" not in str(error):
                raise
            return 0, 1  # No cluster.
        finally:
            told.cancel()
        found = jax.process_index(), jax.process_count()
        jax.distributed.shutdown()
        return found
    return jax.process_index(), jax.process_count()


def wait(
    folder: pathlib.Path,
    shard: Shard,
    owed: Callable[[], Mapping[str, int]],
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Returns when nothing is owed any more; says once for whom it waits.

    Args:
        folder: Where the shares work: any change counts as progress.
        shard: The share that waits.
        owed: Function that says what is still missing, and the number of the share that makes it.
        stop: Function that says whether to end.

    Raises:
        ShareMissingError: Nothing has changed for the shard's `timeout_s`.
        SystemExit: `stop` said so.
    """
    told, before, since, pause = False, None, time.monotonic(), _POLL_S[0]
    while missing := owed():
        names = f"{next(iter(missing))}{f' and {len(missing) - 1} more' * (len(missing) > 1)}"
        whose = sorted({number % shard.count for number in missing.values()})
        shares = ", ".join(f"{number}/{shard.count}" for number in whose)
        if not told:
            _log.info("%s waits for share %s: %s", shard, shares, names)
            told = True
        if stop():
            _log.warning("ended as told; the state is saved, and the same command continues")
            raise SystemExit(EXIT_STOPPED)
        now = _looks(folder)
        if now != before:
            before, since = now, time.monotonic()
        if time.monotonic() - since > shard.timeout_s:
            raise ShareMissingError(
                f"{shard} waits for {names} of share {shares}, and nothing has changed in {folder} "
                f"for {shard.timeout_s:g} s: run share {shares} again, then this one"
            )
        time.sleep(min(pause, shard.timeout_s))
        pause = min(2 * pause, _POLL_S[1])


def _looks(folder: pathlib.Path) -> dict[str, int]:
    found = {}
    for pattern in _WORKED_IN:
        for path in folder.glob(pattern) if pattern != "." else (folder,):
            try:
                found[str(path)] = path.stat().st_mtime_ns
            except FileNotFoundError:  # Removed since it was listed.
                continue
    return found
