"""How several processes divide the work of one run."""

import dataclasses

from metamer_jax.configs.checks import check_fields, require, setting


@dataclasses.dataclass(frozen=True)
class SharingConfig:
    """Which of several processes this one is: said outright, or found by `jax.distributed`."""

    share: str | None = setting(
        None,
        "Part of the work that this process does, I/N: number I, from 0, of N processes on one "
        "shared folder. 0/1 does everything, also where a cluster says that there are others.",
    )
    share_timeout: float = setting(
        3600.0, "Seconds to wait for other shares while none makes progress.", above=0
    )
    coordinator: str | None = setting(
        None, "Several processes: address of the first, host:port (jax.distributed)."
    )
    num_processes: int | None = setting(
        None, "Several processes with a coordinator: how many there are.", at_least=1
    )
    process_id: int | None = setting(
        None, "Several processes with a coordinator: which this one is, from 0.", at_least=0
    )

    def __post_init__(self):
        check_fields(self)
        given = self.coordinator, self.num_processes, self.process_id
        require(
            given.count(None) in (0, 3),
            "--coordinator, --num_processes and --process_id are given together, got "
            f"{', '.join(map(str, given))}",
        )
        require(
            self.share is None or given.count(None) == 3,
            f"--share={self.share} needs no coordinator: give one of the two",
        )
